"""A miner that does exactly what a test tells it, over a real Work stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import grpc

from aitbc.v1 import jobs_pb2, miners_pb2_grpc, work_pb2

DEADLINE_S = 30


class StreamMiner:
    """Holds the stream, remembers its leases, and counts the most it ever held at once."""

    def __init__(
        self, call: grpc.aio.StreamStreamCall[work_pb2.MinerMessage, work_pb2.CoordinatorMessage]
    ) -> None:
        self._call = call
        self.held: dict[str, work_pb2.Assignment] = {}
        self.most_held = 0
        self.cancelled: asyncio.Queue[work_pb2.Cancellation] = asyncio.Queue()
        self._assigned: asyncio.Queue[work_pb2.Assignment] = asyncio.Queue()
        # gRPC takes one write at a time.
        self._writing = asyncio.Lock()

    async def assignment(self) -> work_pb2.Assignment:
        """Returns the next assignment, which then is running."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._assigned.get()

    async def say_more(self, assignment: work_pb2.Assignment, sequence: int, text: str) -> None:
        """Sends more of an answer."""
        delta = work_pb2.Delta(text=text, tokens=1)
        update = work_pb2.Update(lease_id=assignment.lease_id, sequence=sequence, delta=delta)
        await self.say(work_pb2.MinerMessage(updates=work_pb2.Updates(updates=[update])))

    async def complete(self, assignments: Iterable[work_pb2.Assignment]) -> None:
        """Delivers a result for each, in one message."""
        updates = []
        for one in assignments:
            # Given up before the write: the coordinator may refill the window as soon as it reads.
            del self.held[one.lease_id]
            result = work_pb2.Completion(
                result=one.job.prompt or "done",
                usage=jobs_pb2.Usage(prompt_tokens=1, completion_tokens=1),
                finish_reason="stop",
            )
            updates.append(work_pb2.Update(lease_id=one.lease_id, completion=result))
        await self.say(work_pb2.MinerMessage(updates=work_pb2.Updates(updates=updates)))

    async def answer(
        self, assignment: work_pb2.Assignment, completion: work_pb2.Completion, sequence: int = 0
    ) -> None:
        """Delivers this result, after so many updates."""
        del self.held[assignment.lease_id]
        update = work_pb2.Update(
            lease_id=assignment.lease_id, sequence=sequence, completion=completion
        )
        await self.say(work_pb2.MinerMessage(updates=work_pb2.Updates(updates=[update])))

    async def fail(self, assignment: work_pb2.Assignment, failure: work_pb2.Failure) -> None:
        """Says that an attempt gave no answer."""
        del self.held[assignment.lease_id]
        update = work_pb2.Update(lease_id=assignment.lease_id, failure=failure)
        await self.say(work_pb2.MinerMessage(updates=work_pb2.Updates(updates=[update])))

    async def read_for_ever(self) -> None:
        """Takes in what the coordinator says until the stream ends."""
        while isinstance(message := await self._call.read(), work_pb2.CoordinatorMessage):
            for assignment in message.assignments.assignments:
                self.held[assignment.lease_id] = assignment
                self.most_held = max(self.most_held, len(self.held))
                self._assigned.put_nowait(assignment)
            for cancellation in message.cancellations.cancellations:
                self.cancelled.put_nowait(cancellation)
            if message.HasField("heartbeat"):
                await self.say(work_pb2.MinerMessage(heartbeat=work_pb2.Heartbeat()))

    async def say(self, message: work_pb2.MinerMessage) -> None:
        """Sends a message."""
        async with self._writing:
            await self._call.write(message)


@asynccontextmanager
async def stream_miner(
    address: str,
    model: str,
    *,
    window: int,
    miner_id: str = "stream-miner",
    tasks: Iterable[jobs_pb2.JobTask.ValueType] = (),
) -> AsyncIterator[StreamMiner]:
    """Gives a miner that was welcomed."""
    hello = work_pb2.Hello(
        miner_id=miner_id,
        models=[model],
        capacity=work_pb2.Capacity(max_outstanding_jobs=window),
        model_infos=[work_pb2.ModelInfo(model=model, tasks=tasks)],
    )
    async with grpc.aio.insecure_channel(address) as channel:
        call = miners_pb2_grpc.MinerServiceStub(channel).Work()
        await call.write(work_pb2.MinerMessage(hello=hello))
        welcome = await call.read()
        assert isinstance(welcome, work_pb2.CoordinatorMessage)
        assert welcome.HasField("welcome")
        miner = StreamMiner(call)
        reader = asyncio.create_task(miner.read_for_ever())
        try:
            yield miner
        finally:
            reader.cancel()
            call.cancel()
            await asyncio.wait([reader])
            if not reader.cancelled():
                reader.result()
