"""Streams of messages over HTTP, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import httpx
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from aitbc_server.auth.unread import Unread
from aitbc_server.domain.errors import JobNotFound, StorageUnavailable
from aitbc_server.rest import stream
from aitbc_server.rest.app import RestApp
from aitbc_server.rest.asgi import Event
from aitbc_server.rest.reader import Reader
from aitbc_server.rest.server import RestServer
from tests.unit.rest.schema import Thing
from tests.unit.rest.serving import FakeBackend, client_of, echo_once

pytestmark = pytest.mark.asyncio(loop_scope="module")

RED = 2
DEADLINE_S = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[tuple[FakeBackend, httpx.AsyncClient]]:
    backend = FakeBackend()
    async with client_of(RestApp(backend)) as client:
        yield backend, client


@pytest.fixture
def backend(served: tuple[FakeBackend, httpx.AsyncClient]) -> FakeBackend:
    backend, _ = served
    backend.stream, backend.open_error = echo_once, None
    return backend


@pytest.fixture
def client(
    served: tuple[FakeBackend, httpx.AsyncClient], backend: FakeBackend
) -> httpx.AsyncClient:
    return served[1]


async def two(_: Message) -> AsyncGenerator[Message, None]:
    yield Thing(color=RED, i32_value=7, text_value="é\n")
    yield Thing(i32_value=8)


async def none(_: Message) -> AsyncGenerator[Message, None]:
    return
    yield


async def one_and_an_error(_: Message) -> AsyncGenerator[Message, None]:
    yield Thing(i32_value=1)
    raise StorageUnavailable


async def test_messages_are_events_with_their_name_and_id(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    backend.stream = two

    response = await client.get("/things/a/events", headers={"accept": "text/event-stream"})

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.text == (
        'event: red\nid: 7\ndata: {"text_value":"é\\n","i32_value":7,"color":"red"}\n\n'
        'id: 8\ndata: {"i32_value":8}\n\n'
    )


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/html, application/jsonl;q=0.5"])
async def test_messages_are_lines_for_who_asks_so(
    backend: FakeBackend, client: httpx.AsyncClient, accept: str
) -> None:
    backend.stream = two

    response = await client.get("/things/a/events", headers={"accept": accept})

    assert response.headers["content-type"] == "application/x-ndjson"
    first, second = response.text.splitlines()
    assert first == '{"text_value":"é\\n","i32_value":7,"color":"red"}'
    assert second == '{"i32_value":8}'


async def test_an_error_before_the_first_byte_is_an_ordinary_one(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    backend.open_error = JobNotFound()

    response = await client.get("/things/a/events")

    assert response.status_code == 404
    assert response.json()["error_code"] == "JOB_NOT_FOUND"


async def test_an_error_after_it_is_the_last_event(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    backend.stream = one_and_an_error

    events = await client.get("/things/a/events")
    lines = await client.get("/things/a/events", headers={"accept": "application/x-ndjson"})

    error = (
        '{"detail":"the coordinator cannot reach its storage","error_code":"STORAGE_UNAVAILABLE"}'
    )
    assert events.text == f'id: 1\ndata: {{"i32_value":1}}\n\nevent: error\ndata: {error}\n\n'
    assert lines.text == f'{{"i32_value":1}}\n{{"error":{error}}}\n'


async def test_a_stream_without_a_message_may_have_a_status_of_its_own(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    backend.stream = none

    response = await client.get("/things/a/events")

    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize(
    ("query", "method"), [("", "Create"), ("?stream=true", "Make"), ("?stream=false", "Create")]
)
async def test_the_query_chooses_between_methods_of_one_binding(
    backend: FakeBackend, client: httpx.AsyncClient, query: str, method: str
) -> None:
    response = await client.post(f"/things{query}", json={"text_value": "a"})

    assert response.status_code == 201
    assert backend.method == method
    assert backend.request == Thing(text_value="a")


@pytest.mark.parametrize("query", ["stream=perhaps", "stream=true&stream=true"])
async def test_another_choice_is_refused(client: httpx.AsyncClient, query: str) -> None:
    response = await client.post(f"/things?{query}", json={})

    assert response.status_code == 400
    assert "stream" in response.json()["detail"]


async def test_head_tells_the_status_alone(client: httpx.AsyncClient) -> None:
    response = await client.head("/things/a/events")

    assert (response.status_code, response.content) == (200, b"")


async def test_a_stream_ends_when_its_client_goes(
    backend: FakeBackend, client: httpx.AsyncClient
) -> None:
    closed = asyncio.Event()

    async def endless(_: Message) -> AsyncGenerator[Message, None]:
        try:
            yield Thing(i32_value=1)
            await asyncio.Event().wait()
        finally:
            closed.set()

    backend.stream = endless
    async with client.stream("GET", "/things/a/events") as response:
        await anext(response.aiter_bytes())

    async with asyncio.timeout(DEADLINE_S):
        await closed.wait()


async def test_a_silent_stream_is_kept_alive(
    backend: FakeBackend, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_HEARTBEAT_S", 0.01)
    is_over = asyncio.Event()

    async def silent(_: Message) -> AsyncGenerator[Message, None]:
        yield Thing(i32_value=1)
        await is_over.wait()

    backend.stream = silent
    async with client.stream("GET", "/things/a/events") as response:
        received = ""
        async with asyncio.timeout(DEADLINE_S):
            async for text in response.aiter_text():
                received += text
                if received.endswith(":\n\n"):
                    is_over.set()

    assert received.startswith('id: 1\ndata: {"i32_value":1}\n\n:\n\n')


class Clock:
    """The part of an event loop that knows the time, which the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self._due.append((self.now + delay_s, call))
        return asyncio.TimerHandle(0, call, (), asyncio.get_running_loop())

    async def to(self, now: float) -> None:
        """Lets time pass, and all happen that is due then."""
        while self._due and min(self._due)[0] <= now:
            self.now, call = min(self._due)
            self._due.remove((self.now, call))
            call()
            # The heartbeat is a task.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self.now = now


async def test_heartbeats_come_every_15_s_after_the_last_word() -> None:
    sent: list[tuple[float, bytes]] = []
    clock = Clock()

    async def send(event: Event) -> None:
        if "body" in event:
            sent.append((clock.now, event["body"]))

    async def receive() -> Event:
        await asyncio.Event().wait()
        raise AssertionError

    body = stream.Body(Reader({}, send, Unread()), receive, b":")
    body._loop = clock  # type: ignore[assignment]
    async with body:
        await body.start(200, ())
        # Soon after the beat was set for the head.
        await clock.to(1)
        await body.write(b"a")
        await clock.to(20)
        await body.write(b"b")
        await clock.to(70)
        await body.end()
    assert sent == [
        (1, b"a"),
        (16, b":"),
        (20, b"b"),
        (35, b":"),
        (50, b":"),
        (65, b":"),
        (70, b""),
    ]


async def test_a_stream_is_told_that_the_server_stops(backend: FakeBackend) -> None:
    async def endless(_: Message) -> AsyncGenerator[Message, None]:
        yield Thing(i32_value=1)
        await asyncio.Event().wait()

    backend.stream = endless
    server = RestServer(RestApp(backend))
    await server.start("127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.port}/things/a/events"
    async with httpx.AsyncClient() as client, client.stream("GET", url) as response:
        chunks = response.aiter_text()
        received = await anext(chunks)
        stopping = asyncio.create_task(server.stop(grace_s=0))
        received += "".join([text async for text in chunks])
        await stopping

    assert 'event: error\ndata: {"detail":"the coordinator is draining"' in received
