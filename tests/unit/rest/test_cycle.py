"""How responses are sent: whole ones at once, and none with a field that ends too early."""

from __future__ import annotations

import asyncio

import pytest

from aitbc_server.rest.asgi import Event, Receive, Scope, Send
from aitbc_server.rest.server import RestServer

PATIENCE_S = 20.0


def start(**headers: str) -> Event:
    """Returns the event that begins a response."""
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": fields}


def body(content: bytes, *, more: bool = False) -> Event:
    """Returns an event with some of the body."""
    return {"type": "http.response.body", "body": content, "more_body": more}


async def answer(*events: Event, method: str = "GET") -> tuple[str, str]:
    """Returns the head and the body of what is sent for these events, without the date."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)

    server = RestServer(app)
    await server.start("127.0.0.1", 0)
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(f"{method} / HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().strip()
            await server.stop(grace_s=0)
            content = (await reader.read()).decode()
            writer.close()
    finally:
        await server.stop(grace_s=0)
    lines = [line for line in head.split("\r\n") if not line.startswith("date: ")]
    return "\n".join(lines), content


async def test_a_whole_response_has_its_fields_as_they_were_given() -> None:
    head, content = await answer(start(content_length="5", x_tab="a\tb"), body(b"hello"))
    assert head == "HTTP/1.1 200 OK\ncontent-length: 5\nx-tab: a\tb"
    assert content == "hello"


async def test_a_response_in_pieces_is_sent_as_it_comes() -> None:
    pieces = body(b"hel", more=True), body(b"lo")
    assert await answer(start(content_length="5"), *pieces) == (
        "HTTP/1.1 200 OK\ncontent-length: 5",
        "hello",
    )
    head, content = await answer(start(), *pieces)
    assert head == "HTTP/1.1 200 OK\ntransfer-encoding: chunked"
    assert content == "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"


async def test_an_answer_to_head_tells_the_length_of_what_it_leaves_out() -> None:
    sent = await answer(start(content_length="5"), body(b""), method="HEAD")
    assert sent == ("HTTP/1.1 200 OK\ncontent-length: 5", "")


@pytest.mark.parametrize("value", ["a\r\nset-cookie: b", "a\nb", "a\rb", "a\0b"])
async def test_no_value_ends_its_field(value: str) -> None:
    head, content = await answer(start(content_length="5", x_id=value), body(b"hello"))
    assert head.startswith("HTTP/1.1 500 ")
    assert "x-id" not in head
    assert content == "Internal Server Error"


async def test_a_body_of_another_length_is_not_sent_as_if_it_were_whole() -> None:
    head, content = await answer(start(content_length="3"), body(b"hello"))
    assert "content-length: 3" in head
    assert content == ""
