"""Holds the leases and runs their jobs. Outlives the sessions with the coordinator.

The agent is told what the coordinator said and asked what to say; it does no I/O itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import structlog

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
from aitbc_miner.assignment import model_info, read_job
from aitbc_miner.breaker import Breaker
from aitbc_miner.channel import MAX_MESSAGE_BYTES
from aitbc_miner.engines.base import Chunk, Engine, Job
from aitbc_miner.engines.border import Border, encodable
from aitbc_miner.engines.task_border import checked
from aitbc_miner.engines.tasks import Task
from aitbc_miner.errors import (
    BadRequest,
    EngineAnswerInvalid,
    EngineBusy,
    EngineDead,
    EngineError,
    EngineFailed,
    EngineUnusable,
    Fault,
)
from aitbc_miner.lease import Lease
from aitbc_miner.loads import load_of
from aitbc_miner.outbox import DEFAULT_MESSAGE_BYTES, Outbox
from aitbc_miner.signing import Signer

log = structlog.get_logger()

# How often news say how busy the miner is.
_LOAD_INTERVAL_S = 2.0
# Characters told of a failure.
_MOST_MESSAGE = 1024
# Updates that a coordinator may be ahead of what it was ever sent.
_MOST_AHEAD = 100_000


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
            endorsement=signer.endorsement if signer else b"",
            max_message_bytes=MAX_MESSAGE_BYTES,
            process_id=secrets.token_hex(8),
            parents=parents,
            model_infos=[
                model_info(model, one.describe(model)) for model, one in self._engines.items()
            ],
        )
        self._signer = signer
        self._capacity = slots
        self._is_capacity_told = True
        self._breaker = Breaker(clock)
        self._leases: dict[str, Lease] = {}
        self._outbox = Outbox(self.alarm, clock, self._unsendable)
        # Of an answer.
        self._most_bytes = self._outbox.most_bytes
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

    def hello(self, nonce: str = "") -> MinerMessage:
        """Begins a session: names every lease that it holds, and proves its key with the nonce."""
        # What was not sent is told again, from where the coordinator asks.
        self._outbox.forget_carried()
        hello = Hello()
        hello.CopyFrom(self._identity)
        if nonce and self._signer is not None:
            hello.proof = self._signer.prove(nonce)
        hello.capacity.CopyFrom(self._told_capacity())
        hello.held_leases.extend(
            HeldLease(lease_id=lease.lease_id, next_sequence=lease.next_sequence)
            for lease in self._leases.values()
        )
        return MinerMessage(hello=hello)

    def next_message(self) -> MinerMessage | None:
        """Returns what is due to be said, if anything is."""
        if not self._is_capacity_told:
            return MinerMessage(capacity=self._told_capacity())
        updates = self._outbox.take()
        if not updates:
            return None
        news = self._signed(updates)
        if self._clock() >= self._load_due_at:
            news.load.CopyFrom(self._load())
        return MinerMessage(updates=news)

    def _told_capacity(self) -> Capacity:
        self._is_capacity_told = True
        return Capacity(max_outstanding_jobs=self._capacity, pauses=self._breaker.pauses())

    def _change_capacity(self) -> None:
        self._is_capacity_told = False
        self.alarm.ring()

    def _signed(self, updates: list[Update]) -> Updates:
        results = [
            (self._leases[update.lease_id].job_id, update.lease_id, update.completion)
            for update in updates
            if update.HasField("completion")
        ]
        if self._signer is None or not results:
            return Updates(updates=updates)
        signature = self._signer.sign(results)
        return Updates(updates=updates, signature=signature, statement_version=self._signer.version)

    def heartbeat(self) -> MinerMessage:
        """Returns what is said when there is nothing to say."""
        return MinerMessage(heartbeat=Heartbeat(load=self._load()))

    def _load(self) -> Load:
        self._load_due_at = self._clock() + _LOAD_INTERVAL_S
        # One engine serves several models.
        engines = {id(engine): engine for engine in self._engines.values()}.values()
        load = load_of(engines, self._bury)
        load.running_jobs = max(0, self._unfinished() - load.waiting_jobs)
        return load

    def _unfinished(self) -> int:
        return sum(not lease.is_ended for lease in self._leases.values())

    # What it hears.

    def welcome(self, welcome: Welcome) -> None:
        """Learns how its leases stand: drops lost ones, tells again what was not stored."""
        self._outbox.most_bytes = welcome.max_message_bytes or DEFAULT_MESSAGE_BYTES
        self._most_bytes = welcome.max_result_bytes or self._outbox.most_bytes
        if self._signer is not None:
            self._signer.agree(welcome.statement_version)
        for lease_id in welcome.lost_lease_ids:
            self._drop(lease_id)
        for ack in welcome.acks:
            lease = self._leases.get(ack.lease_id)
            if lease is None:
                continue
            if not 0 <= ack.next_sequence <= lease.next_sequence + _MOST_AHEAD:
                log.error("session.wrong_sequence", lease_id=ack.lease_id)
                self._drop(ack.lease_id)
            elif lease.is_settled_by(ack.next_sequence):
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
        for assignment in assignments:
            lease_id = assignment.lease_id
            if not lease_id:
                log.error("assignment.nameless", job_id=assignment.job.job_id)
            elif lease_id not in self._leases:  # else a repetition
                self.idle.clear()
                self._begin(assignment)

    def _begin(self, assignment: Assignment) -> None:
        lease_id, job_id = assignment.lease_id, assignment.job.job_id
        try:
            job = read_job(assignment)
            engine = self._engines.get(job.model)
            if engine is None:
                message = f"this miner does not serve {job.model}"
                raise EngineUnusable(message, reason="MODEL_NOT_SERVED")
        except Exception as error:
            lease = self._leases[lease_id] = Lease(lease_id, job_id=job_id)
            if not isinstance(error, EngineError):
                error = BadRequest(f"the job cannot be read: {type(error).__name__}")
            self._end(lease, error)
            return
        if job.resume is not None and not _can_resume(engine, job):
            job = replace(job, resume=None)
        lease = self._leases[lease_id] = Lease(lease_id, engine, job.resume, job_id=job_id)
        if len(self._leases) > self.slots and self._unfinished() > self.slots:
            message = f"this miner takes {self.slots} jobs at once"
            self._end(lease, EngineBusy(message, reason="OVER_CAPACITY"))
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
            lease.stop()
            self._fail(lease, "CANCELLED", "the job was cancelled", None)

    def _drop(self, lease_id: str) -> None:
        """Forgets a lease, whatever became of it."""
        lease = self._leases.pop(lease_id, None)
        if lease is not None:
            lease.stop()
            self._outbox.discard(lease)
        if not self._leases:
            self.idle.set()

    # How it ends.

    def drain(self) -> None:
        """Takes nothing new from now on."""
        if self._capacity:
            self._capacity = 0
            self._change_capacity()

    def hand_back(self) -> int:
        """Fails every job that still runs, for another attempt; returns how many they were."""
        self.drain()
        unfinished = [lease for lease in self._leases.values() if not lease.is_ended]
        for lease in unfinished:
            lease.stop()
            self._fail(lease, "MINER_STOPPED", "the miner was stopped", Fault.PASSING)
        return len(unfinished)

    def _bury(self, engine: Engine, error: EngineDead) -> None:
        """Fails every job of a dead engine."""
        log.error("engine.died", error=str(error))
        for lease in self._leases.values():
            if lease.engine is engine and not lease.is_ended:
                lease.stop()
                self._fail(lease, error.reason, str(error), error.fault)
        self.engine_died.set()

    # How it runs a job.

    def _start(self, lease: Lease, engine: Engine, job: Job) -> None:
        if job.task is not Task.GENERATE:
            lease.task = asyncio.create_task(self._perform(lease, engine, job))
            return
        with self._guard(lease, job.model):
            answer = engine.generate(job)
            if isinstance(answer, Chunk):
                # A task costs as much as all the rest of a job: none without need.
                chunk = Border(job, self._most_bytes).pass_in(answer)
                if chunk is not None:
                    lease.add(chunk)
                self._complete(lease, job.model)
            else:
                lease.task = asyncio.create_task(self._listen(lease, job, answer))

    async def _perform(self, lease: Lease, engine: Engine, job: Job) -> None:
        """Does what a job asks that asks not to generate."""
        with self._guard(lease, job.model):
            lease.deliver(checked(job, await engine.perform(job), self._most_bytes))
            self._tell_result(lease, job.model)

    async def _listen(self, lease: Lease, job: Job, answer: AsyncGenerator[Chunk, None]) -> None:
        """Passes an answer on, chunk by chunk."""
        with self._guard(lease, job.model):
            border = Border(job, self._most_bytes)
            async with contextlib.aclosing(answer) as chunks:
                async for said in chunks:
                    chunk = border.pass_in(said)
                    if chunk is None:
                        continue
                    lease.add(chunk)
                    if not lease.is_answered:
                        self._outbox.put(lease, urgent=lease.is_untold)
            self._complete(lease, job.model)

    @contextlib.contextmanager
    def _guard(self, lease: Lease, model: str) -> Iterator[None]:
        """Ends the lease, and nothing else, with whatever is raised while its job is done."""
        try:
            yield
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._end(lease, error, model)  # of the engine's own
        except BaseException as error:
            self._end(lease, error, model)

    def _end(self, lease: Lease, error: BaseException, model: str = "") -> None:
        """Turns an error into the lease's failure; a fault of the miner's holds the model back."""
        if isinstance(error, EngineDead) and lease.engine is not None:
            self._bury(lease.engine, error)
            return
        if not isinstance(error, EngineError):
            # Neither the text nor the trace: both may hold a part of the prompt.
            kind = type(error).__name__
            log.error("engine.unexpected_error", lease_id=lease.lease_id, error=kind)
            error = EngineFailed(f"the engine failed: {kind}")
        if error.fault is Fault.MINER and model and self._breaker.open(model, error):
            self._change_capacity()
        self._fail(lease, error.reason, str(error), error.fault, error.retry_after_s)

    def _complete(self, lease: Lease, model: str) -> None:
        if not lease.is_answered:
            raise EngineFailed("the engine stopped before the end of the answer")
        lease.complete()
        self._tell_result(lease, model)

    def _tell_result(self, lease: Lease, model: str) -> None:
        self._outbox.put(lease, urgent=True)
        if self._breaker.close(model):
            self._change_capacity()

    def _unsendable(self, lease: Lease, error: Exception) -> None:
        """Ends a lease whose news cannot be put into a message."""
        log.error("lease.unsendable", lease_id=lease.lease_id, error=type(error).__name__)
        lease.stop()
        if not isinstance(error, EngineError):
            error = EngineAnswerInvalid("the answer cannot be put into a message")
        lease.fail(error.reason, str(error), fault=error.fault)

    def _fail(
        self,
        lease: Lease,
        code: str,
        message: str,
        fault: Fault | None,
        retry_after_s: float | None = None,
    ) -> None:
        if lease.is_ended or lease.lease_id not in self._leases:
            return  # an engine complains of having been stopped
        told = encodable(message[:_MOST_MESSAGE])
        lease.fail(code, told, fault=fault, retry_after_s=retry_after_s)
        self._outbox.put(lease, urgent=True)


def _can_resume(engine: Engine, job: Job) -> bool:
    try:
        return engine.can_resume(job)
    except Exception as error:
        log.error("engine.cannot_resume", error=type(error).__name__)
        return False
