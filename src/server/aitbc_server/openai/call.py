"""One request over HTTP, and the ways to answer it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel

from aitbc.v1 import jobs_pb2
from aitbc_server.api.errors import failure_of, let_go
from aitbc_server.aside import LARGE_BYTES, aside, by_size
from aitbc_server.auth.unread import Unread
from aitbc_server.domain.call import request_id
from aitbc_server.domain.errors import (
    Draining,
    InvalidApiKey,
    TooMuchUnread,
    Unauthenticated,
)
from aitbc_server.domain.keys import PREFIX as KEY_PREFIX
from aitbc_server.json_lists import json_pieces
from aitbc_server.openai.errors import in_stream, openai_response
from aitbc_server.openai.jobs import Client
from aitbc_server.openai.query import members_of
from aitbc_server.openai.schema import Asked, Request, read, validated
from aitbc_server.openai.unknown import HEADER, Ignorance, PassedOver
from aitbc_server.openai.wording import in_words_of, names_field
from aitbc_server.rest.asgi import (
    API_HEADERS,
    Headers,
    Pieces,
    Receive,
    Response,
    Scope,
    Send,
    json_response,
    send_response,
)
from aitbc_server.rest.body import read_json
from aitbc_server.rest.reader import Reader
from aitbc_server.rest.stream import STREAM_HEADERS, Body
from aitbc_server.rest.watch import ClientGone, ClientWatch

Chunks = AsyncGenerator[dict[str, Any], None]

# How long a stream waits for its first chunk before it says that there is none yet: until then an
# error has a status of its own.
_HOLD_S = 10.0
_WATCH_CLIENT_AFTER_S = 0.2
_BEARER = "bearer "
# In which an answer is there while it is made: as its jobs, and as its texts.
_FORMS = 2


class Dialect(NamedTuple):
    """How an API says what has nothing to do with what is asked of it."""

    # What a client is told of an error. Takes where it happened, and more headers.
    failure: Callable[[Exception, str, Headers], Response]
    # The last event of a stream that an error ends.
    last_words: Callable[[Exception, str], bytes]
    # Means nothing, and keeps proxies from ending a silent stream.
    heartbeat: bytes
    # Headers that name the request.
    id_headers: tuple[bytes, ...]
    # Headers in which its clients send some word where no key is needed: they cannot be without.
    word_headers: tuple[str, ...]


OPENAI = Dialect(
    openai_response,
    lambda error, where: b"data: %b\n\n" % in_stream(error, where),
    b":\n\n",
    (b"x-request-id",),
    ("authorization",),
)


class Call:
    """A request that is being answered."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        max_body_bytes: int,
        dialect: Dialect = OPENAI,
        ignorance: Ignorance | None = None,
        unread: Unread | None = None,
    ) -> None:
        self.method: str = scope["method"]
        # What its query says, once that is read.
        self.query: Any = None
        self._reader = Reader(scope, send, unread or Unread())
        self.client = _client(scope, dialect.word_headers, self._reader)
        self.where = f"{self.method} {scope['path']}"
        # Jobs behind it, which the headers of the response name.
        self.job_ids: list[str] = []
        self._dialect = dialect
        self._ignorance = ignorance or Ignorance()
        self._query_string: bytes = scope["query_string"]
        self._passed_over: PassedOver | None = None
        # What it asks, in whose words it is told of errors.
        self._asked: Asked | None = None
        self.asked_bytes = 0
        # Of the jobs that its answer is made of, where they may be large.
        self._answer_bytes = 0
        self._has_begun = False
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes

    def read_query(self, schema: type[BaseModel]) -> None:
        """Reads the query, and tells as of a body what is passed over. Raises OpenAIError."""
        self.query = self.checked(schema, members_of(self._query_string))

    def pass_over(self, names: Collection[str], why: str) -> None:
        """Tells that members of the request have no effect. Raises OpenAIError when strict."""
        if names:
            self._note(PassedOver(tuple(sorted(names)), has_more=False, why=why))

    def checked(self, schema: type[Request], data: dict[str, Any]) -> Request:
        """Returns the part of the request that an object is. Raises OpenAIError."""
        checked, passed_over = validated(schema, data)
        if passed_over is not None:
            self._note(passed_over)
        return checked

    async def body(self) -> bytes:
        """Returns the body. Raises HttpError, and TooMuchUnread."""
        self._reader.check()
        return await read_json(self.client.headers, self._receive, self._max_body_bytes)

    async def read(self, schema: type[Request], body: bytes) -> Request:
        """Returns the request that the body is. Raises OpenAIError.

        The response tells what the request has that is passed over.
        """
        request = await read(schema, body, self._note)
        if isinstance(request, Asked):
            self._asked, self.asked_bytes = request, len(body)
        return request

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yields the body as it comes, however long it is. Raises ClientGone."""
        has_more = True
        while has_more:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise ClientGone
            has_more = event.get("more_body", False)
            if piece := event.get("body", b""):
                yield piece

    async def send_content(
        self,
        pieces: AsyncGenerator[bytes, None],
        headers: Sequence[tuple[bytes, bytes]] = (),
        content_type: bytes = b"application/octet-stream",
    ) -> None:
        """Sends a content as it comes. Raises what comes before its first piece, and ClientGone."""
        piece = await anext(pieces, b"")
        headers = ((b"content-type", content_type), *headers, *API_HEADERS, *self._named())
        self._has_begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        async with self.watched():
            while piece and self.method != "HEAD":
                body = {"type": "http.response.body", "body": piece, "more_body": True}
                await self._reader.send_piece(body)
                piece = await anext(pieces, b"")
        await self._send({"type": "http.response.body", "body": b""})

    def holding(
        self, jobs: Iterable[jobs_pb2.Job] | int
    ) -> contextlib.AbstractContextManager[None]:
        """Counts jobs, or their bytes, as unread while an answer is made of them.

        Raises TooMuchUnread.
        """
        self._answer_bytes = jobs if isinstance(jobs, int) else sum(one.ByteSize() for one in jobs)
        return self._reader.held(_FORMS * self._answer_bytes)

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
        """Sends a success. Raises TooMuchUnread."""
        self._has_begun = True
        written: bytes | Pieces
        if self._answer_bytes > LARGE_BYTES:
            written = Pieces(await aside(json_pieces, body))
        else:
            written = orjson.dumps(body)
        response = json_response(200, written, self._named())
        try:
            await self._reader.respond(response, with_body=self.method != "HEAD")
        except TooMuchUnread:
            self._has_begun = False
            raise

    async def run(self, answering: Awaitable[None]) -> None:
        """Waits until the request is answered, or answers it with the error that ends this."""
        try:
            await answering
        except ClientGone as gone:
            let_go(gone)
        except asyncio.CancelledError:
            # The server stops. This is the last thing the task does.
            await self._fail(Draining())
        except Exception as error:
            await self._fail(error)
            let_go(error)

    async def _fail(self, error: Exception) -> None:
        """Sends an error, unless the response has begun."""
        if self.client.has_word and failure_of(error).reason == Unauthenticated.reason:
            # What is taken for no key is a wrong one where one is needed.
            error = InvalidApiKey()
        if not self._has_begun:
            told = await self._in_its_words(error)
            response = self._dialect.failure(told, self.where, self._named())
            await send_response(self._send, response, with_body=self.method != "HEAD")

    async def stream(
        self,
        chunks: Chunks,
        encode: Callable[[dict[str, Any]], bytes],
        last: bytes = b"",
        last_words: Callable[[Exception, str], bytes] | None = None,
    ) -> None:
        """Sends chunks as they come. Raises what comes before the first one, and ClientGone.

        `last_words`: the last event of this stream if an error ends it, when not the dialect's.
        """
        last_words = last_words or self._dialect.last_words
        first = asyncio.create_task(_next(chunks))
        try:
            async with Body(self._reader, self._receive, self._dialect.heartbeat) as body:
                done, _ = await asyncio.wait({first}, timeout=_HOLD_S)
                if done:
                    first.result()
                await self._begin(body)
                await self._pass_on(body, first, chunks, encode, last, last_words)
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
        last_words: Callable[[Exception, str], bytes],
    ) -> None:
        try:
            chunk = await first
            if chunk is not None:
                await body.write(encode(chunk))
            async for chunk in chunks:
                await body.write(encode(chunk))
        except asyncio.CancelledError:
            body.raise_if_ended()
            await body.end(last_words(Draining(), self.where))
            raise
        except Exception as error:
            told = await self._in_its_words(error)
            await body.end(last_words(told, self.where))
            raise
        await body.end(last)

    async def _begin(self, body: Body) -> None:
        self._has_begun = True
        content_type = (b"content-type", b"text/event-stream; charset=utf-8")
        await body.start(200, (content_type, *STREAM_HEADERS, *self._named()))

    async def _in_its_words(self, error: Exception) -> Exception:
        """Returns an error in the words of what it asks."""
        if not names_field(error):
            return error
        return await by_size(self.asked_bytes, in_words_of, self._asked, error, self.job_ids)

    def _named(self) -> Headers:
        request_id = self.client.headers["x-request-id"].encode()
        named = [(name, request_id) for name in self._dialect.id_headers]
        if self._passed_over is not None:
            named.append((HEADER, self._passed_over.header))
        if self.job_ids:
            named.append((b"x-job-id", ",".join(self.job_ids).encode()))
        return named

    def _note(self, passed_over: PassedOver) -> None:
        self._ignorance.note(passed_over, self.where)
        known = self._passed_over
        self._passed_over = passed_over if known is None else known.joined(passed_over)


def _client(scope: Scope, word_headers: tuple[str, ...], reader: Reader) -> Client:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    # One that cannot be a key of ours is taken for none.
    words = [name for name in word_headers if _is_word(name, headers.get(name, ""))]
    for name in words:
        del headers[name]
    headers["x-request-id"] = request_id(headers.get("x-request-id"))
    address = scope.get("client")
    return Client(headers, address[0] if address else "", reader, has_word=bool(words))


def _is_word(name: str, value: str) -> bool:
    if name == "authorization":
        is_bearer = value[: len(_BEARER)].lower() == _BEARER
        return is_bearer and not value[len(_BEARER) :].strip().startswith(KEY_PREFIX)
    return bool(value) and not value.startswith(KEY_PREFIX)


async def _next(chunks: Chunks) -> dict[str, Any] | None:
    return await anext(chunks, None)
