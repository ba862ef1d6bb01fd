"""The cases of Connect's conformance suite, and more of the same kind.

The suite's runner is a program of Go that neither PyPI nor npm has, so its cases are written out
here. Of its server's suites (connectrpc.com/conformance, testsuites/data): basic, errors (all
codes and the Unicode message), connect_client_code_to_http_code, connect_with_get,
connect_server_unexpected, grpc_web_server_unexpected, server_unexpected, grpc_web_server_proto_
subformat, server_empty, server_message_size and deadline_propagation, for methods with one request.
Those of streams of requests are `unimplemented`; duplicate_metadata asks for headers of the
service's own, which this one has none of.
"""

from __future__ import annotations

import asyncio
import gzip
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from aitbc_server.api.errors import CallError, Failure
from aitbc_server.aside import LARGE_BYTES
from aitbc_server.auth.unread import Unread
from aitbc_server.connect.app import ConnectApp
from aitbc_server.connect.envelopes import unpacked
from aitbc_server.domain import errors
from aitbc_server.rest.server import RestServer
from tests.envelopes import CODES, Ended, ended, envelope, envelopes, status_in
from tests.unit.rest.schema import Thing
from tests.unit.rest.serving import FakeBackend, client_of, echo, echo_once

# One server for all tests here: uvicorn takes a fifth of a second to stop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST_BYTES = 2000
UNARY, STREAM = "/test.ThingService/Create", "/test.ThingService/Follow"
SAFE = "/test.ThingService/Get"
THING = Thing(text_value="a ä", i64_value=2**40)
PROTO, JSON = THING.SerializeToString(), '{"textValue":"a ä","i64Value":"1099511627776"}'.encode()
# By the content type: a call of a method with one response, and of one with many.
UNARIES = {
    "application/proto": PROTO,
    "application/json": JSON,
    "application/json; charset=utf-8": JSON,
    "application/grpc-web": envelope(PROTO),
    "application/grpc-web+proto": envelope(PROTO),
    "application/grpc-web+json": envelope(JSON),
    "application/grpc-web-text": b64encode(envelope(PROTO)),
    "application/grpc-web-text+proto": b64encode(envelope(PROTO)),
}
STREAMS = {
    "application/connect+proto": envelope(PROTO),
    "application/connect+json": envelope(JSON),
    **{kind: body for kind, body in UNARIES.items() if "grpc" in kind},
}
ENVELOPED = [(UNARY, kind) for kind in UNARIES if "grpc-web+" in kind] + [
    (STREAM, kind) for kind in STREAMS if "text" not in kind
]
PLAIN_KINDS = ("application/proto", "application/json")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[tuple[FakeBackend, httpx.AsyncClient, Counter[Any]]]:
    backend, calls = FakeBackend(), Counter[Any]()
    app = ConnectApp(backend, calls, MOST_BYTES, 30.0, Unread())
    async with client_of(app) as client:
        yield backend, client, calls


@pytest.fixture
def backend(served: tuple[FakeBackend, httpx.AsyncClient, Counter[Any]]) -> FakeBackend:
    backend, _, calls = served
    backend.answer, backend.stream = echo, echo_once
    backend.request = backend.open_error = backend.refusal = None
    calls.clear()
    return backend


@pytest.fixture
def client(
    served: tuple[FakeBackend, httpx.AsyncClient, Counter[Any]], backend: FakeBackend
) -> httpx.AsyncClient:
    return served[1]


