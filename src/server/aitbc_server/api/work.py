"""The Work streams of MinerService: who is let in, and when they are told to go."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import Any

import grpc

from aitbc_server.api.connections import Connections
from aitbc_server.api.endpoint import Gate
from aitbc_server.api.intake import end_call
from aitbc_server.api.peers import address_in
from aitbc_server.api.unfinished import Sender, Unfinished
from aitbc_server.api.work_messages import Taken, read_message
from aitbc_server.api.work_session import Context, WorkSession
from aitbc_server.auth.lasting import Lasting
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.cache_salts import CacheSaltOf
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument, SessionSilent, TooMuchUnfinished
from aitbc_server.lifecycle import Lifecycle

# Signed by miners to prove their keys.
_NONCE = "aitbc-nonce"
_NONCE_BYTES = 32


class WorkStreams:
    """Serves MinerService.Work."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        lifecycle: Lifecycle,
        gate: Gate,
        lasting: Lasting,
        connections: Connections,
        unfinished: Unfinished,
        salt_of: CacheSaltOf,
        *,
        lease_s: float,
        heartbeat_s: float,
        max_message_bytes: int,
        max_result_bytes: int,
    ) -> None:
        """`lasting` ends streams when their keys end, `connections` those that nobody reads.

        `unfinished` ends those whose messages have no end.
        """
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle
        self._gate = gate
        self._lasting = lasting
        self._connections = connections
        self._unfinished = unfinished
        self._salt_of = salt_of
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._taken = Taken(max_message_bytes, max_result_bytes)
        self._streams: set[WorkSession] = set()

    async def serve(self, context: Context, caller: Caller) -> None:
        """Serves one stream of a caller who was let in to its end. Raises domain errors."""
        self._lifecycle.check_serving()
        peer = address_in(context.peer())
        end = partial(end_call, context, TooMuchUnfinished)
        with self._unfinished.counted(peer, caller.account, end) as sender:
            await self._unfinished.seen(peer)
            await self._serve(context, caller, sender)

    async def _serve(self, context: Context, caller: Caller, sender: Sender) -> None:
        nonce = secrets.token_hex(_NONCE_BYTES)
        await context.send_initial_metadata(((_NONCE, nonce),))
        first = await self._lasting.answer(self._first(context, sender), caller.key_id)
        if first is grpc.aio.EOF:
            return
        if first.WhichOneof("message") != "hello":
            raise InvalidArgument("hello", "must be the first message of the stream")
        stream = WorkSession(
            self._dispatcher,
            context,
            first.hello,
            self._heartbeat_s,
            partial(self._gate.check_live, caller),
            self._salt_of,
            partial(self._connections.drop, context.peer()),
            sender,
        )
        await stream.open(caller, self._lease_s, nonce, self._taken)
        self._streams.add(stream)
        try:
            with self._lasting.told(caller.key_id, stream.end):
                await stream.run()
        finally:
            self._streams.discard(stream)

    async def _first(self, context: Context, sender: Sender) -> Any:
        """Returns the first message, or EOF. Raises SessionSilent."""
        reading = asyncio.ensure_future(read_message(context, sender))
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
