"""A REST app with a scripted backend, on a real HTTP server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc_server.domain.caller import Caller
from aitbc_server.rest.asgi import AsgiApp
from aitbc_server.rest.server import RestServer
from tests.unit.rest.schema import METHODS

Answer = Callable[[Message], Awaitable[Message]]
Stream = Callable[[Message], AsyncGenerator[Message, None]]


async def echo(request: Message) -> Message:
    """Answers with the request."""
    return request


async def echo_once(request: Message) -> AsyncGenerator[Message, None]:
    """Streams the request."""
    yield request


class FakeBackend:
    """Answers as the test says and remembers the last call."""

    def __init__(self, methods: Sequence[MethodDescriptor] = METHODS) -> None:
        self._methods = methods
        self.answer: Answer = echo
        self.stream: Stream = echo_once
        self.open_error: Exception | None = None
        # What callers are told who are not let in.
        self.refusal: Exception | None = None
        self.method = ""
        self.request: Message | None = None
        self.metadata: Mapping[str, str] = {}

    async def methods(self) -> Sequence[MethodDescriptor]:
        return self._methods

    def admit(self, method: MethodDescriptor, headers: Mapping[str, str], peer: str) -> Caller:
        if self.refusal is not None:
            raise self.refusal
        return Caller()

    async def confirm(
        self, method: MethodDescriptor, headers: Mapping[str, str], caller: Caller
    ) -> None:
        pass

    async def call(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Message:
        self.method, self.request, self.metadata = method.name, request, headers
        return await self.answer(request)

    async def open(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> AsyncGenerator[Message, None]:
        self.method, self.request, self.metadata = method.name, request, headers
        if self.open_error is not None:
            raise self.open_error
        return self.stream(request)


@asynccontextmanager
async def client_of(app: AsgiApp) -> AsyncIterator[httpx.AsyncClient]:
    """Serves an app on a free port for as long as the client is open."""
    server = RestServer(app)
    await server.start("127.0.0.1", 0)
    try:
        # Of bodies that tests write by hand.
        typed = {"content-type": "application/json"}
        url = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=url, headers=typed) as client:
            yield client
    finally:
        await server.stop(grace_s=1)
