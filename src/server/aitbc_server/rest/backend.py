"""Where the REST layer finds methods and calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc_server.api.endpoint import Authenticate, Endpoint, Messages


class Backend(Protocol):
    """A set of gRPC methods. All functions raise what `error_response` can tell a client."""

    async def methods(self) -> Sequence[MethodDescriptor]:
        """Returns the methods: the same object for as long as they are the same."""

    async def call(
        self, method: MethodDescriptor, request: Message, metadata: Mapping[str, str]
    ) -> Message:
        """Answers a request, with the headers of the HTTP request by their lower-case names."""

    async def open(
        self, method: MethodDescriptor, request: Message, metadata: Mapping[str, str]
    ) -> Messages:
        """Begins the stream of responses of a method that streams; the caller closes it."""


class LocalBackend:
    """The services of this process, called without a channel."""

    def __init__(self, endpoints: Mapping[str, Endpoint], authenticate: Authenticate) -> None:
        self._endpoints = endpoints
        self._authenticate = authenticate
        self._methods = tuple(endpoint.method for endpoint in endpoints.values())

    async def methods(self) -> Sequence[MethodDescriptor]:
        """Returns the methods of the endpoints."""
        return self._methods

    async def call(
        self, method: MethodDescriptor, request: Message, metadata: Mapping[str, str]
    ) -> Message:
        """Authenticates the caller and answers the request. Raises domain errors."""
        return await self._endpoints[method.full_name](request, metadata, self._authenticate)

    async def open(
        self, method: MethodDescriptor, request: Message, metadata: Mapping[str, str]
    ) -> Messages:
        """Authenticates the caller and begins the stream. Raises domain errors."""
        return await self._endpoints[method.full_name].open(request, metadata, self._authenticate)
