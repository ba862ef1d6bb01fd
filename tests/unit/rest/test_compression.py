"""Responses are compressed for clients that ask for it."""

from __future__ import annotations

import gzip

import httpx
import pytest

from aitbc_server.rest.asgi import Receive, Response, Scope, Send, send_response
from aitbc_server.rest.compression import Compressed

TEXT = b'{"detail": "' + b"words, " * 300 + b'"}'
LARGE = TEXT * 400


def answers(body: bytes, kind: bytes = b"application/json", **headers: bytes) -> httpx.AsyncClient:
    """Returns a client of an application that answers with this."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        told += [(name.encode(), value) for name, value in headers.items()]
        await send_response(send, Response(200, told, body), with_body=scope["method"] != "HEAD")

    transport = httpx.ASGITransport(Compressed(app))
    return httpx.AsyncClient(transport=transport, base_url="http://api.example")


async def raw(client: httpx.AsyncClient, asked: str | None, method: str = "GET") -> httpx.Response:
    """Returns a response whose content is what was sent."""
    headers = {"accept-encoding": asked or ""}
    async with client, client.stream(method, "/", headers=headers) as response:
        response._content = b"".join([part async for part in response.aiter_raw()])
    return response


@pytest.mark.parametrize(
    "asked", ["gzip", "deflate, GZIP;q=0.5", "br, *", "gzip, deflate, br, zstd"]
)
@pytest.mark.parametrize("body", [TEXT, LARGE])
async def test_who_asks_is_answered_with_less(asked: str, body: bytes) -> None:
    response = await raw(answers(body), asked)
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["vary"] == "accept-encoding"
    assert int(response.headers["content-length"]) == len(response.content) < len(body) / 5
    assert gzip.decompress(response.content) == body


@pytest.mark.parametrize("asked", [None, "identity", "br", "gzip;q=0", "gzip; q=0.000, br"])
async def test_who_does_not_ask_is_answered_as_before(asked: str | None) -> None:
    response = await raw(answers(TEXT), asked)
    assert "content-encoding" not in response.headers
    assert response.content == TEXT


@pytest.mark.parametrize(
    "client",
    [
        answers(b"{}"),
        answers(TEXT, b"application/octet-stream"),
        # Named as it is.
        answers(TEXT, etag=b'"x"'),
    ],
)
async def test_what_gains_nothing_is_sent_as_it_is(client: httpx.AsyncClient) -> None:
    response = await raw(client, "gzip")
    assert "content-encoding" not in response.headers


async def test_a_head_says_what_it_said_before() -> None:
    response = await raw(answers(TEXT), "gzip", "HEAD")
    assert response.headers["content-length"] == str(len(TEXT))


async def test_a_stream_is_sent_as_it_is_made() -> None:
    parts: list[bytes] = [b"data: one\n\n" * 200, b"data: two\n\n"]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            assert sent[-1] == part
        await send({"type": "http.response.body", "body": b""})

    sent: list[bytes] = []

    async def send(event: dict[str, object]) -> None:
        sent.append(event.get("body", b""))  # type: ignore[arg-type]

    scope = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", b"gzip")]}
    await Compressed(app)(scope, None, send)  # type: ignore[arg-type]
    assert sent == [b"", *parts, b""]