async def call(
    client: httpx.AsyncClient, path: str, kind: str, body: bytes, **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(path, content=body, headers={"content-type": kind, **named})


def text_of(kind: str) -> bytes:
    return JSON if "json" in kind else PROTO


def fails_with(error: Exception) -> Any:
    async def answer(_: Message) -> Message:
        raise error

    return answer


# basic, grpc_web_server_proto_subformat


@pytest.mark.parametrize("kind", UNARIES)
async def test_a_method_with_one_response_is_called(
    backend: FakeBackend, client: httpx.AsyncClient, kind: str
) -> None:
    response = await call(client, UNARY, kind, UNARIES[kind], x_request_id="mine")

    assert response.status_code == 200
    assert response.headers["content-type"] == kind.partition(";")[0]
    assert response.headers["x-request-id"] == "mine"
    assert backend.request == THING
    assert ended(response) == Ended([text_of(kind)], "ok")


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_method_that_streams_is_called(
    backend: FakeBackend, client: httpx.AsyncClient, kind: str
) -> None:
    async def thrice(request: Message) -> AsyncGenerator[Message, None]:
        for _ in range(3):
            yield request

    backend.stream = thrice
    response = await call(client, STREAM, kind, STREAMS[kind], x_request_id="mine")

    assert response.status_code == 200
    assert response.headers["content-type"] == kind
    assert response.headers["x-request-id"] == "mine"
    assert ended(response) == Ended([text_of(kind)] * 3, "ok")


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_stream_may_have_no_message(
    backend: FakeBackend, client: httpx.AsyncClient, kind: str
) -> None:
    async def none(_: Message) -> AsyncGenerator[Message, None]:
        return
        yield

    backend.stream = none
    assert ended(await call(client, STREAM, kind, STREAMS[kind])) == Ended([], "ok")


# server_empty


@pytest.mark.parametrize("kind", UNARIES)
async def test_a_message_may_be_empty(
    backend: FakeBackend, client: httpx.AsyncClient, kind: str
) -> None:
    empty = b"{}" if "json" in kind else b""
    body = empty if kind.partition(";")[0] in PLAIN_KINDS else envelope(empty)
    body = b64encode(body) if "text" in kind else body
    assert ended(await call(client, UNARY, kind, body)) == Ended([empty], "ok")
    assert backend.request == Thing()


# errors, connect_client_code_to_http_code

STATUSES = (499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)


@pytest.mark.parametrize(
    ("code", "status"), [*zip(list(grpc.StatusCode)[1:], STATUSES, strict=True)]
)
async def test_every_code_is_told(
    backend: FakeBackend, client: httpx.AsyncClient, code: grpc.StatusCode, status: int
) -> None:
    error = CallError(Failure(code=code, reason="WHY", message="oh, 100 % ä 💥"))
    backend.answer, backend.open_error = fails_with(error), error
    name = CODES[code.value[0]]
    # What nobody foresaw is told of as such.
    reason = "INTERNAL" if status == 500 else "WHY"

    for kind in UNARIES:
        response = await call(client, UNARY, kind, UNARIES[kind])
        is_plain = kind.partition(";")[0] in PLAIN_KINDS
        assert response.status_code == (status if is_plain else 200)
        assert ended(response) == Ended([], name, reason)
    for kind in STREAMS:
        response = await call(client, STREAM, kind, STREAMS[kind])
        assert response.status_code == 200
        assert ended(response) == Ended([], name, reason)


async def test_a_message_of_gRPC_web_is_in_unicode(  # noqa: N802 - a name
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    message = "oh, 100 % ä 💥\r\ngrpc-status: 0"
    failure = Failure(code=grpc.StatusCode.NOT_FOUND, reason="WHY", message=message)
    backend.answer = fails_with(CallError(failure))
    kind = "application/grpc-web"
    response = await call(client, UNARY, kind, UNARIES[kind])
    assert b"grpc-message: oh, 100 %25 %C3%A4 %F0%9F%92%A5%0D%0Agrpc-status: 0\r\n" in (
        response.content
    )
    assert status_in(envelopes(response.content)[-1][1]).message == message


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_stream_ends_with_its_error(
    backend: FakeBackend, client: httpx.AsyncClient, kind: str
) -> None:
    async def one(request: Message) -> AsyncGenerator[Message, None]:
        yield request
        raise errors.JobNotFound

    backend.stream = one
    response = await call(client, STREAM, kind, STREAMS[kind])
    assert ended(response) == Ended([text_of(kind)], "not_found", "JOB_NOT_FOUND")


async def test_an_error_has_the_details_that_it_has_over_gRPC(  # noqa: N802 - a name
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    backend.answer = fails_with(errors.QueueFull(retry_after_s=1.5))
    response = await call(client, UNARY, "application/json", JSON)
    assert response.headers["retry-after"] == "2"
    info, retry = response.json()["details"]
    assert info["debug"] == {"reason": "QUEUE_FULL", "domain": "aitbc.v1"}
    assert retry["type"] == "google.rpc.RetryInfo"
    assert retry["debug"] == {"retryDelay": "1.500s"}
    assert "=" not in retry["value"]

    backend.answer = fails_with(errors.InvalidArgument("params.seed", "is odd"))
    response = await call(client, UNARY, "application/json", JSON)
    bad = response.json()["details"][1]
    assert bad["type"] == "google.rpc.BadRequest"
    assert bad["debug"]["fieldViolations"][0]["field"] == "params.seed"

    response = await call(client, UNARY, "application/grpc-web", envelope(PROTO))
    violations = error_details_pb2.BadRequest()
    status_in(envelopes(response.content)[-1][1]).details[1].Unpack(violations)
    assert violations.field_violations[0].field == "params.seed"


async def test_what_nobody_foresaw_tells_nothing(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    backend.answer = fails_with(RuntimeError("a secret"))
    response = await call(client, UNARY, "application/json", JSON)
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert "secret" not in response.text


# connect_with_get


@pytest.mark.parametrize(
    "query",
    [
        {"encoding": "json", "message": '{"textValue":"a ä","i64Value":"1099511627776"}'},
        {"encoding": "proto", "base64": "1", "message": urlsafe_b64encode(PROTO).decode()},
        {"encoding": "json", "base64": "1", "message": urlsafe_b64encode(JSON + b" ").decode()},
        {"encoding": "json", "base64": "1", "message": urlsafe_b64encode(JSON).decode().strip("=")},
        {
            "encoding": "json",
            "base64": "1",
            "compression": "gzip",
            "message": urlsafe_b64encode(gzip.compress(JSON)).decode(),
            "connect": "v1",
        },
    ],
)  # fmt: skip
async def test_what_changes_nothing_is_called_by_get(
    backend: FakeBackend, client: httpx.AsyncClient, query: dict[str, str]
) -> None:
    response = await client.get(SAFE, params=query)
    assert ended(response) == Ended([JSON if query["encoding"] == "json" else PROTO], "ok")
    assert backend.request == THING


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"message": "{}"}, 400),
        ({"encoding": "json"}, 400),
        ({"encoding": "json", "message": "{}", "connect": "v2"}, 400),
        ({"encoding": "json", "message": "=%%", "base64": "1"}, 400),
        ({"encoding": "xml", "message": "{}"}, 415),
        ({"encoding": "grpc-web", "message": "{}"}, 415),
        ({"encoding": "json", "message": "{}", "compression": "br"}, 501),
        ({"encoding": "json", "message": "{}", **{f"a{n}": "" for n in range(20)}}, 400),
    ],
)
async def test_a_wrong_get_is_refused(
    client: httpx.AsyncClient, query: dict[str, str], status: int
) -> None:
    response = await client.get(SAFE, params=query)
    assert response.status_code == status
    assert response.json()["code"]


