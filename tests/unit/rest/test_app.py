from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
import structlog
from google.protobuf.message import Message
from structlog.testing import LogCapture

from aitbc_server.api.errors import CallError, Failure
from aitbc_server.domain import errors
from aitbc_server.rest import errors as rest_errors
from aitbc_server.rest.app import RestApp
from tests.unit.rest.schema import EMPTY, Thing
from tests.unit.rest.serving import FakeBackend, client_of, echo

# One server for all tests here: uvicorn takes a fifth of a second to stop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_BODY_BYTES = 2000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[tuple[FakeBackend, httpx.AsyncClient]]:
    backend = FakeBackend()
    async with client_of(RestApp(backend, max_body_bytes=MAX_BODY_BYTES)) as client:
        yield backend, client


@pytest.fixture
def backend(served: tuple[FakeBackend, httpx.AsyncClient]) -> FakeBackend:
    backend, _ = served
    backend.answer = echo
    backend.request = None
    return backend


@pytest.fixture
def client(
    served: tuple[FakeBackend, httpx.AsyncClient], backend: FakeBackend
) -> httpx.AsyncClient:
    return served[1]


def error_of(response: httpx.Response) -> tuple[int, str]:
    """Returns the status and the code of an error; every error has the same two fields."""
    body = response.json()
    assert set(body) == {"detail", "error_code"}
    assert body["detail"]
    assert response.headers["content-type"] == "application/json"
    return response.status_code, body["error_code"]


def fails_with(error: Exception) -> Any:
    async def answer(_: Message) -> Message:
        raise error

    return answer


# Requests.


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_the_body_is_the_request(
    backend: FakeBackend, client: httpx.AsyncClient, prefix: str
) -> None:
    response = await client.post(f"{prefix}/things", json={"text_value": "a", "i32Value": 1})

    assert backend.request == Thing(text_value="a", i32_value=1)
    assert response.json() == {**EMPTY, "text_value": "a", "i32_value": 1}
    assert response.headers["content-type"] == "application/json"


