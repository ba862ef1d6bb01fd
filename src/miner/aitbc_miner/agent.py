"""Holds the leases and runs their jobs. Outlives the sessions with the coordinator.

The agent is told what the coordinator said and asked what to say; it does no I/O itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import structlog

from aitbc.v1.jobs_pb2 import (
    RESPONSE_FORMAT_TYPE_JSON_OBJECT,
    RESPONSE_FORMAT_TYPE_JSON_SCHEMA,
    ChatMessage,
    TokenLogprob,
)
from aitbc.v1.jobs_pb2 import Job as JobMessage
from aitbc.v1.work_pb2 import (
    CANCEL_REASON_REQUESTED,
    CANCEL_REASON_SIGNATURE_REFUSED,
    Ack,
    Assignment,
    Cancellation,
    Capacity,
    CoordinatorMessage,
    GpuInfo,
    Heartbeat,
    HeldLease,
    Hello,
    Load,
    MinerMessage,
    Update,
    Updates,
    Welcome,
)
from aitbc_miner._aio import Alarm
from aitbc_miner.engines.base import Chunk, Engine, Job, Logprob, Message, Params, Resume, Tool
from aitbc_miner.errors import EngineDead, EngineError, EngineFailed
from aitbc_miner.lease import Lease
from aitbc_miner.outbox import Outbox
from aitbc_miner.signing import Signer

log = structlog.get_logger()

# Schema of a tool without one.
_NO_ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}
# How often news say how busy the miner is.
_LOAD_INTERVAL_S = 2.0


class Agent:
    """Answers assignments with its engines and keeps every result until it is acknowledged."""

    def __init__(
        self,
        *,
        miner_id: str,
        engines: Sequence[Engine],
        slots: int,
        gpu_info: GpuInfo,
        version: str,
        clock: Callable[[], float],
        signer: Signer | None = None,
        parents: Mapping[str, str] | None = None,
    ) -> None:
        """Without a signer, results are not signed.

        `parents`: of the models that are adapters, the model that each changes.
        """
        # Rings when there may be something to say.
        self.alarm = Alarm()
        # Set while it holds no lease.
        self.idle = asyncio.Event()
        self.idle.set()
        # Set when an engine died: its jobs failed, and none of it can be taken any more.
        self.engine_died = asyncio.Event()
        self.slots = slots
        self._engines = {model: engine for engine in engines for model in engine.models}
        self._identity = Hello(
            miner_id=miner_id,
            models=list(self._engines),
            gpu_info=gpu_info,
            agent_version=version,
            public_key=signer.public_key if signer else b"",
            process_id=secrets.token_hex(8),
            parents=parents,
        )
        self._signer = signer
        self._capacity = slots
        self._told_capacity = slots
        self._leases: dict[str, Lease] = {}
        self._outbox = Outbox(self.alarm, clock)
        self._clock = clock
        # When news are told with how busy the miner is.
        self._load_due_at = float("-inf")

    @property
    def miner_id(self) -> str:
        """Under which the coordinator knows it."""
        return self._identity.miner_id

    @property
    def models(self) -> list[str]:
        """Names of the models it serves."""
        return list(self._engines)

    # What it says.

    def hello(self) -> MinerMessage:
        """Begins a session: names every lease that it holds."""
        hello = Hello()
        hello.CopyFrom(self._identity)
        hello.capacity.max_outstanding_jobs = self._told_capacity = self._capacity
        hello.held_leases.extend(
            HeldLease(lease_id=lease.lease_id, next_sequence=lease.next_sequence)
            for lease in self._leases.values()
        )
        return MinerMessage(hello=hello)

    def next_message(self) -> MinerMessage | None:
        """Returns what is due to be said, if anything is."""
        if self._told_capacity != self._capacity:
            self._told_capacity = self._capacity
            return MinerMessage(capacity=Capacity(max_outstanding_jobs=self._capacity))
        updates = self._outbox.take()
        if not updates:
            return None
        news = self._signed(updates)
        if self._clock() >= self._load_due_at:
            news.load.CopyFrom(self._load())
        return MinerMessage(updates=news)

    def _signed(self, updates: list[Update]) -> Updates:
        results = [
            (self._leases[update.lease_id].job_id, update.lease_id, update.completion)
            for update in updates
            if update.HasField("completion")
        ]
        signature = self._signer.sign(results) if self._signer and results else b""
        return Updates(updates=updates, signature=signature)

    def heartbeat(self) -> MinerMessage:
        """Returns what is said when there is nothing to say."""
        return MinerMessage(heartbeat=Heartbeat(load=self._load()))

    def _load(self) -> Load:
        self._load_due_at = self._clock() + _LOAD_INTERVAL_S
        load = Load()
        for engine in {id(engine): engine for engine in self._engines.values()}.values():
            try:
                reported = engine.load()
            except EngineDead as error:
                self._bury(engine, error)
                continue
            if reported.waiting_jobs is not None:
                load.waiting_jobs += reported.waiting_jobs
            if reported.kv_cache_usage is not None:
                load.kv_cache_usage = max(load.kv_cache_usage, reported.kv_cache_usage)
        unfinished = sum(not lease.is_ended for lease in self._leases.values())
        load.running_jobs = max(0, unfinished - load.waiting_jobs)
        return load

    # What it hears.

    def welcome(self, welcome: Welcome) -> None:
        """Learns how its leases stand: drops lost ones, tells again what was not stored."""
        for lease_id in welcome.lost_lease_ids:
            self._drop(lease_id)
        for ack in welcome.acks:
            lease = self._leases.get(ack.lease_id)
            if lease is None:
                continue
            if lease.is_settled_by(ack.next_sequence):
                self._drop(ack.lease_id)
            elif lease.rewind(ack.next_sequence):
                self._outbox.put(lease, urgent=True)

    def hear(self, message: CoordinatorMessage) -> None:
        """Takes in work, acknowledgements and cancellations."""
        kind = message.WhichOneof("message")
        if kind == "assignments":
            self._assign(message.assignments.assignments)
        elif kind == "acks":
            self._settle(message.acks.acks)
        elif kind == "cancellations":
            for cancellation in message.cancellations.cancellations:
                self._cancel(cancellation)

    def _assign(self, assignments: Iterable[Assignment]) -> None:
        self.idle.clear()
        for assignment in assignments:
            lease_id, job = assignment.lease_id, _job(assignment)
            if lease_id in self._leases:
                continue  # a repetition
            engine = self._engines.get(job.model)
            if engine is not None and job.resume is not None and not engine.can_resume(job):
                job = replace(job, resume=None)
            lease = Lease(lease_id, engine, job.resume, job_id=assignment.job.job_id)
            self._leases[lease_id] = lease
            if engine is None:
                self._fail(lease, "MODEL_NOT_SERVED", f"this miner does not serve {job.model}")
            elif len(self._leases) > self.slots:
                self._fail(lease, "OVER_CAPACITY", f"this miner takes {self.slots} jobs at once")
            else:
                self._start(lease, engine, job)

    def _settle(self, acks: Iterable[Ack]) -> None:
        for ack in acks:
            lease = self._leases.get(ack.lease_id)
            if lease is not None and lease.is_settled_by(ack.next_sequence):
                self._drop(ack.lease_id)

    def _cancel(self, cancellation: Cancellation) -> None:
        lease = self._leases.get(cancellation.lease_id)
        if lease is None:
            return
        if cancellation.reason == CANCEL_REASON_SIGNATURE_REFUSED:
            log.error("result.signature_refused", lease_id=cancellation.lease_id)
        if cancellation.reason != CANCEL_REASON_REQUESTED:
            self._drop(cancellation.lease_id)
        elif not lease.is_ended:  # an answer that is complete wins
            _stop(lease)
            self._fail(lease, "CANCELLED", "the job was cancelled", retryable=False)

    def _drop(self, lease_id: str) -> None:
        """Forgets a lease, whatever became of it."""
        lease = self._leases.pop(lease_id, None)
        if lease is not None:
            _stop(lease)
            self._outbox.discard(lease)
        if not self._leases:
            self.idle.set()

    # How it ends.

    def drain(self) -> None:
        """Takes nothing new from now on."""
        self._capacity = 0
        self.alarm.ring()

    def hand_back(self) -> int:
        """Fails every job that still runs, for another attempt; returns how many they were."""
        self.drain()
        unfinished = [lease for lease in self._leases.values() if not lease.is_ended]
        for lease in unfinished:
            _stop(lease)
            self._fail(lease, "MINER_STOPPED", "the miner was stopped")
        return len(unfinished)

    def _bury(self, engine: Engine, error: EngineDead) -> None:
        """Fails every job of a dead engine."""
        log.error("engine.died", error=str(error))
        for lease in self._leases.values():
            if lease.engine is engine and not lease.is_ended:
                _stop(lease)
                self._fail(lease, error.reason, str(error))
        self.engine_died.set()

    # How it runs a job.

    def _start(self, lease: Lease, engine: Engine, job: Job) -> None:
        with self._engine_errors(lease):
            answer = engine.generate(job)
            if isinstance(answer, Chunk):
                # A task costs as much as all the rest of a job: none without need.
                lease.add(answer)
                self._complete(lease)
            else:
                lease.task = asyncio.create_task(self._listen(lease, answer))

    async def _listen(self, lease: Lease, answer: AsyncGenerator[Chunk, None]) -> None:
        """Passes an answer on, chunk by chunk."""
        with self._engine_errors(lease):
            async with contextlib.aclosing(answer) as chunks:
                async for chunk in chunks:
                    lease.add(chunk)
                    if not lease.is_answered:
                        self._outbox.put(lease, urgent=lease.is_untold)
            self._complete(lease)

    @contextlib.contextmanager
    def _engine_errors(self, lease: Lease) -> Iterator[None]:
        """Turns what an engine raises into the lease's failure."""
        try:
            yield
        except EngineDead as error:
            assert lease.engine is not None  # noqa: S101 - it raised the error
            self._bury(lease.engine, error)
        except EngineError as error:
            self._fail(lease, error.reason, str(error), retryable=error.is_retryable)
        except Exception as error:
            # Neither the text nor the trace: both may hold a part of the prompt.
            log.error(
                "engine.unexpected_error", lease_id=lease.lease_id, error=type(error).__name__
            )
            self._fail(lease, EngineFailed.reason, f"the engine failed: {type(error).__name__}")

    def _complete(self, lease: Lease) -> None:
        if not lease.is_answered:
            raise EngineFailed("the engine stopped before the end of the answer")
        lease.complete()
        self._outbox.put(lease, urgent=True)

    def _fail(self, lease: Lease, code: str, message: str, *, retryable: bool = True) -> None:
        if lease.is_ended or lease.lease_id not in self._leases:
            return  # an engine complains of having been stopped
        lease.fail(code, message, retryable=retryable)
        self._outbox.put(lease, urgent=True)