async def test_what_changes_something_is_not_called_by_get(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    response = await client.get(UNARY, params={"encoding": "json", "message": "{}"})
    assert response.status_code == 405
    assert response.headers["allow"] == "OPTIONS, POST"
    assert backend.request is None


# connect_server_unexpected, grpc_web_server_unexpected, server_unexpected


@pytest.mark.parametrize(("path", "kind"), ENVELOPED)
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda _: b"", "unimplemented"),
        (lambda one: one * 2, "unimplemented"),
        (lambda one: one[:3], "invalid_argument"),
        (lambda one: one[:-1], "invalid_argument"),
        (lambda one: b"\x02" + one[1:], "invalid_argument"),
        (lambda one: b"\x80" + one[1:], "invalid_argument"),
        (lambda one: b"\x01" + one[1:], "internal"),
        (lambda one: b"\x00\xff\xff\xff\xff" + one[5:], "resource_exhausted"),
        (lambda one: one[:4] + b"\x03" + b"\xff\xff\xff", "invalid_argument"),
    ],
    ids=["none", "two", "head", "truncated", "last", "trailers", "packed", "huge", "garbage"],
)
async def test_a_wrong_envelope_is_refused(
    backend: FakeBackend, client: httpx.AsyncClient, path: str, kind: str, change: Any, code: str
) -> None:
    body = change((UNARIES if path == UNARY else STREAMS)[kind])
    response = await call(client, path, kind, body)
    assert response.status_code == 200
    assert ended(response).code == code
    assert backend.request is None


