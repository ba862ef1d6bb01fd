"""Takes the messages of calls that were let in: in turn, within a time, and each up to its size.

gRPC's core holds what has arrived of a message, and neither says how much that is nor ends it. So a
message is asked for only when there is room for the largest one; what is not asked for stays with
its sender.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from aitbc_server.alarms import Alarms
from aitbc_server.api.errors import failure_of, to_status
from aitbc_server.api.peers import Peer, address_in
from aitbc_server.api.turns import Turns
from aitbc_server.api.wire import Shape, parse
from aitbc_server.aside import LARGE_BYTES, aside
from aitbc_server.domain.caller import Caller, Role
from aitbc_server.domain.errors import (
    CoordinatorError,
    InvalidArgument,
    MessageTimeout,
    PayloadTooLarge,
)
from aitbc_server.slices import is_spent, next_turn

Context = grpc.aio.ServicerContext[Any, Any]
# Raises what is wrong with a message; large ones are to be waited for.
Check = Callable[[Any, Caller], Awaitable[None] | None]

# Messages that are read at once: those of one caller, and of all. Each may be as large as any.
_OF_ONE = 8
_OF_VISITORS = 12
_OF_KEYS = 48
# Messages up to this size have this long to arrive, whatever larger ones have.
_SMALL_BYTES = 64 * 1024
_SMALL_S = 10.0
# Messages from this size on are told of.
_NOTED_BYTES = 2048
# Takes from whom a message came, and its size.
Noted = Callable[[Peer, int], None]


class Intake:
    """Reads messages."""

    def __init__(self, *, body_s: float, noted: Noted) -> None:
        """`body_s`: seconds for a large message to arrive; `noted` is told of large ones."""
        self._noted = noted
        self._small = Alarms(min(_SMALL_S, body_s))
        self._large = Alarms(body_s)
        self._of_visitors = Turns(_OF_VISITORS)
        self._of_keys = Turns(_OF_KEYS)
        self._by_account: dict[str, Turns] = {}

    async def read(
        self,
        context: Context,
        caller: Caller,
        kind: type[Message],
        shape: Shape,
        check: Check | None = None,
    ) -> Message:
        """Returns the message of a call. Raises InvalidArgument and PayloadTooLarge.

        `check` is made before it is the next message's turn: many large ones that are refused
        never are in memory together.
        """
        account = caller.account
        own = self._by_account.get(account)
        if own is None:
            own = self._by_account[account] = Turns(_OF_ONE)
        try:
            if not own.take():
                await own.wait()
            try:
                if caller.role is Role.ADMIN:
                    return await self._read(context, caller, kind, shape, check)
                of_all = self._of_visitors if caller.role is None else self._of_keys
                if not of_all.take():
                    await of_all.wait()
                try:
                    return await self._read(context, caller, kind, shape, check)
                finally:
                    of_all.give()
            finally:
                own.give()
        finally:
            if own.is_unused and self._by_account.get(account) is own:
                del self._by_account[account]

    async def _read(
        self,
        context: Context,
        caller: Caller,
        kind: type[Message],
        shape: Shape,
        check: Check | None,
    ) -> Message:
        alarms = self._small if shape.most_bytes <= _SMALL_BYTES else self._large
        alarms.set(context, partial(end_call, context, MessageTimeout))
        try:
            data = await context.read()
        finally:
            alarms.off(context)
        if data is grpc.aio.EOF:
            raise InvalidArgument("message", "is missing")
        size = len(data)
        if size > _NOTED_BYTES:
            self._noted(address_in(context.peer()), size)
        if size > shape.most_bytes:
            raise PayloadTooLarge(int(shape.most_bytes))
        if is_spent():
            await next_turn()
        message = await aside(parse, kind, data) if size > LARGE_BYTES else parse(kind, data)
        checking = None if check is None else check(message, caller)
        if checking is not None:
            await checking
        return message


@contextmanager
def ending(
    context: Context, after_s: float, error: type[CoordinatorError] = MessageTimeout
) -> Iterator[None]:
    """Ends the call when what is done within takes longer.

    By its status, which also ends what is pending in gRPC's core: a cancelled read would leak.
    """
    timer = asyncio.get_running_loop().call_later(after_s, end_call, context, error)
    try:
        yield
    finally:
        timer.cancel()


def end_call(context: Context, error: type[CoordinatorError]) -> None:
    """Ends a call from outside its handler, by its status."""
    task = asyncio.create_task(_abort(context, error()))
    _ends.add(task)
    task.add_done_callback(_ends.discard)


async def _abort(context: Context, error: CoordinatorError) -> None:
    # Raises always: that the call is aborted, or that it is over already.
    with suppress(grpc.aio.BaseError, grpc.aio.UsageError):
        abort: Callable[[grpc.Status], Awaitable[None]] = context.abort_with_status
        await abort(to_status(failure_of(error)))


# The loop keeps no task alive by itself.
_ends: set[asyncio.Task[None]] = set()