def _stop(lease: Lease) -> None:
    """Aborts the generation, unless it is the very task that asks."""
    if lease.task is not None and lease.task is not asyncio.current_task():
        lease.task.cancel()


def _job(assignment: Assignment) -> Job:
    job, resume = assignment.job, assignment.resume
    return Job(
        request_id=assignment.lease_id,
        model=job.model,
        prompt=job.prompt if job.HasField("prompt") else None,
        messages=tuple(_message(message) for message in job.messages),
        params=_params(job),
        is_raw=job.raw_prompt,
        json_schema=_json_schema(job),
        tools=tuple(
            Tool(
                tool.name,
                tool.description,
                json.loads(tool.parameters) if tool.parameters else dict(_NO_ARGUMENTS),
                tool.strict,
            )
            for tool in job.tools
        ),
        tool_choice=job.tool_choice or "auto",
        is_parallel=job.parallel_tool_calls or not job.HasField("parallel_tool_calls"),
        resume=(
            Resume(resume.text, resume.tokens, tuple(map(_logprob, resume.logprobs)))
            if resume.text
            else None
        ),
    )


def _logprob(one: TokenLogprob) -> Logprob:
    return Logprob(one.token, one.logprob, tuple(map(_logprob, one.top)))


def _message(message: ChatMessage) -> Message:
    turn = Message(role=message.role, content=message.content)
    if message.name:
        turn["name"] = message.name
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return turn


def _json_schema(job: JobMessage) -> dict[str, Any] | None:
    """Returns the schema that the answer is held to; an empty one where any object will do."""
    form = job.response_format
    if form.type == RESPONSE_FORMAT_TYPE_JSON_SCHEMA:
        schema: dict[str, Any] = json.loads(form.json_schema)
        return schema
    return {} if form.type == RESPONSE_FORMAT_TYPE_JSON_OBJECT else None


def _params(job: JobMessage) -> Params:
    """Returns the parameters that are set, and only them."""
    params = {field.name: value for field, value in job.params.ListFields()}
    if "stop" in params:
        params["stop"] = list(params["stop"])
    return cast("Params", params)
