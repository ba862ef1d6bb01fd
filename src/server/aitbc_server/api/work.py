"""The Work streams of MinerService: who is let in, and when they are told to go."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc

from aitbc_server.api.endpoint import Gate
from aitbc_server.api.work_session import Context, WorkSession, read_message
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument, SessionSilent
from aitbc_server.lifecycle import Lifecycle


class WorkStreams:
    """Serves MinerService.Work."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        lifecycle: Lifecycle,
        gate: Gate,
        *,
        lease_s: float,
        heartbeat_s: float,
    ) -> None:
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle
        self._gate = gate
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._streams: set[WorkSession] = set()

    async def serve(self, context: Context, caller: Caller) -> None:
        """Serves one stream of a caller who was let in to its end. Raises domain errors."""
        self._lifecycle.check_serving()
        first = await self._first(context)
        if first is grpc.aio.EOF:
            return
        if first.WhichOneof("message") != "hello":
            raise InvalidArgument("hello", "must be the first message of the stream")
        check_live = partial(self._gate.check_live, caller)
        stream = WorkSession(self._dispatcher, context, first.hello, self._heartbeat_s, check_live)
        await stream.open(caller, self._lease_s)
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)

    async def _first(self, context: Context) -> Any:
        """Returns the first message, or EOF. Raises SessionSilent."""
        reading = asyncio.ensure_future(read_message(context))
        # Ends with the call, and then nobody asks any more why.
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([reading], timeout=self._lease_s)
        if not reading.done():
            raise SessionSilent("no Hello came for as long as a lease lasts")
        return reading.result()

    def drain(self, grace_s: float) -> None:
        """Announces to every miner that its stream will end."""
        for stream in self._streams:
            stream.announce_drain(grace_s)
