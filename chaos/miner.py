"""Miners that record all they do, and do much that they should not.

`python -m chaos.miner HOST:PORT NAME HISTORY --streams N`: one process, N streams, each a miner of
its own. They answer a job with its prompt, their name and the lease, so that no two answers are
alike; send things twice, replay old results (those of a killed predecessor too), go on sending
results of leases that they were told they had lost, and send results under leases of others.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import uvloop

from aitbc.v1 import miners_pb2_grpc, work_pb2
from chaos.history import Acked, Assigned, Kept, Recorder, Sent, now, read

MODEL = "chaos"
# Sequence that says of a lease only that it is over.
_OVER = 2**53 - 1
_REQUESTED = work_pb2.CANCEL_REASON_REQUESTED

# Time that a job takes: most are quick, some are not.
_QUICK_S = 0.03
_RETRY_S = 0.3
_SLOW_S = 1.5
_SLOW = 0.03
# Shares of what happens to a job or a message.
_DELTA = 0.1
_RETRYABLE = 0.1
_UNRETRYABLE = 0.005
_TWICE = 0.02
_STALE = 0.5
# When a miner that failed a job thinks better of it, under its old lease or under another's.
# Often, to meet the moment at which the next miner has it.
_SECOND_THOUGHTS_S = tuple(0.2 + 0.05 * number for number in range(14))
# Old results that are sent again now and then.
_REPLAY_EVERY_S = 0.7
_REMEMBERED = 200


@dataclass(slots=True, eq=False)
class _Held:
    """A lease, and how it ended."""

    assignment: work_pb2.Assignment
    sequence: int = 0
    ending: work_pb2.Update | None = None


class Miner:
    """One miner over all its streams."""

    def __init__(self, miner_id: str, recorder: Recorder, rng: random.Random, window: int) -> None:
        self._miner_id = miner_id
        self._recorder = recorder
        self._rng = rng
        self._window = window
        self._held: dict[str, _Held] = {}
        self._past: deque[work_pb2.Update] = deque(maxlen=_REMEMBERED)
        self._outbox: list[work_pb2.Update] = []
        self._wake = asyncio.Event()

    def remember(self, sent: Iterable[Sent]) -> None:
        """Takes over what a killed predecessor sent, to send it again."""
        for one in sent:
            if one.miner_id == self._miner_id:
                self._past.append(_ending(one.lease_id, 0, one.result, one.is_retryable))

    async def run(self, coordinator: str) -> None:
        """Works for ever, one stream after the other."""
        asyncio.get_running_loop().call_later(_REPLAY_EVERY_S, self._replay)
        options = [("grpc.use_local_subchannel_pool", 1)]
        while True:
            async with grpc.aio.insecure_channel(coordinator, options=options) as channel:
                session = _Session(self, miners_pb2_grpc.MinerServiceStub(channel).Work())
                with suppress(grpc.aio.BaseError, asyncio.InvalidStateError):
                    await session.run()
            await asyncio.sleep(self._rng.uniform(0.05, 0.5))

    # What it says

    def hello(self) -> work_pb2.MinerMessage:
        """Names every lease that it holds."""
        held = [
            work_pb2.HeldLease(lease_id=lease_id, next_sequence=one.sequence)
            for lease_id, one in self._held.items()
        ]
        capacity = work_pb2.Capacity(max_outstanding_jobs=self._window)
        hello = work_pb2.Hello(
            miner_id=self._miner_id, models=[MODEL], capacity=capacity, held_leases=held
        )
        return work_pb2.MinerMessage(hello=hello)

    async def next_message(self, silence_s: float) -> work_pb2.MinerMessage:
        """Returns all news, as soon as there is any, or a heartbeat after the silence."""
        if not self._outbox:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(silence_s):
                    await self._wake.wait()
        updates, self._outbox = self._outbox, []
        if not updates:
            return work_pb2.MinerMessage(heartbeat=work_pb2.Heartbeat())
        if self._rng.random() < _TWICE:
            updates += updates
        self._recorder.record(*filter(None, map(self._sent, updates)))
        return work_pb2.MinerMessage(updates=work_pb2.Updates(updates=updates))

    def _sent(self, update: work_pb2.Update) -> Sent | None:
        if update.HasField("delta"):
            return None
        return Sent(
            at=now(),
            miner_id=self._miner_id,
            lease_id=update.lease_id,
            result=update.completion.result if update.HasField("completion") else None,
            is_retryable=update.failure.retryable,
        )

    def _say(self, *updates: work_pb2.Update) -> None:
        self._outbox.extend(updates)
        self._wake.set()

    # What it hears

    def welcomed(self, welcome: work_pb2.Welcome, asked_at: float) -> None:
        """Learns how its leases stand."""
        for lease_id in welcome.lost_lease_ids:
            self._lose(lease_id)
        kept = []
        for ack in welcome.acks:
            held = self._held.get(ack.lease_id)
            if ack.next_sequence == _OVER:
                self._held.pop(ack.lease_id, None)
            elif held is not None:
                kept.append(
                    Kept(
                        at=now(),
                        miner_id=self._miner_id,
                        lease_id=ack.lease_id,
                        asked_at=asked_at,
                    )
                )
                if held.ending is not None:
                    self._say(held.ending)
        if kept:
            self._recorder.record(*kept)

    def assigned(self, assignments: Iterable[work_pb2.Assignment]) -> None:
        """Begins jobs."""
        events = []
        for one in assignments:
            self._held[one.lease_id] = _Held(one)
            asyncio.get_running_loop().call_later(
                self._seconds(one.attempt), self._finish, one.lease_id
            )
            events.append(
                Assigned(
                    at=now(),
                    miner_id=self._miner_id,
                    job_id=one.job.job_id,
                    lease_id=one.lease_id,
                    attempt=one.attempt,
                )
            )
        self._recorder.record(*events)

    def acked(self, acks: Iterable[work_pb2.Ack]) -> None:
        """Lets go of what is stored."""
        events = []
        for ack in acks:
            held = self._held.get(ack.lease_id)
            if held is None or held.ending is None or ack.next_sequence <= held.ending.sequence:
                continue
            del self._held[ack.lease_id]
            self._past.append(held.ending)
            events.append(Acked(at=now(), miner_id=self._miner_id, lease_id=ack.lease_id))
        if events:
            self._recorder.record(*events)

    def cancelled(self, cancellations: Iterable[work_pb2.Cancellation]) -> None:
        """Stops jobs, or what it takes for stopping."""
        for one in cancellations:
            held = self._held.get(one.lease_id)
            if one.reason != _REQUESTED:
                self._lose(one.lease_id)
            elif held is not None and held.ending is None:
                self._end(held, _ending(one.lease_id, held.sequence, None, False))

    def _lose(self, lease_id: str) -> None:
        held = self._held.pop(lease_id, None)
        if held is not None and self._rng.random() < _STALE:
            update = held.ending or self._completion(held)
            self._past.append(update)
            self._say(update)

    # How it works

    def _seconds(self, attempt: int) -> float:
        if self._rng.random() < _SLOW:
            return _SLOW_S
        # A retry is slower: time for its former miner to interfere.
        return self._rng.expovariate(1 / (_QUICK_S if attempt == 1 else _RETRY_S))

    def _finish(self, lease_id: str) -> None:
        held = self._held.get(lease_id)
        if held is None or held.ending is not None:
            return
        if self._rng.random() < _DELTA:
            delta = work_pb2.Delta(text=held.assignment.job.prompt, tokens=1)
            self._say(work_pb2.Update(lease_id=lease_id, sequence=held.sequence, delta=delta))
            held.sequence += 1
        chance = self._rng.random()
        if chance < _RETRYABLE + _UNRETRYABLE:
            is_retryable = chance < _RETRYABLE
            self._end(held, _ending(lease_id, held.sequence, None, is_retryable))
            for seconds in _SECOND_THOUGHTS_S:
                asyncio.get_running_loop().call_later(seconds, self._think_again, held)
        else:
            self._end(held, self._completion(held))

    def _completion(self, held: _Held) -> work_pb2.Update:
        lease_id, prompt = held.assignment.lease_id, held.assignment.job.prompt
        result = f"{prompt} by {self._miner_id} under {lease_id}"
        return _ending(lease_id, held.sequence, result, True)

    def _end(self, held: _Held, update: work_pb2.Update) -> None:
        held.ending = update
        held.sequence += 1
        self._say(update)

    def _think_again(self, held: _Held) -> None:
        lease_id, attempt = held.assignment.lease_id, held.assignment.attempt
        next_lease = f"{lease_id.removesuffix(f'-{attempt}')}-{attempt + 1}"
        result = f"{held.assignment.job.prompt} by {self._miner_id} after all"
        sequence = held.sequence
        self._say(*(_ending(one, sequence, result, True) for one in (lease_id, next_lease)))

    def _replay(self) -> None:
        asyncio.get_running_loop().call_later(_REPLAY_EVERY_S, self._replay)
        self._say(*self._rng.sample(self._past, min(3, len(self._past))))


class _Session:
    """One stream: a reader and a writer, neither ever cancelled while it reads or writes."""

    def __init__(
        self,
        miner: Miner,
        call: grpc.aio.StreamStreamCall[work_pb2.MinerMessage, work_pb2.CoordinatorMessage],
    ) -> None:
        self._miner = miner
        self._call = call
        self._loop = asyncio.get_running_loop()
        # As in any miner: heard nothing for this long means that nobody is there.
        self._patience_s = 5.0
        self._silence = self._loop.call_later(self._patience_s, call.cancel)
        self._is_over = False

    async def run(self) -> None:
        try:
            asked_at = now()
            await self._call.write(self._miner.hello())
            first = await self._read()
            if first is None:
                return
            lease_s = first.welcome.lease_duration.ToTimedelta().total_seconds()
            beat_s = first.welcome.heartbeat_interval.ToTimedelta().total_seconds()
            self._patience_s = max(lease_s, 3 * beat_s)
            self._miner.welcomed(first.welcome, asked_at)
            writer = asyncio.create_task(self._write(beat_s / 2))
            try:
                while (message := await self._read()) is not None:
                    self._hear(message)
            finally:
                self._is_over = True
                self._call.cancel()
                await asyncio.wait([writer])
                writer.cancelled() or writer.exception()
        finally:
            self._silence.cancel()
            self._call.cancel()

    async def _read(self) -> work_pb2.CoordinatorMessage | None:
        message = await self._call.read()
        self._silence.cancel()
        self._silence = self._loop.call_later(self._patience_s, self._call.cancel)
        return message if isinstance(message, work_pb2.CoordinatorMessage) else None

    async def _write(self, silence_s: float) -> None:
        while not self._is_over:
            message = await self._miner.next_message(silence_s)
            if not self._is_over:
                await self._call.write(message)

    def _hear(self, message: work_pb2.CoordinatorMessage) -> None:
        kind = message.WhichOneof("message")
        if kind == "assignments":
            self._miner.assigned(message.assignments.assignments)
        elif kind == "acks":
            self._miner.acked(message.acks.acks)
        elif kind == "cancellations":
            self._miner.cancelled(message.cancellations.cancellations)


def _ending(
    lease_id: str, sequence: int, result: str | None, is_retryable: bool
) -> work_pb2.Update:
    if result is None:
        failure = work_pb2.Failure(code="CHAOS", message="as planned", retryable=is_retryable)
        return work_pb2.Update(lease_id=lease_id, sequence=sequence, failure=failure)
    completion = work_pb2.Completion(result=result, finish_reason="stop")
    return work_pb2.Update(lease_id=lease_id, sequence=sequence, completion=completion)


async def _run(arguments: argparse.Namespace) -> None:
    before = [event for event in _history(arguments.history) if isinstance(event, Sent)]
    recorder = Recorder(arguments.history)
    async with asyncio.TaskGroup() as group:
        for number in range(arguments.streams):
            miner_id = f"{arguments.name}-{number}"
            rng = random.Random(f"{arguments.seed} {miner_id}")
            miner = Miner(miner_id, recorder, rng, arguments.window)
            miner.remember(before)
            group.create_task(miner.run(arguments.coordinator))


def _history(path: Path) -> list[object]:
    return list(read([path])) if path.exists() else []


def main() -> None:
    """Runs until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("coordinator")
    parser.add_argument("name")
    parser.add_argument("history", type=Path)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--seed", default="0")
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