async def test_path_and_query_are_the_request(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    await client.get("/things/a%2Fb", params={"i32_value": 1, "child.text_value": "c"})

    assert backend.method == "Get"
    assert backend.request == Thing(text_value="a/b", i32_value=1, child={"text_value": "c"})


async def test_a_second_binding_of_a_method_works(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    await client.get("/all/a/b")

    assert (backend.method, backend.request) == ("Search", Thing(left="a/b"))


async def test_a_custom_http_method_works(backend: FakeBackend, client: httpx.AsyncClient) -> None:
    await client.request("REPORT", "/things/a")

    assert backend.method == "Watch"


async def test_a_body_may_be_one_field(backend: FakeBackend, client: httpx.AsyncClient) -> None:
    await client.put("/things/a/child?i32_value=1", json={"i32_value": 2})

    assert backend.request == Thing(text_value="a", i32_value=1, child={"i32_value": 2})


async def test_a_path_may_bind_a_nested_field(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    await client.post("/under/shelves/7:move", json={"child": {"i32_value": 1}})

    assert backend.request == Thing(child={"text_value": "shelves/7", "i32_value": 1})


@pytest.mark.parametrize("content", [b"", b"{}", b" {} ", b'{"left": null}'])
async def test_an_empty_body_is_an_empty_object(
    backend: FakeBackend, client: httpx.AsyncClient, content: bytes
) -> None:
    response = await client.post("/things", content=content)

    assert response.status_code == 201
    assert backend.request == Thing()


async def test_the_body_of_a_get_is_ignored(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    response = await client.request("GET", "/things/a", content=b"not json" * 1000)

    assert response.status_code == 200
    assert backend.request == Thing(text_value="a")


async def test_headers_reach_the_backend(backend: FakeBackend, client: httpx.AsyncClient) -> None:
    await client.get("/things/a", headers={"X-Api-Key": "secret"})

    assert backend.metadata["x-api-key"] == "secret"


async def test_a_body_in_pieces_is_put_together(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"text', b'_value":', b'"a"}'):
            yield piece

    await client.post("/things", content=pieces())

    assert backend.request == Thing(text_value="a")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/problem+json",
    ],
)
async def test_json_is_accepted(client: httpx.AsyncClient, content_type: str) -> None:
    response = await client.post("/things", content=b"{}", headers={"content-type": content_type})

    assert response.status_code == 201


# Refusals.


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": ""},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_what_is_not_json_is_refused(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await client.post("/things", content=b"{}", headers=headers)

    assert error_of(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "content",
    [b"{", b"nothing", b"[]", b"1", b"null", b'"x"', b'{"left": "\xff"}', b"[" * 1500, b"{} {}"],
)
async def test_a_body_that_is_no_json_object_is_refused(
    client: httpx.AsyncClient, content: bytes
) -> None:
    assert error_of(await client.post("/things", content=content)) == (400, "INVALID_JSON")


async def test_a_message_nested_too_deeply_is_refused() -> None:
    deep = b'{"child":' * 1000 + b"{}" + b"}" * 1000
    async with client_of(RestApp(FakeBackend())) as client:
        response = await client.post("/things", content=deep)

    assert error_of(response) == (400, "INVALID_JSON")


@pytest.mark.parametrize(
    ("http_method", "url", "json", "detail"),
    [
        ("POST", "/things", {"child": {"text": 1}}, "child.text: unknown field"),
        ("POST", "/things", {"i32_value": "1"}, "i32_value: must be an integer"),
        ("POST", "/things?left=a", {}, "left: unknown query parameter"),
        ("GET", "/things?nothing=1", None, "nothing: unknown query parameter"),
        ("GET", "/things?i32_value=x", None, "i32_value: must be an integer"),
        ("GET", "/things/a?text_value=b", None, "text_value: unknown query parameter"),
        ("PUT", "/things/a/child?child.left=x", {}, "child.left: unknown query parameter"),
        ("PUT", "/things/a/child", [], "child: must be an object"),
        ("POST", "/under/shelves/7:move", {"child": {"text_value": "x"}}, "child.text_value: diff"),
        ("GET", "/things/%zz", None, "path: a percent sign"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, http_method: str, url: str, json: Any, detail: str
) -> None:
    response = await client.request(http_method, url, json=json)

    assert error_of(response) == (400, "INVALID_ARGUMENT")
    assert response.json()["detail"].startswith(detail)


@pytest.mark.parametrize(
    "url", ["/nothing", "/api/nothing", "/apithings", "/things/a/b/c", "/", "/api"]
)
async def test_an_unknown_path_is_not_found(client: httpx.AsyncClient, url: str) -> None:
    assert error_of(await client.get(url)) == (404, "ROUTE_NOT_FOUND")


async def test_a_wrong_method_names_the_right_ones(client: httpx.AsyncClient) -> None:
    response = await client.delete("/api/things")

    assert error_of(response) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_options_names_the_methods(client: httpx.AsyncClient) -> None:
    response = await client.options("/things/a")

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, REPORT"


async def test_a_body_too_large_is_refused_by_its_declared_length(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/things", content=b" " * (MAX_BODY_BYTES + 1))

    assert error_of(response) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_too_large_is_refused_without_reading_the_rest(
    client: httpx.AsyncClient,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(b"POST /things HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(3):
        writer.write(b"%x\r\n%s\r\n" % (1000, b" " * 1000))

    # The body never ends, and yet there is an answer.
    status = await reader.readline()
    await reader.readuntil(b"PAYLOAD_TOO_LARGE")
    writer.close()
    await writer.wait_closed()

    assert status.startswith(b"HTTP/1.1 413")


# Responses.


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    head, get = await client.head("/things/a"), await client.get("/things/a")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(("fields", "status"), [({}, 201), ({"maybe_text": ""}, 200)])
async def test_what_exists_already_is_200(
    client: httpx.AsyncClient, fields: dict[str, Any], status: int
) -> None:
    assert (await client.post("/things", json=fields)).status_code == status


async def test_an_empty_response_has_a_status_of_its_own(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    empty = await client.get("/poll")
    full = await client.get("/poll?child.i32_value=1")

    assert (empty.status_code, empty.content) == (204, b"")
    assert "content-type" not in empty.headers
    assert (full.status_code, full.json()) == (200, {"i32_value": 1})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidArgument("a", "b"), 400, "INVALID_ARGUMENT"),
        (errors.ModelNotOffered("model", "x"), 400, "MODEL_NOT_OFFERED"),
        (errors.JobNotFound(), 404, "JOB_NOT_FOUND"),
        (errors.LeaseLost("gone"), 409, "LEASE_LOST"),
        (
            CallError(Failure(code=grpc.StatusCode.PERMISSION_DENIED, reason="X", message="y")),
            403,
            "X",
        ),
        (
            CallError(Failure(code=grpc.StatusCode.DEADLINE_EXCEEDED, reason="X", message="y")),
            504,
            "X",
        ),
    ],
)
async def test_an_error_keeps_its_reason(
    backend: FakeBackend, client: httpx.AsyncClient, error: Exception, status: int, code: str
) -> None:
    backend.answer = fails_with(error)

    assert error_of(await client.get("/things/a")) == (status, code)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.QueueFull(), 429, "1"),
        (errors.QueueFull(retry_after_s=0.2), 429, "1"),
        (errors.QueueFull(retry_after_s=2.1), 429, "3"),
        (errors.Draining(), 503, "1"),
    ],
)
async def test_a_refusal_for_now_says_when_to_come_back(
    backend: FakeBackend,
    client: httpx.AsyncClient,
    error: Exception,
    status: int,
    retry_after: str,
) -> None:
    backend.answer = fails_with(error)

    response = await client.get("/things/a")

    assert response.status_code == status
    assert response.headers["retry-after"] == retry_after


async def test_an_unforeseen_error_tells_nothing(
    backend: FakeBackend, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = LogCapture()
    monkeypatch.setattr(rest_errors, "_log", structlog.wrap_logger(None, processors=[logged]))
    backend.answer = fails_with(ZeroDivisionError("inside"))

    response = await client.get("/things/a-secret-prompt")

    assert error_of(response) == (500, "INTERNAL")
    assert "inside" not in response.text
    assert [entry["error"] for entry in logged.entries] == ["ZeroDivisionError"]


async def test_an_internal_error_from_elsewhere_tells_nothing(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    failure = Failure(code=grpc.StatusCode.UNKNOWN, reason="UNKNOWN", message="trace")
    backend.answer = fails_with(CallError(failure))

    response = await client.get("/things/a")

    assert error_of(response) == (500, "INTERNAL")
    assert "trace" not in response.text


# Connections.


async def test_a_long_call_ends_when_its_client_goes(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_ever(request: Message) -> Message:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return request

    backend.answer = wait_for_ever
    _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(b"GET /things/a HTTP/1.1\r\nhost: x\r\n\r\n")
    await asyncio.wait_for(started.wait(), timeout=5)
    writer.close()
    await writer.wait_closed()

    await asyncio.wait_for(ended.wait(), timeout=5)


async def test_a_long_call_is_answered_when_its_client_stays(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    watched = asyncio.Event()
    # The watch begins a little later than the call: this timer, set after its one, fires after it.
    asyncio.get_running_loop().call_later(0.3, watched.set)

    async def answer_late(request: Message) -> Message:
        await watched.wait()
        return request

    backend.answer = answer_late

    # The second request shows that the watch left the connection as it was.
    for _ in range(2):
        answer = await client.post("/things", json={"left": "a"})
        assert answer.json() == {**EMPTY, "left": "a"}


async def test_other_protocols_are_turned_away() -> None:
    app = RestApp(FakeBackend())
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        return next(events)

    async def send(event: Any) -> None:
        sent.append(event["type"])

    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket", "path": "/"}, receive, send)

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]
