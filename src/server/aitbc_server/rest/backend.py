"""Where the REST layer finds methods and calls them."""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import aclosing
from typing import Generic, Protocol, TypeVar

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc_server.api.endpoint import Endpoint, Gate, Messages
from aitbc_server.auth.shares import Shares
from aitbc_server.domain.caller import Caller

T = TypeVar("T")


class Backend(Protocol):
    """A set of gRPC methods. All functions raise what `error_response` can tell a client."""

    def methods(self) -> Awaitable[Sequence[MethodDescriptor]]:
        """Returns the methods: the same object for as long as they are the same."""

    def admit(self, method: MethodDescriptor, headers: Mapping[str, str], peer: str) -> Caller:
        """Lets a call in, before its body is read: refuses what need not be read to be refused.

        `headers` are those of the HTTP request by their lower-case names.
        """

    def confirm(
        self, method: MethodDescriptor, headers: Mapping[str, str], caller: Caller
    ) -> Awaitable[None]:
        """Asks whoever decides, where `admit` cannot, before a body is read."""

    def call(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Awaitable[Message]:
        """Answers a request that `admit` let in."""

    def open(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Awaitable[Messages]:
        """Begins the stream of responses of a method that streams; the caller closes it."""


class _Known(Generic[T]):
    """What need not be waited for. A coroutine would be made for each call."""

    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, T]:
        return self._value
        yield


_DECIDED = _Known(None)


class LocalBackend:
    """The services of this process, called without a channel."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint], gate: Gate, shares: Shares | None = None
    ) -> None:
        """`shares`: of streams and waits under way, where these are bounded."""
        self._endpoints = endpoints
        self._gate = gate
        self._shares = shares
        methods: Sequence[MethodDescriptor] = tuple(one.method for one in endpoints.values())
        self._methods = _Known(methods)

    def methods(self) -> Awaitable[Sequence[MethodDescriptor]]:
        """Returns the methods of the endpoints."""
        return self._methods

    def admit(self, method: MethodDescriptor, headers: Mapping[str, str], peer: str) -> Caller:
        """Returns who calls. Raises domain errors."""
        return self._gate.admit(self._endpoints[method.full_name].access, headers, peer)

    def confirm(
        self, method: MethodDescriptor, headers: Mapping[str, str], caller: Caller
    ) -> Awaitable[None]:
        """Has nobody to ask: the gate has decided."""
        return _DECIDED

    def call(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Awaitable[Message]:
        """Answers the request. Raises domain errors."""
        endpoint = self._endpoints[method.full_name]
        if endpoint.can_wait and self._shares is not None and endpoint.waits(request):
            return _counted(endpoint, request, self._shares, caller)
        return endpoint(request, caller)

    async def open(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Messages:
        """Begins the stream. Raises domain errors."""
        shares = self._shares
        if shares is not None:
            shares.check(caller)
        messages: Messages = await self._endpoints[method.full_name].open(request, caller)
        return messages if shares is None else _shared(messages, shares, caller)


async def _counted(endpoint: Endpoint, request: Message, shares: Shares, caller: Caller) -> Message:
    with shares.held(caller):
        return await endpoint(request, caller)


async def _shared(messages: Messages, shares: Shares, caller: Caller) -> Messages:
    with shares.held(caller):
        async with aclosing(messages):
            async for message in messages:
                yield message
