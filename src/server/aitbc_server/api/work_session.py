"""One session on its Work stream: a reader and a writer.

The two meet in the session's outbox: the reader gives what arrives to the dispatcher, which puts
what is to be said into the outbox, merged; the writer turns it into as few messages as fit. Nothing
ever cancels or times out a read or a write: grpc.aio would leak its batch
(https://github.com/grpc/grpc/issues/43360).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import grpc
import structlog

from aitbc.v1 import work_pb2
from aitbc_server.api.miner_keys import check_key, prove
from aitbc_server.api.statements import Stated, stated_in
from aitbc_server.api.tasks import infos_of
from aitbc_server.api.unfinished import Sender
from aitbc_server.api.validation import validator
from aitbc_server.api.work_assignments import Assigner
from aitbc_server.api.work_messages import (
    FAULTS,
    SLICE_BYTES,
    Beside,
    Taken,
    acks_of,
    cancellations_of,
    completion_of,
    duration_of,
    is_long,
    looked_at,
    parents_of,
    pauses_of,
    read_message,
    seconds_of,
)
from aitbc_server.aside import LARGE_BYTES, aside
from aitbc_server.dispatch.answer_bounds import ANSWER_REFUSED
from aitbc_server.dispatch.live import CloseReason, Now, Session
from aitbc_server.dispatch.refusals import UNSIGNED, Refusal
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.allowed_models import check_allowed
from aitbc_server.domain.cache_salts import CacheSaltOf
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import (
    CoordinatorError,
    Draining,
    InvalidArgument,
    SessionSilent,
    SessionSuperseded,
)
from aitbc_server.domain.jobs import Fault
from aitbc_server.domain.miners import MinerRecord, check_models, owner_of
from aitbc_server.domain.said import said_code, said_message
from aitbc_server.ledger.receipts import VERSION

_log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

# What a miner takes that does not say: gRPC's default.
_DEFAULT_MESSAGE_BYTES = 4 * 1024 * 1024
# How long what is being written when a session ends may take.
_LAST_WRITE_S = 5.0
# Updates that are taken in one turn, and probabilities that are put into another form in one.
_SLICE = 256
# News for a miner that does not read, above which nothing more is read from it.
_MOST_UNREAD = 10_000

_validate_hello = validator(work_pb2.Hello.DESCRIPTOR)
_validate_capacity = validator(work_pb2.Capacity.DESCRIPTOR)
_validate_load = validator(work_pb2.Load.DESCRIPTOR)
_CLOSED: dict[CloseReason, type[CoordinatorError]] = {
    CloseReason.SUPERSEDED: SessionSuperseded,
    CloseReason.SILENT: SessionSilent,
    CloseReason.DRAINING: Draining,
}


class WorkSession:
    """One session on its stream."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        context: Context,
        hello: work_pb2.Hello,
        heartbeat_s: float,
        live_caller: Callable[[], Caller],
        salt_of: CacheSaltOf,
        drop: Callable[[], object],
        sender: Sender,
    ) -> None:
        """`live_caller` says who calls as the key is now, and raises when it is no longer valid.

        `drop` closes the connection of the stream, and `sender` counts what is taken of it.

        Raises InvalidArgument and ModelNotAllowed.
        """
        _validate_hello(hello)
        self._live_caller = live_caller
        self._caller = live_caller()
        check_models("models", hello.models, self._caller)
        self._dispatcher = dispatcher
        self._context = context
        self._hello = hello
        known = dispatcher.registry.find(hello.miner_id)
        # Who once signed its results does not come back without a key.
        self._public_key = hello.public_key or (known.public_key if known else b"")
        self._heartbeat_s = heartbeat_s
        self._drop = drop
        self._sender = sender
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_written = False
        self._drain_s: float | None = None
        self._heartbeat_due = False
        self._failure: CoordinatorError | None = None
        self._dropping: asyncio.TimerHandle | None = None
        self._session = Session(
            miner_id=hello.miner_id,
            models=tuple(dict.fromkeys(hello.models)),
            parents=parents_of(hello),
            infos=infos_of(hello),
            window=hello.capacity.max_outstanding_jobs,
            process_id=hello.process_id,
            max_message_bytes=hello.max_message_bytes or _DEFAULT_MESSAGE_BYTES,
            heard_at=dispatcher.now().mono,
            wake=self._woken,
        )
        self._assigner = Assigner(dispatcher, self._session, salt_of)

    async def open(self, caller: Caller, lease_s: float, nonce: str, taken: Taken) -> None:
        """Begins the session and says Welcome.

        `nonce`: what the miner was given to sign; `taken`: what is taken of it. Raises
        MinerNotOwned, MinerKeyRefused and TooManyMiners.
        """
        hello, now = self._hello, self._dispatcher.now()
        known = self._dispatcher.registry.find(hello.miner_id)
        check_key(known, hello.public_key, hello.endorsement, caller)
        has_proved = prove(known, hello, nonce)
        record = MinerRecord(
            miner_id=hello.miner_id,
            models=self._session.models,
            gpu_info=hello.gpu_info.SerializeToString() if hello.HasField("gpu_info") else None,
            public_key=self._public_key,
            agent_version=hello.agent_version,
            registered_us=known.registered_us if known else now.wall_us,
            owner=owner_of(known, caller),
            seen_us=now.wall_us,
            has_proved=has_proved,
        )
        if known and known.public_key not in (b"", self._public_key):
            _log.warning("miner.key_changed", miner_id=hello.miner_id)
        held = [lease.lease_id for lease in hello.held_leases]
        lost, acks = await self._dispatcher.open_session(
            self._session, record, held, most=caller.limits.miners
        )
        if hello.capacity.pauses:
            self._take_capacity(hello.capacity)
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
            max_message_bytes=taken.message_bytes,
            max_result_bytes=taken.result_bytes,
            statement_version=VERSION,
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
            if self._dropping is not None:
                self._dropping.cancel()
        if self._failure is not None:
            raise self._failure
        reason = self._session.closed
        if reason in _CLOSED:
            raise _CLOSED[reason](retry_after_s=1 if reason is CloseReason.DRAINING else None)

    def end(self, why: CoordinatorError) -> None:
        """Ends the session now, and has `run` raise why."""
        if self._session.closed is None:
            self._failure = why
            self._close(CloseReason.GONE)

    def announce_drain(self, grace_s: float) -> None:
        """Has Drain sent."""
        self._drain_s = grace_s
        self._wake.set()

    # Reading

    async def _read(self) -> None:
        dispatcher, session, context = self._dispatcher, self._session, self._context
        while session.closed is None:
            message = await read_message(context, self._sender)
            if message is grpc.aio.EOF:
                return
            self._check_caller()
            session.heard_at = dispatcher.now().mono
            kind = message.WhichOneof("message")
            if kind == "heartbeat":
                if message.heartbeat.HasField("load"):
                    self._take_load(message.heartbeat.load)
            elif kind == "updates":
                if message.updates.HasField("load"):
                    self._take_load(message.updates.load)
                await self._take_all(message.updates)
            elif kind == "capacity":
                _validate_capacity(message.capacity)
                self._take_capacity(message.capacity)
            elif kind == "hello":
                raise InvalidArgument("hello", "must be sent once")
            while len(session.outbox) > _MOST_UNREAD and session.closed is None:
                self._has_room.clear()
                await self._has_room.wait()

    def _check_caller(self) -> None:
        """Raises why the key no longer allows this session."""
        caller = self._live_caller()
        if caller is not self._caller:
            # Changed meanwhile.
            self._caller = caller
            check_allowed(caller.models, self._session.models)

    def _take_capacity(self, capacity: work_pb2.Capacity) -> None:
        self._dispatcher.set_window(
            self._session, capacity.max_outstanding_jobs, pauses_of(capacity)
        )

    def _take_load(self, load: work_pb2.Load) -> None:
        _validate_load(load)
        self._session.load = load.SerializeToString()

    async def _take_all(self, updates: work_pb2.Updates) -> None:
        stated: Mapping[str, Stated] = {}
        is_large = updates.ByteSize() > LARGE_BYTES
        if self._public_key:
            check = partial(
                stated_in,
                updates,
                miner_id=self._session.miner_id,
                public_key=self._public_key,
            )
            is_small = len(updates.updates) < _SLICE and not is_large
            stated = check() if is_small else await aside(check)
        now = self._dispatcher.now()
        turn_bytes = 0
        for place, update in enumerate(updates.updates, start=1):
            asked = self._dispatcher.asked_by(self._session, update.lease_id)
            # What is of no lease that it holds is not looked at: once an update is refused, the
            # others of its lease cost nothing.
            if asked is not None:
                if is_large:
                    turn_bytes += update.ByteSize()
                signed = stated.get(update.lease_id)
                is_hashed = signed is not None and signed.answer_hash is not None
                if is_large and is_long(update):
                    taken = await aside(looked_at, update, *asked, is_hashed=is_hashed)
                else:
                    taken = looked_at(update, *asked, is_hashed=is_hashed)
                if isinstance(taken, str):
                    # It fails alone: the others of the message are of other jobs.
                    _log.warning(
                        "session.update_refused", miner_id=self._session.miner_id, problem=taken
                    )
                    refusal = Refusal(ANSWER_REFUSED, f"sent an update whose {taken}")
                    self._dispatcher.refuse(self._session, update.lease_id, refusal)
                else:
                    self._take(update, taken, signed, now)
            if place % _SLICE == 0 or turn_bytes > SLICE_BYTES:
                # Others have their turn.
                turn_bytes = 0
                await asyncio.sleep(0)
                if self._session.closed is not None:
                    return
                now = self._dispatcher.now()

    def _take(
        self, update: work_pb2.Update, beside: Beside, signed: Stated | None, now: Now
    ) -> None:
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
                beside.parts,
            )
        elif kind == "completion":
            if signed is None and self._public_key:
                _log.warning("session.signature_refused", miner_id=session.miner_id)
                dispatcher.refuse(session, update.lease_id, UNSIGNED)
                return
            completion = completion_of(
                update.lease_id, update.completion, beside, signed, now.wall_us
            )
            is_whole_signed = signed is not None and signed.answer_hash is not None
            if is_whole_signed and completion.finish_reason != update.completion.finish_reason:
                # What is kept would be another answer than the one that was signed.
                refusal = Refusal(ANSWER_REFUSED, "signed a finish_reason that cannot be")
                dispatcher.refuse(session, update.lease_id, refusal)
                return
            dispatcher.deliver(session, update.sequence, completion, beside.told)
        elif kind == "failure":
            failure = update.failure
            dispatcher.fail(
                session,
                update.lease_id,
                update.sequence,
                code=said_code(failure.code),
                message=said_message(failure.message),
                retryable=failure.retryable,
                fault=FAULTS.get(failure.fault, Fault.UNSPECIFIED),
                retry_after_s=seconds_of(failure.retry_after),
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
            while assignments := await self._assigner.next():
                self._has_written = True
                # What freed the slots meanwhile goes before what is to fill them.
                for message in self._messages():
                    await write(message)
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

    def _beat(self) -> None:
        try:
            self._check_caller()
        except CoordinatorError as error:
            self.end(error)
            return
        if not self._has_written:
            self._heartbeat_due = True
            self._wake.set()
        self._has_written = False
        self._beat_timer = self._loop.call_later(self._heartbeat_s, self._beat)

    def _close(self, reason: CloseReason) -> None:
        self._dispatcher.close_session(self._session, reason)
        self._has_room.set()
        self._woken()

    def _woken(self) -> None:
        self._wake.set()
        if self._session.closed is not None and self._dropping is None:
            # A write to a miner that does not read has no end of its own, and gRPC has none for it.
            self._dropping = self._loop.call_later(_LAST_WRITE_S, self._drop)
