"""What the parts of conversations refer to, fetched from a server that the test runs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from aitbc_miner.engines import media as media_module
from aitbc_miner.engines.base import Message
from aitbc_miner.engines.media import Media
from aitbc_miner.errors import BadRequest, EngineFailed

PNG = b"\x89PNG and so on"
ALL = ("image", "video", "audio")


class Server:
    """Answers each path with what a test says."""

    def __init__(self) -> None:
        self.url = ""
        self.answers = {"/a.png": _answer(PNG, b"image/png; x=y")}
        self.asked: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        self.asked.append(path)
        if path != "/silent":
            writer.write(self.answers.get(path, b"HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n"))
            await writer.drain()
        else:
            await reader.read()
        writer.close()


def _answer(body: bytes, kind: bytes = b"", status: bytes = b"200", more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 " + status + b" x\r\ncontent-type: " + kind + b"\r\n" + more
    return head + b"content-length: " + str(len(body)).encode() + b"\r\n\r\n" + body


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    listening = await asyncio.start_server(served, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield served


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def said(*parts: dict[str, Any]) -> list[Message]:
    text = {"type": "text", "text": "look"}
    return [
        Message(role="system", content="s"),
        Message(role="user", content="look", parts=[text, *parts]),
    ]


async def refusal(media: Media, *parts: dict[str, Any], taken: Sequence[str] = ALL) -> str:
    with pytest.raises(BadRequest) as caught:
        await media.fetch(said(*parts), taken)
    return str(caught.value)


async def test_what_a_url_leads_to_comes_with_the_conversation(server: Server) -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}
    first, second = await Media(allows_private=True).fetch(
        said(image(f"{server.url}/a.png"), image("data:image/png;base64,QUJD"), audio), ALL
    )
    assert first == Message(role="system", content="s")
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    _text, *parts = second["parts"]
    assert parts == [image(url), image("data:image/png;base64,QUJD"), audio]


async def test_it_follows_where_it_is_sent_a_few_times(server: Server) -> None:
    server.answers["/moved"] = _answer(b"", status=b"302", more=b"location: /a.png\r\n")
    server.answers["/round"] = _answer(b"", status=b"302", more=b"location: /round\r\n")
    media = Media(allows_private=True)
    (_, turn) = await media.fetch(said(image(f"{server.url}/moved")), ALL)
    assert turn["parts"][1]["image_url"]["url"].startswith("data:image/png;")
    assert "redirected" in await refusal(media, image(f"{server.url}/round"))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"],
)
async def test_nobody_is_sent_into_the_miners_own_network(server: Server, address: str) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return [address]

    told = await refusal(Media(resolve=resolve), image("http://a.example/a.png"))
    assert told.startswith("messages[1].content[1]: ")
    assert "not public" in told
    # Never which one it is.
    assert address not in told


async def test_an_address_is_checked_again_where_it_is_sent(server: Server) -> None:
    port = server.url.rpartition(":")[2]

    async def resolve(host: str, port: int) -> Sequence[str]:
        return {"public": ["127.0.0.1"], "private": ["10.0.0.1"]}[host]

    server.answers["/out"] = _answer(b"", status=b"302", more=b"location: http://private/\r\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media_module, "_is_public", lambda address: address == "127.0.0.1")
        told = await refusal(Media(resolve=resolve), image(f"http://public:{port}/out"))
    assert "not public" in told
    assert server.asked == ["/out"]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (image("file:///etc/passwd"), "give an https:, http: or data: URL"),
        (image("http://"), "give an https:, http: or data: URL"),
        (image("http://[::1"), "its URL is none"),
        (image("http://a:b@c/d"), "must not hold a user or password"),
        (image("{url}/nothing"), "its server answered 404"),
        (image("http://127.0.0.1:9/"), "its URL cannot be fetched (ConnectError)"),
        ({"type": "file", "file": {}}, "does not know parts of type file"),
    ],
)
async def test_a_part_that_cannot_be_had_is_named(
    server: Server, part: dict[str, Any], told: str
) -> None:
    if "image_url" in part:
        part = image(part["image_url"]["url"].replace("{url}", server.url))
    message = await refusal(Media(allows_private=True), image("data:,"), part)
    assert message.startswith("messages[1].content[2]: ")
    assert told in message


async def test_a_part_that_the_model_does_not_take_is_named_before_any_is_fetched(
    server: Server,
) -> None:
    media = Media(allows_private=True)
    video = {"type": "video_url", "video_url": {"url": f"{server.url}/a.mp4"}}
    with pytest.raises(BadRequest) as caught:
        await media.fetch(said(image(f"{server.url}/a.png"), video), ["image"])
    told = "messages[1].content[2]: the model takes no part of type video_url"
    assert (str(caught.value), caught.value.reason) == (told, "UNSUPPORTED_PART")
    assert server.asked == []


async def test_a_conversation_of_texts_is_left_as_it_is() -> None:
    messages = [Message(role="user", content="x")]
    assert await Media().fetch(messages, ()) == messages


async def test_all_of_it_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    media = Media(allows_private=True)
    monkeypatch.setattr(media_module, "_MOST_BYTES", 2 * len(PNG))
    here = image(f"{server.url}/a.png")
    await media.fetch(said(here, here), ALL)
    assert "have more than" in await refusal(media, here, here, here)
    assert "have more than" in await refusal(media, image("data:image/png;base64," + "A" * 99))
    monkeypatch.setattr(media_module, "_MOST_ITEMS", 1)
    assert "at most 1 images" in await refusal(media, here, here)


async def test_a_server_that_says_nothing_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_module, "_MOST_S", 0.1)
    told = await refusal(Media(allows_private=True), image(f"{server.url}/silent"))
    assert told == "messages: what they refer to did not come in 0.1 s"


async def test_a_server_that_fails_may_be_asked_again(server: Server) -> None:
    server.answers["/broken"] = _answer(b"", status=b"503")
    with pytest.raises(EngineFailed):
        await Media(allows_private=True).fetch(said(image(f"{server.url}/broken")), ALL)
