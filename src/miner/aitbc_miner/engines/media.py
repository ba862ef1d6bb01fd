"""Fetches the images, videos and sounds of conversations: few, small, soon, and from public places.

An engine is given what was fetched and never a URL: it would go wherever a stranger sends it.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from aitbc_miner.engines.base import Message
from aitbc_miner.errors import UNSUPPORTED_PART, BadRequest, EngineFailed

# What a part brings, by its type.
MODALITIES = {
    "image_url": "image",
    "video_url": "video",
    "audio_url": "audio",
    "input_audio": "audio",
}
# Of one job: items, and bytes of all of them.
_MOST_ITEMS = 64
_MOST_BYTES = 64 * 2**20
# Until all of them are here.
_MOST_S = 30.0
_MOST_REDIRECTS = 3
_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429}
# A media type, with nothing that ends it in a `data:` URL.
_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,64}/[A-Za-z0-9.+-]{1,64}")
_ANY_TYPE = "application/octet-stream"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Media:
    """Fetches for one engine."""

    def __init__(self, *, allows_private: bool = False, resolve: Resolve | None = None) -> None:
        """`allows_private`: whether addresses within the miner's own network may be asked."""
        self._backend = _Backend(resolve or _resolve, allows_private=allows_private)

    async def fetch(self, messages: Iterable[Message], taken: Iterable[str]) -> list[Message]:
        """Returns a conversation whose parts are all within it. Raises an EngineError.

        `taken`: the modalities that the model takes.
        """
        told = list(messages)
        places = [
            (place, f"messages[{number}].content[{place}]", turn)
            for number, turn in enumerate(told)
            for place, part in enumerate(turn.get("parts", ()))
            if part["type"] != "text"
        ]
        if not places:
            return told
        for place, name, turn in places:
            _check(name, turn["parts"][place], set(taken))
        if len(places) > _MOST_ITEMS:
            raise BadRequest(f"messages: at most {_MOST_ITEMS} images, videos and sounds")
        budget = _Budget()
        try:
            async with asyncio.timeout(_MOST_S):
                fetched = {
                    name: await self._part(name, turn["parts"][place], budget)
                    for place, name, turn in places
                }
        except TimeoutError:
            raise BadRequest(
                f"messages: what they refer to did not come in {_MOST_S:g} s"
            ) from None
        return [_with(number, turn, fetched) for number, turn in enumerate(told)]

    async def _part(self, name: str, part: dict[str, Any], budget: _Budget) -> dict[str, Any]:
        kind = part["type"]
        if kind == "input_audio":
            budget.take(name, len(part[kind]["data"]) * 3 // 4)
            return part
        url = part[kind]["url"]
        if url[:5].lower() == "data:":
            budget.take(name, len(url) * 3 // 4)
            return part
        return {**part, kind: {**part[kind], "url": await self._download(name, url, budget)}}

    async def _download(self, name: str, url: str, budget: _Budget) -> str:
        """Returns what is at a URL as a `data:` URL."""
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                _check_url(name, url)
                async with (
                    httpcore.AsyncConnectionPool(
                        ssl_context=ssl.create_default_context(), network_backend=self._backend
                    ) as pool,
                    pool.stream("GET", url, headers={"accept": "*/*"}) as response,
                ):
                    headers = {key.lower(): value for key, value in response.headers}
                    if response.status in _REDIRECTS and b"location" in headers:
                        url = urljoin(url, headers[b"location"].decode("latin-1"))
                        continue
                    return await _read(name, response, headers.get(b"content-type", b""), budget)
        except _PrivateAddress as error:
            raise BadRequest(f"{name}: {error}") from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            message = f"{name}: its URL cannot be fetched ({type(error).__name__})"
            raise BadRequest(message) from error
        except (ValueError, UnicodeError, httpcore.UnsupportedProtocol) as error:
            raise BadRequest(f"{name}: its URL is none") from error
        raise BadRequest(f"{name}: its URL is redirected more than {_MOST_REDIRECTS} times")


class _Budget:
    """Counts the bytes of one job."""

    def __init__(self) -> None:
        self._left = _MOST_BYTES

    def take(self, name: str, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise BadRequest(f"{name}: with it the messages have more than {_MOST_BYTES} bytes")


class _PrivateAddress(Exception):
    """An address is not for strangers."""


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects to an address that was checked; TLS still checks the name."""

    def __init__(self, resolve: Resolve, *, allows_private: bool) -> None:
        self._resolve = resolve
        self._allows_private = allows_private
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises _PrivateAddress unless the host is a public one."""
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address") from error
        usable = [address for address in found if self._allows_private or _is_public(address)]
        if not usable:
            raise _PrivateAddress(
                "its URL leads to an address that is not public (a miner's operator may allow that:"
                " --engine-opt allow_private_media=true)"
            )
        return await self._backend.connect_tcp(usable[0], port, timeout)


async def _resolve(host: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    return [str(address[0]) for *_, address in await loop.getaddrinfo(host, port)]


def _is_public(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _check(name: str, part: dict[str, Any], taken: set[str]) -> None:
    modality = MODALITIES.get(part["type"])
    if modality is None:
        message = f"{name}: the miner does not know parts of type {part['type']}"
        raise BadRequest(message, reason=UNSUPPORTED_PART)
    if modality not in taken:
        message = f"{name}: the model takes no part of type {part['type']}"
        raise BadRequest(message, reason=UNSUPPORTED_PART)


def _check_url(name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(f"{name}: give an https:, http: or data: URL")
    if parts.username is not None or parts.password is not None:
        raise BadRequest(f"{name}: its URL must not hold a user or password")


async def _read(
    name: str, response: httpcore.Response, content_type: bytes, budget: _Budget
) -> str:
    if response.status in _PASSING or response.status >= 500:
        raise EngineFailed(f"a server of a part of the job answered {response.status}")
    if not 200 <= response.status < 300:
        raise BadRequest(f"{name}: its server answered {response.status}")
    content = bytearray()
    async for piece in response.aiter_stream():
        budget.take(name, len(piece))
        content += piece
    told = content_type.decode("latin-1").partition(";")[0].strip()
    kind = told if _TYPE.fullmatch(told) else _ANY_TYPE
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _with(number: int, turn: Message, fetched: dict[str, dict[str, Any]]) -> Message:
    if "parts" not in turn:
        return turn
    parts = [
        fetched.get(f"messages[{number}].content[{place}]", part)
        for place, part in enumerate(turn["parts"])
    ]
    changed: Message = {**turn, "parts": parts}
    return changed