@pytest.mark.parametrize("verb", ["DELETE", "PUT", "HEAD", "GET", "PATCH"])
async def test_an_unexpected_verb_is_refused(client: httpx.AsyncClient, verb: str) -> None:
    for path in (UNARY, STREAM):
        response = await client.request(verb, path)
        assert response.status_code == 405
        assert verb == "HEAD" or ended(response).code == "unknown"


async def test_options_say_how_a_method_is_called(client: httpx.AsyncClient) -> None:
    response = await client.options(UNARY)
    assert (response.status_code, response.headers["allow"]) == (204, "OPTIONS, POST")


@pytest.mark.parametrize("path", ["/test.ThingService/Nothing", "/test.Nothing/Create"])
async def test_an_unknown_method_is_unimplemented(client: httpx.AsyncClient, path: str) -> None:
    response = await call(client, path, "application/json", JSON)
    assert response.status_code == 404
    assert ended(response) == Ended([], "unimplemented", "ROUTE_NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (UNARY, "image/jpeg"),
        (UNARY, "text/plain"),
        (UNARY, ""),
        (UNARY, "application/foo"),
        (UNARY, "application/json; charset=latin-1"),
        (UNARY, "application/connect+json"),
        (UNARY, "application/grpc"),
        (UNARY, "application/grpc-web+foo"),
        (STREAM, "application/json"),
        (STREAM, "application/connect+foo"),
        (STREAM, "application/x-www-form-urlencoded"),
    ],
)
async def test_an_unexpected_type_is_refused(
    backend: FakeBackend, client: httpx.AsyncClient, path: str, kind: str
) -> None:
    response = await call(client, path, kind, JSON)
    assert response.status_code == 415
    assert "application/grpc-web" in response.headers["accept-post"]
    assert ended(response) == Ended([], "unknown", "UNSUPPORTED_MEDIA_TYPE")
    assert backend.request is None


async def test_the_version_is_checked(client: httpx.AsyncClient) -> None:
    known = await call(client, UNARY, "application/json", JSON, connect_protocol_version="1")
    assert known.status_code == 200
    other = await call(client, UNARY, "application/json", JSON, connect_protocol_version="2")
    assert ended(other).code == "invalid_argument"


# Compression


def coding_of(kind: str) -> str:
    if "grpc" in kind:
        return "grpc-encoding"
    return "connect-content-encoding" if "connect" in kind else "content-encoding"


@pytest.mark.parametrize("kind", [*UNARIES, *STREAMS])
async def test_a_request_may_be_packed(
    backend: FakeBackend, client: httpx.AsyncClient, kind: str
) -> None:
    path = STREAM if "connect" in kind else UNARY
    packed = gzip.compress(text_of(kind))
    body = packed if kind.partition(";")[0] in PLAIN_KINDS else envelope(packed, 1)
    body = b64encode(body) if "text" in kind else body
    response = await call(client, path, kind, body, **{coding_of(kind): "gzip"})
    assert ended(response).code == "ok"
    assert backend.request == THING


@pytest.mark.parametrize("kind", [*UNARIES, *STREAMS])
async def test_an_unexpected_compression_is_refused(client: httpx.AsyncClient, kind: str) -> None:
    path, bodies = (STREAM, STREAMS) if "connect" in kind else (UNARY, UNARIES)
    response = await call(client, path, kind, bodies[kind], **{coding_of(kind): "foo"})
    assert ended(response) == Ended([], "unimplemented", "UNIMPLEMENTED")


