"""One session on its Work stream: a reader and a writer.

The two meet in the session's outbox: the reader gives what arrives to the dispatcher, which puts
what is to be said into the outbox, merged; the writer turns it into as few messages as fit. Nothing
ever cancels or times out a read or a write: grpc.aio would leak its batch
(https://github.com/grpc/grpc/issues/43360).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from aitbc.v1 import work_pb2
from aitbc_server.api.convert import set_timestamp
from aitbc_server.api.statements import Stated, stated_in
from aitbc_server.api.validation import validator
from aitbc_server.api.work_messages import (
    acks_of,
    cancellations_of,
    completion_of,
    duration_of,
    parts_of,
    resume_of,
)
from aitbc_server.dispatch.live import CloseReason, Lease, Now, Session
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import (
    CoordinatorError,
    Draining,
    InvalidArgument,
    SessionSilent,
    SessionSuperseded,
    StorageUnavailable,
)
from aitbc_server.domain.miners import MinerRecord, owner_of

_log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

# Bytes of assignments in one message: below the 4 MiB that receivers allow by default.
_MESSAGE_BYTES = 2 * 1024 * 1024
# Characters kept of what a miner says about a failure.
_MOST_CODE = 64
_MOST_MESSAGE = 1024
# Time until prompts that could not be read are read again.
_FETCH_AGAIN_S = 1.0
# News for a miner that does not read, above which nothing more is read from it.
_MOST_UNREAD = 10_000

_validate_hello = validator(work_pb2.Hello.DESCRIPTOR)
_validate_capacity = validator(work_pb2.Capacity.DESCRIPTOR)
_CLOSED: dict[CloseReason, type[CoordinatorError]] = {
    CloseReason.SUPERSEDED: SessionSuperseded,
    CloseReason.SILENT: SessionSilent,
    CloseReason.DRAINING: Draining,
}


def _parents(hello: work_pb2.Hello) -> dict[str, str]:
    """Returns the models of adapters. Raises InvalidArgument for names that are not served."""
    served = set(hello.models)
    for adapter, model in hello.parents.items():
        if adapter == model or not {adapter, model} <= served:
            raise InvalidArgument("parents", "must name an adapter and its model of `models`")
    return dict(hello.parents)


async def read_message(context: Context) -> Any:
    """Returns the next message, or EOF. Raises InvalidArgument for bytes that are none."""
    try:
        return await context.read()
    except DecodeError:
        raise InvalidArgument("message", "is not a MinerMessage") from None


class WorkSession:
    """One session on its stream."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        context: Context,
        hello: work_pb2.Hello,
        heartbeat_s: float,
        check_live: Callable[[], None],
    ) -> None:
        """`check_live` raises when the stream's key is no longer valid."""
        _validate_hello(hello)
        self._dispatcher = dispatcher
        self._context = context
        self._hello = hello
        known = dispatcher.registry.find(hello.miner_id)
        # Who once signed its results does not come back without a key.
        self._public_key = hello.public_key or (known.public_key if known else b"")
        self._heartbeat_s = heartbeat_s
        self._check_live = check_live
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_written = False
        self._drain_s: float | None = None
        self._heartbeat_due = False
        self._failure: CoordinatorError | None = None
        self._session = Session(
            miner_id=hello.miner_id,
            models=tuple(dict.fromkeys(hello.models)),
            parents=_parents(hello),
            window=hello.capacity.max_outstanding_jobs,
            process_id=hello.process_id,
            heard_at=dispatcher.now().mono,
            wake=self._wake.set,
        )

    async def open(self, caller: Caller, lease_s: float) -> None:
        """Begins the session and says Welcome. Raises MinerNotOwned."""
        hello, now = self._hello, self._dispatcher.now()
        known = self._dispatcher.registry.find(hello.miner_id)
        record = MinerRecord(
            miner_id=hello.miner_id,
            models=self._session.models,
            gpu_info=hello.gpu_info.SerializeToString() if hello.HasField("gpu_info") else None,
            public_key=self._public_key,
            agent_version=hello.agent_version,
            registered_us=known.registered_us if known else now.wall_us,
            owner=owner_of(known, caller),
        )
        if known and known.public_key not in (b"", self._public_key):
            _log.warning("miner.key_changed", miner_id=hello.miner_id)
        held = [lease.lease_id for lease in hello.held_leases]
        lost, acks = await self._dispatcher.open_session(self._session, record, held)
        _log.info(
            "session.opened",
            miner_id=hello.miner_id,
            models=self._session.models,
            window=self._session.window,
            kept=len(acks),
            lost=len(lost),
        )
        welcome = work_pb2.Welcome(
            lease_duration=duration_of(lease_s),
            heartbeat_interval=duration_of(self._heartbeat_s),
            lost_lease_ids=lost,
            acks=acks_of(acks),
        )
        try:
            await self._context.write(work_pb2.CoordinatorMessage(welcome=welcome))
        except BaseException:
            self._close(CloseReason.GONE)
            raise

    async def run(self) -> None:
        """Reads and writes until either side ends the session. Raises why this side did."""
        reader = asyncio.create_task(self._read(), name=f"work-{self._session.miner_id}")
        reader.add_done_callback(self._reader_done)
        self._beat_timer = self._loop.call_later(self._heartbeat_s, self._beat)
        try:
            await self._write()
        finally:
            self._beat_timer.cancel()
            self._close(CloseReason.GONE)
        if self._failure is not None:
            raise self._failure
        reason = self._session.closed
        if reason in _CLOSED:
            raise _CLOSED[reason](retry_after_s=1 if reason is CloseReason.DRAINING else None)

    def announce_drain(self, grace_s: float) -> None:
        """Has Drain sent."""
        self._drain_s = grace_s
        self._wake.set()

    # Reading

    async def _read(self) -> None:
        dispatcher, session, context = self._dispatcher, self._session, self._context
        while session.closed is None:
            message = await read_message(context)
            if message is grpc.aio.EOF:
                return
            self._check_live()
            session.heard_at = dispatcher.now().mono
            kind = message.WhichOneof("message")
            if kind == "heartbeat":
                if message.heartbeat.HasField("load"):
                    session.load = message.heartbeat.load.SerializeToString()
            elif kind == "updates":
                if message.updates.HasField("load"):
                    session.load = message.updates.load.SerializeToString()
                self._take_all(message.updates)
            elif kind == "capacity":
                _validate_capacity(message.capacity)
                dispatcher.set_window(session, message.capacity.max_outstanding_jobs)
            elif kind == "hello":
                raise InvalidArgument("hello", "must be sent once")
            while len(session.outbox) > _MOST_UNREAD and session.closed is None:
                self._has_room.clear()
                await self._has_room.wait()

    def _take_all(self, updates: work_pb2.Updates) -> None:
        stated: Mapping[str, Stated] = {}
        if self._public_key:
            stated = stated_in(
                updates.updates,
                updates.signature,
                miner_id=self._session.miner_id,
                public_key=self._public_key,
            )
        now = self._dispatcher.now()
        for update in updates.updates:
            self._take(update, stated, now)

    def _take(self, update: work_pb2.Update, stated: Mapping[str, Stated], now: Now) -> None:
        dispatcher, session = self._dispatcher, self._session
        kind = update.WhichOneof("event")
        if kind == "delta":
            delta = update.delta
            dispatcher.progress(
                session,
                update.lease_id,
                update.sequence,
                delta.text,
                delta.tokens,
                parts_of(delta),
            )
        elif kind == "completion":
            signed = stated.get(update.lease_id)
            if signed is None and self._public_key:
                _log.warning("session.signature_refused", miner_id=session.miner_id)
                dispatcher.refuse(session, update.lease_id)
                return
            completion = completion_of(update.lease_id, update.completion, signed, now.wall_us)
            dispatcher.deliver(session, update.sequence, completion)
        elif kind == "failure":
            failure = update.failure
            dispatcher.fail(
                session,
                update.lease_id,
                update.sequence,
                code=failure.code[:_MOST_CODE] or "MINER_FAILED",
                message=failure.message[:_MOST_MESSAGE],
                retryable=failure.retryable,
            )

    def _reader_done(self, reader: asyncio.Task[None]) -> None:
        error = None if reader.cancelled() else reader.exception()
        # Half-closed by a miner that takes nothing new: it has drained, and leaves.
        has_left = not reader.cancelled() and error is None and self._session.window == 0
        if isinstance(error, CoordinatorError):
            self._failure = error
        elif error is not None and not isinstance(error, grpc.aio.BaseError):
            _log.error("session.read_failed", miner_id=self._session.miner_id, exc_info=error)
        self._close(CloseReason.LEFT if has_left else CloseReason.GONE)

    # Writing

    async def _write(self) -> None:
        session, write = self._session, self._context.write
        while session.closed is None:
            await self._wake.wait()
            self._wake.clear()
            for message in self._messages():
                self._has_written = True
                await write(message)
            while assignments := await self._take_assignments():
                self._has_written = True
                await write(work_pb2.CoordinatorMessage(assignments=assignments))
            self._has_room.set()

    def _messages(self) -> Iterator[work_pb2.CoordinatorMessage]:
        outbox = self._session.outbox
        # Cancellations first: they free the slots that assignments may be meant for.
        if outbox.cancellations:
            cancellations, outbox.cancellations = outbox.cancellations, {}
            yield work_pb2.CoordinatorMessage(cancellations=cancellations_of(cancellations))
        if outbox.acks:
            acks, outbox.acks = outbox.acks, {}
            yield work_pb2.CoordinatorMessage(acks=work_pb2.Acks(acks=acks_of(acks)))
        if self._drain_s is not None:
            drain = work_pb2.Drain(grace_period=duration_of(self._drain_s))
            self._drain_s = None
            yield work_pb2.CoordinatorMessage(drain=drain)
        if self._heartbeat_due:
            self._heartbeat_due = False
            yield work_pb2.CoordinatorMessage(heartbeat=work_pb2.Heartbeat())

    async def _take_assignments(self) -> work_pb2.Assignments | None:
        """Returns the next message of assignments, or None.

        What is not in memory is read now, for one message: a miner that does not read cannot have
        all that waits for it in memory.
        """
        outbox = self._session.outbox
        outbox.assignments = [lease for lease in outbox.assignments if lease.is_held]
        try:
            await self._dispatcher.fetch(outbox.assignments, _MESSAGE_BYTES)
        except StorageUnavailable:
            self._loop.call_later(_FETCH_AGAIN_S, self._wake.set)
            return None
        # As it is now: leases may have ended meanwhile, and so may the session.
        leases = self._session.outbox.assignments
        assignments, size, taken = work_pb2.Assignments(), 0, 0
        now = self._dispatcher.now()
        for lease in leases:
            if size >= _MESSAGE_BYTES or (lease.is_held and lease.job.spec is None):
                break
            taken += 1
            if lease.is_held:
                assignment = self._assignment(lease, now)
                assignments.assignments.append(assignment)
                size += assignment.ByteSize()
        del leases[:taken]
        return assignments if taken else None

    def _assignment(self, lease: Lease, now: Now) -> work_pb2.Assignment:
        spec = self._dispatcher.hand_over(lease, now)
        assignment = work_pb2.Assignment(lease_id=lease.lease_id, attempt=lease.attempt)
        assignment.job.MergeFromString(spec)
        if lease.job.deadline_us is not None:
            set_timestamp(assignment.deadline, lease.job.deadline_us)
        said = self._dispatcher.transcripts.find(lease.job.job_id)
        if said is not None and said.is_resumable:
            assignment.resume.CopyFrom(resume_of(said))
        return assignment

    def _beat(self) -> None:
        try:
            self._check_live()
        except CoordinatorError as error:
            self._failure = error
            self._close(CloseReason.GONE)
            return
        if not self._has_written:
            self._heartbeat_due = True
            self._wake.set()
        self._has_written = False
        self._beat_timer = self._loop.call_later(self._heartbeat_s, self._beat)

    def _close(self, reason: CloseReason) -> None:
        self._dispatcher.close_session(self._session, reason)
        self._has_room.set()
        self._wake.set()
