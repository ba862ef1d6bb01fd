"""Reads the body of a request, up to a size."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from aitbc_server.domain.errors import PayloadTooLarge
from aitbc_server.rest.asgi import Receive
from aitbc_server.rest.errors import UnsupportedMediaType
from aitbc_server.rest.watch import ClientGone
from aitbc_server.slices import is_spent, next_turn


async def read_json(headers: Mapping[str, str], receive: Receive, max_bytes: int) -> bytes:
    """Returns the body, which is declared as JSON in UTF-8 but not parsed.

    Raises PayloadTooLarge, UnsupportedMediaType and ClientGone.
    """
    if int(headers.get("content-length", 0)) > max_bytes:
        raise PayloadTooLarge(max_bytes)
    event = await receive()
    if event["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = event.get("body", b"")
    if event.get("more_body", False):
        body = await _rest_of_body(body, max_bytes, receive)
    if len(body) > max_bytes:
        raise PayloadTooLarge(max_bytes)
    if body and not (
        _is_json(headers.get("content-type", ""))
        and headers.get("content-encoding", "identity") == "identity"
    ):
        raise UnsupportedMediaType
    if is_spent():
        await next_turn()
    return body


async def read_bytes(headers: Mapping[str, str], receive: Receive, max_bytes: int) -> bytes:
    """Returns the body, whatever it is. Raises PayloadTooLarge and ClientGone."""
    if int(headers.get("content-length", 0)) > max_bytes:
        raise PayloadTooLarge(max_bytes)
    body = await _rest_of_body(b"", max_bytes, receive)
    if len(body) > max_bytes:
        raise PayloadTooLarge(max_bytes)
    if is_spent():
        await next_turn()
    return body


async def _rest_of_body(first: bytes, limit: int, receive: Receive) -> bytes:
    parts, size, more = [first], len(first), True
    while more and size <= limit:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        more = event.get("more_body", False)
    return b"".join(parts)


@lru_cache(maxsize=256)
def media_type(content_type: str) -> str:
    """Returns the type in lower case, without parameters; empty where it is not in UTF-8."""
    name, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset=")]
    return name if all(charset in {"utf-8", "utf8"} for charset in charsets) else ""


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    name = media_type(content_type)
    return name == "application/json" or (
        name.startswith("application/") and name.endswith("+json")
    )