PACKED = gzip.compress(PROTO)
BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("packed", "code"),
    [
        (b"no gzip", "invalid_argument"),
        (PACKED[:-4], "invalid_argument"),
        (PACKED + b"more", "invalid_argument"),
        (PACKED * 2, "invalid_argument"),
        (gzip.compress(bytes(MOST_BYTES + 1)), "resource_exhausted"),
        (BOMB[:MOST_BYTES], "resource_exhausted"),
    ],
)
async def test_a_packed_message_is_bounded(
    backend: FakeBackend, client: httpx.AsyncClient, packed: bytes, code: str
) -> None:
    plain = await call(client, UNARY, "application/proto", packed, content_encoding="gzip")
    assert ended(plain).code == code
    body = envelope(packed, 1)
    stream = await call(
        client, STREAM, "application/connect+proto", body, connect_content_encoding="gzip"
    )
    assert ended(stream).code == code
    web = await call(client, UNARY, "application/grpc-web", body, grpc_encoding="gzip")
    assert ended(web).code == code
    assert backend.request is None


@pytest.mark.parametrize("more", [-1, 0, 1, 2, 100, 70_000])
async def test_what_is_packed_comes_out_whole(more: int) -> None:
    # Around the size from which it is done beside the loop.
    data = bytes(LARGE_BYTES + more)
    assert await unpacked(gzip.compress(data), most=len(data)) == data
    with pytest.raises(errors.PayloadTooLarge):
        await unpacked(gzip.compress(data), most=len(data) - 1)


async def test_what_is_empty_is_not_packed(backend: FakeBackend, client: httpx.AsyncClient) -> None:
    kind, body = "application/grpc-web", envelope(b"", 1)
    assert ended(await call(client, UNARY, kind, body, grpc_encoding="gzip")).code == "ok"
    plain = await call(client, UNARY, "application/proto", b"", content_encoding="gzip")
    assert ended(plain).code == "ok"


# server_message_size


@pytest.mark.parametrize("kind", [*UNARIES, *STREAMS])
@pytest.mark.parametrize("more", [0, 1])
async def test_a_message_is_as_large_as_it_may_be(
    client: httpx.AsyncClient, kind: str, more: int
) -> None:
    size = MOST_BYTES + more
    if "json" in kind:
        text = b'{"textValue":"%b"}' % (b"a" * (size - 16))
    else:
        text = Thing(text_value="a" * (size - 3)).SerializeToString()
    assert len(text) == size
    body = text if kind.partition(";")[0] in PLAIN_KINDS else envelope(text)
    body = b64encode(body) if "text" in kind else body
    response = await call(client, STREAM if "connect" in kind else UNARY, kind, body)
    assert ended(response).code == ("resource_exhausted" if more else "ok")


async def test_a_body_of_unknown_length_is_bounded(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"a" * MOST_BYTES

    for kind in ("application/json", "application/grpc-web", "application/grpc-web-text"):
        response = await client.post(UNARY, content=endless(), headers={"content-type": kind})
        assert ended(response).code == "resource_exhausted"
    assert backend.request is None


# deadline_propagation


@pytest.mark.parametrize("kind", [*UNARIES, *STREAMS])
async def test_a_call_lasts_as_long_as_its_client_waits(
    backend: FakeBackend, client: httpx.AsyncClient, kind: str
) -> None:
    async def never(request: Message) -> Message:
        await asyncio.Event().wait()
        return request

    async def one(request: Message) -> AsyncGenerator[Message, None]:
        yield request
        await asyncio.Event().wait()

    backend.answer, backend.stream = never, one
    path, bodies = (STREAM, STREAMS) if "connect" in kind else (UNARY, UNARIES)
    wait = {"grpc-timeout": "200m"} if "grpc" in kind else {"connect-timeout-ms": "200"}
    response = await call(client, path, kind, bodies[kind], **wait)
    over = ended(response)
    assert (over.code, over.reason) == ("deadline_exceeded", "DEADLINE_EXCEEDED")
    assert len(over.messages) == ("connect" in kind)


@pytest.mark.parametrize("said", ["", "-1", "1.5", "12345678901", "1S", "soon"])
async def test_a_wrong_timeout_is_refused(client: httpx.AsyncClient, said: str) -> None:
    response = await call(client, UNARY, "application/json", JSON, connect_timeout_ms=said)
    assert ended(response).code == "invalid_argument"
    response = await call(
        client, UNARY, "application/grpc-web", envelope(PROTO), grpc_timeout=said or "5"
    )
    assert ended(response).code == ("ok" if said == "1S" else "invalid_argument")


async def test_the_longest_timeout_is_taken(client: httpx.AsyncClient) -> None:
    web = await call(
        client, UNARY, "application/grpc-web", envelope(PROTO), grpc_timeout="99999999H"
    )
    assert ended(web).code == "ok"
    plain = await call(client, UNARY, "application/json", JSON, connect_timeout_ms="9" * 10)
    assert ended(plain).code == "ok"


# Bounds, texts, and ends


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"free_value":' + b'{"a":' * 40 + b"1" + b"}" * 41, b"{", b"[]", b"\xff",
     b'{"textValue":"a","textValue":"b"}', b'{"text_value":"a","textValue":"b"}'],
)  # fmt: skip
async def test_json_is_bounded_and_names_come_once(
    backend: FakeBackend, client: httpx.AsyncClient, body: bytes
) -> None:
    response = await call(client, UNARY, "application/json", body[:MOST_BYTES])
    assert ended(response).code == "invalid_argument"
    assert backend.request is None


