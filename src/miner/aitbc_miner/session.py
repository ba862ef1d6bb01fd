"""One session with the coordinator: a stream, from Hello to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import structlog
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from aitbc.v1.work_pb2 import CoordinatorMessage, MinerMessage, Welcome
from aitbc_miner.agent import Agent
from aitbc_miner.errors import MinerError, Misconfigured, SessionLost, Superseded

# Until Welcome says how often the coordinator speaks.
_PATIENCE_S = 30.0
# Time for the coordinator to end the stream after the miner's goodbye.
_PARTING_S = 2.0
# Time for the coordinator to say what to sign.
_NONCE_S = 5.0
_NONCE = "aitbc-nonce"
_STATUS_DETAILS = "grpc-status-details-bin"

log = structlog.get_logger()

Call = aio.StreamStreamCall[MinerMessage, CoordinatorMessage]


class Session:
    """Carries messages between the agent and the stream, and watches that the stream lives.

    One task reads and one writes; neither is ever cancelled while it does. grpc.aio leaks memory
    when a pending read or write is, so both end when the call does.
    """

    def __init__(
        self,
        agent: Agent,
        call: Call,
        *,
        clock: Callable[[], float],
        on_welcome: Callable[[], None],
        goodbye: asyncio.Event,
    ) -> None:
        self._agent = agent
        self._call = call
        self._clock = clock
        self._on_welcome = on_welcome
        # Set when the miner has nothing left to do here.
        self._goodbye = goodbye
        self._welcomed = asyncio.Event()
        self._heartbeat_interval_s = _PATIENCE_S
        self._patience_s = _PATIENCE_S
        self._heard_at = clock()
        self._silence_timer: asyncio.TimerHandle | None = None
        self._is_silent = False
        self._is_closing = False

    async def run(self) -> MinerError:
        """Works until the stream ends and returns why it did."""
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        parting = asyncio.create_task(self._goodbye.wait())
        self._watch_silence()
        try:
            await asyncio.wait({reader, writer, parting}, return_when=asyncio.FIRST_COMPLETED)
            if not reader.done():
                # The miner leaves, or a write failed and the reader is about to learn why.
                self._close_writer()
                await asyncio.wait({reader}, timeout=_PARTING_S)
            ending = await self._ending(reader)
        finally:
            if self._silence_timer is not None:
                self._silence_timer.cancel()
            self._close_writer()
            parting.cancel()
            self._call.cancel()
            results = await asyncio.gather(reader, writer, parting, return_exceptions=True)
        for result in results:
            # The end of the stream shows as any of these in whoever was using it.
            harmless = aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError
            if isinstance(result, BaseException) and not isinstance(result, harmless):
                raise result
        return ending

    def _watch_silence(self) -> None:
        """Ends the stream when nothing was heard for too long; looks again when that may be."""
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        remaining_s = self._heard_at + self._patience_s - self._clock()
        if remaining_s > 0:
            loop = asyncio.get_running_loop()
            self._silence_timer = loop.call_later(remaining_s, self._watch_silence)
        else:
            self._is_silent = True
            self._call.cancel()

    async def _ending(self, reader: asyncio.Task[None]) -> MinerError:
        if self._is_silent:
            return SessionLost(f"heard nothing for {self._patience_s:.0f} s")
        if not reader.done():
            return SessionLost("the stream hangs")
        if reader.cancelled() or not isinstance(reader.exception(), aio.AioRpcError | None):
            return SessionLost("the stream broke")
        call = self._call
        return _meaning(await call.code(), await call.details(), await call.trailing_metadata())

    async def _read(self) -> None:
        while (message := await self._call.read()) is not aio.EOF:
            assert isinstance(message, CoordinatorMessage)  # noqa: S101 - narrows the type
            self._heard_at = self._clock()
            if message.HasField("welcome"):
                self._welcome(message.welcome)
            elif message.HasField("drain"):
                log.info("coordinator.drains")
            else:
                self._agent.hear(message)

    def _welcome(self, welcome: Welcome) -> None:
        interval_s = welcome.heartbeat_interval.ToTimedelta().total_seconds()
        lease_s = welcome.lease_duration.ToTimedelta().total_seconds()
        self._heartbeat_interval_s = interval_s or _PATIENCE_S
        self._patience_s = max(lease_s, 3 * self._heartbeat_interval_s)
        self._watch_silence()
        self._agent.welcome(welcome)
        self._welcomed.set()
        self._on_welcome()

    async def _write(self) -> None:
        await self._call.write(self._agent.hello(await self._nonce()))
        spoke_at = self._clock()
        await self._welcomed.wait()
        alarm = self._agent.alarm
        while not self._is_closing:
            message = self._agent.next_message()
            if message is None:
                silence_s = self._clock() - spoke_at
                if silence_s < self._heartbeat_interval_s:
                    alarm.ring_in(self._heartbeat_interval_s - silence_s)
                    await alarm.wait()
                    continue
                message = self._agent.heartbeat()
            await self._call.write(message)
            spoke_at = self._clock()
        await self._call.done_writing()

    async def _nonce(self) -> str:
        """Returns what the coordinator gives to sign; empty where it gives nothing."""
        asking = asyncio.ensure_future(self._call.initial_metadata())
        await asyncio.wait([asking], timeout=_NONCE_S)
        # An older coordinator says nothing before Hello: the future ends with the call.
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        if not asking.done() or asking.exception() is not None:
            return ""
        nonce = dict(asking.result()).get(_NONCE, "")
        return nonce if isinstance(nonce, str) else ""

    def _close_writer(self) -> None:
        """Lets the writer end by itself, after the write that is under way."""
        self._is_closing = True
        self._welcomed.set()
        self._agent.alarm.ring()


def _meaning(code: grpc.StatusCode, details: str, metadata: aio.Metadata | None) -> MinerError:
    """Says what the coordinator's status means for the miner."""
    if code is grpc.StatusCode.OK:
        return SessionLost("the coordinator closed the stream")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return Misconfigured(f"the coordinator refuses this miner: {details}")
    if code is grpc.StatusCode.ABORTED and _error_reason(metadata) in (None, "SESSION_SUPERSEDED"):
        return Superseded(
            "another process opened a session under this miner id: give each its own --miner-id"
        )
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return SessionLost(f"the coordinator does not take this key for this miner: {details}")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return SessionLost(
            f"the coordinator wants a miner's key ({details}): give one with --api-key or"
            " AITBC_API_KEY; `aitbc-coordinator keys create --role miner` makes it"
        )
    return SessionLost(f"{code.name}: {details}")


def _error_reason(metadata: aio.Metadata | None) -> str | None:
    """Returns the reason of the status's ErrorInfo, when it has one."""
    status = status_pb2.Status()
    for key, value in metadata or ():
        if key == _STATUS_DETAILS and isinstance(value, bytes):
            status.ParseFromString(value)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return str(info.reason)
    return None
