"""Where the REST layer finds methods and calls them."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc_server.api.endpoint import Endpoint, Gate, Messages
from aitbc_server.domain.caller import Caller


class Backend(Protocol):
    """A set of gRPC methods. All functions raise what `error_response` can tell a client."""

    async def methods(self) -> Sequence[MethodDescriptor]:
        """Returns the methods: the same object for as long as they are the same."""

    def admit(self, method: MethodDescriptor, headers: Mapping[str, str], peer: str) -> Caller:
        """Lets a call in, before its body is read: refuses what need not be read to be refused.

        `headers` are those of the HTTP request by their lower-case names.
        """

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


class LocalBackend:
    """The services of this process, called without a channel."""

    def __init__(self, endpoints: Mapping[str, Endpoint], gate: Gate) -> None:
        self._endpoints = endpoints
        self._gate = gate
        self._methods = tuple(endpoint.method for endpoint in endpoints.values())

    async def methods(self) -> Sequence[MethodDescriptor]:
        """Returns the methods of the endpoints."""
        return self._methods

    def admit(self, method: MethodDescriptor, headers: Mapping[str, str], peer: str) -> Caller:
        """Returns who calls. Raises domain errors."""
        return self._gate.admit(self._endpoints[method.full_name].access, headers, peer)

    def call(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Awaitable[Message]:
        """Answers the request. Raises domain errors."""
        return self._endpoints[method.full_name](request, caller)

    def open(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Awaitable[Messages]:
        """Begins the stream. Raises domain errors."""
        return self._endpoints[method.full_name].open(request, caller)