@pytest.mark.parametrize("body", [b"AAAA*AAA", b"=AAA", b"A", b"AAAA\n", b"QUI=QQ"])
async def test_what_is_no_base64_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    response = await call(client, UNARY, "application/grpc-web-text", body)
    assert ended(response).code == "invalid_argument"


async def test_a_text_may_have_padding_in_it(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    one = envelope(PROTO)
    parts = b64encode(one[:4]) + b64encode(one[4:8]) + b64encode(one[8:])
    assert ended(await call(client, UNARY, "application/grpc-web-text", parts)).code == "ok"
    assert backend.request == THING


async def test_who_is_not_let_in_is_told_so_before_its_message_is_read(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    backend.refusal = errors.Unauthenticated()
    for kind in UNARIES:
        response = await call(client, UNARY, kind, b"\xff")
        assert ended(response).code == "unauthenticated"
        if kind == "application/json":
            assert response.headers["www-authenticate"].startswith("Bearer")
    for kind in STREAMS:
        assert ended(await call(client, STREAM, kind, b"\xff")).code == "unauthenticated"


async def test_a_stream_ends_with_its_client(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    is_over = asyncio.Event()

    async def one(request: Message) -> AsyncGenerator[Message, None]:
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            is_over.set()

    backend.stream = one
    for kind in STREAMS:
        is_over.clear()
        headers = {"content-type": kind}
        async with client.stream("POST", STREAM, content=STREAMS[kind], headers=headers) as begun:
            await anext(begun.aiter_raw())
        async with asyncio.timeout(10):
            await is_over.wait()


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_stream_is_told_that_the_server_stops(kind: str) -> None:
    has_begun = asyncio.Event()

    async def one(request: Message) -> AsyncGenerator[Message, None]:
        yield request
        has_begun.set()
        await asyncio.Event().wait()

    backend = FakeBackend()
    backend.stream = one
    server = RestServer(ConnectApp(backend, Counter(), MOST_BYTES, 30.0, Unread()))
    await server.start("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        asked = asyncio.create_task(call(client, STREAM, kind, STREAMS[kind]))
        await has_begun.wait()
        await server.stop(grace_s=0)
        over = ended(await asked)
    assert (len(over.messages), over.code, over.reason) == (1, "unavailable", "DRAINING")


async def test_calls_are_counted_by_method_and_by_how_they_end(
    served: tuple[FakeBackend, httpx.AsyncClient, Counter[Any]], backend: FakeBackend
) -> None:
    _, client, calls = served
    await call(client, UNARY, "application/json", JSON)
    await call(client, STREAM, "application/connect+json", envelope(JSON))
    await call(client, UNARY, "application/grpc-web", b"")
    backend.open_error = errors.JobNotFound()
    await call(client, STREAM, "application/connect+json", envelope(JSON))
    await call(client, "/x", "application/json", b"")
    assert calls == {
        ("Create", "200"): 1,
        ("Follow", "200"): 1,
        ("Create", "501"): 1,
        ("Follow", "404"): 1,
        ("", "404"): 1,
    }


async def test_an_envelope_says_no_more_than_it_has() -> None:
    assert envelopes(envelope(b"a") + envelope(b"", 2)) == [(0, b"a"), (2, b"")]
