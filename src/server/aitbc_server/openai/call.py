"""One request over HTTP, and the ways to answer it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import orjson

from aitbc_server.domain.call import request_id
from aitbc_server.domain.errors import Draining
from aitbc_server.domain.keys import PREFIX as KEY_PREFIX
from aitbc_server.openai.errors import in_stream, openai_response
from aitbc_server.openai.jobs import Client
from aitbc_server.rest.asgi import Headers, Receive, Scope, Send, json_response, send_response
from aitbc_server.rest.body import read_json
from aitbc_server.rest.stream import STREAM_HEADERS, Body
from aitbc_server.rest.watch import ClientWatch

Chunks = AsyncGenerator[dict[str, Any], None]

# How long a stream waits for its first chunk before it says that there is none yet: until then an
# error has a status of its own.
_HOLD_S = 10.0
_WATCH_CLIENT_AFTER_S = 0.2
_HEARTBEAT = b":\n\n"
_BEARER = "bearer "


class Call:
    """A request that is being answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self.method: str = scope["method"]
        self.query: bytes = scope["query_string"]
        self.client = _client(scope)
        self.where = f"{self.method} {scope['path']}"
        # Jobs behind it, which the headers of the response name.
        self.job_ids: list[str] = []
        self._has_begun = False
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes

    async def body(self) -> bytes:
        """Returns the body. Raises HttpError."""
        return await read_json(self.client.headers, self._receive, self._max_body_bytes)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Ends what takes long with ClientGone when the client goes."""
        watch = ClientWatch(self._receive, _WATCH_CLIENT_AFTER_S)
        try:
            yield
        except asyncio.CancelledError:
            watch.raise_if_ended()
            raise
        finally:
            watch.close()

    async def answer(self, body: dict[str, Any]) -> None:
        """Sends a success."""
        self._has_begun = True
        response = json_response(200, orjson.dumps(body), self._named())
        await send_response(self._send, response, with_body=self.method != "HEAD")

    async def fail(self, error: Exception) -> None:
        """Sends an error, unless the response has begun."""
        if not self._has_begun:
            response = openai_response(error, self.where, self._named())
            await send_response(self._send, response, with_body=self.method != "HEAD")

    async def stream(
        self, chunks: Chunks, encode: Callable[[dict[str, Any]], bytes], last: bytes = b""
    ) -> None:
        """Sends chunks as they come. Raises what comes before the first one, and ClientGone."""
        first = asyncio.create_task(_next(chunks))
        try:
            async with Body(self._send, self._receive, _HEARTBEAT) as body:
                done, _ = await asyncio.wait({first}, timeout=_HOLD_S)
                if done:
                    first.result()
                await self._begin(body)
                await self._pass_on(body, first, chunks, encode, last)
        finally:
            first.cancel()
            await asyncio.wait({first})
            await chunks.aclose()

    async def _pass_on(
        self,
        body: Body,
        first: asyncio.Task[dict[str, Any] | None],
        chunks: Chunks,
        encode: Callable[[dict[str, Any]], bytes],
        last: bytes,
    ) -> None:
        try:
            chunk = await first
            if chunk is not None:
                await body.write(encode(chunk))
            async for chunk in chunks:
                await body.write(encode(chunk))
        except asyncio.CancelledError:
            body.raise_if_ended()
            await body.end(b"data: %b\n\n" % in_stream(Draining(), self.where))
            raise
        except Exception as error:
            await body.end(b"data: %b\n\n" % in_stream(error, self.where))
            raise
        await body.end(last)

    async def _begin(self, body: Body) -> None:
        self._has_begun = True
        content_type = (b"content-type", b"text/event-stream; charset=utf-8")
        await body.start(200, (content_type, *STREAM_HEADERS, *self._named()))

    def _named(self) -> Headers:
        named = (b"x-request-id", self.client.headers["x-request-id"].encode())
        if not self.job_ids:
            return (named,)
        return (named, (b"x-job-id", ",".join(self.job_ids).encode()))


def _client(scope: Scope) -> Client:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    authorization = headers.get("authorization", "")
    is_bearer = authorization[: len(_BEARER)].lower() == _BEARER
    # Clients of this API cannot be without a key, and send some word where none is needed: one that
    # cannot be a key of ours is taken for none.
    if is_bearer and not authorization[len(_BEARER) :].strip().startswith(KEY_PREFIX):
        del headers["authorization"]
    headers["x-request-id"] = request_id(headers.get("x-request-id"))
    address = scope.get("client")
    return Client(headers, address[0] if address else "")


async def _next(chunks: Chunks) -> dict[str, Any] | None:
    return await anext(chunks, None)
