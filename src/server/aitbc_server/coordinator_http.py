"""What a coordinator publishes, fetched over HTTP with bounds on bytes and time.

A coordinator that is to be verified may be hostile: no answer of it may take the memory of whoever
verifies it, nor wait for ever.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    import httpx

# Of one answer, from the connection to its last byte.
_PATIENCE_S = 60.0
# Above any document that a coordinator publishes: a hundred blocks are the largest.
_DOCUMENT_BYTES = 4 * 2**20
# A tile has up to 256 entries of up to 65,535 bytes.
_TILE_BYTES = 256 * (2 + 65_535)
_TILES = "/tile/"


class _Answer(NamedTuple):
    status: int
    body: bytes


class Published:
    """A coordinator's public files. Raises OSError where they cannot be had within the bounds."""

    def __init__(
        self, runner: asyncio.Runner, client: httpx.AsyncClient, *, patience_s: float
    ) -> None:
        self._runner = runner
        self._client = client
        self._patience_s = patience_s

    def get(self, path: str) -> bytes | None:
        """Returns what is at a path; None when nothing is."""
        answer = self._asked("GET", path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise OSError(f"{path}: it answers with status {answer.status}")
        return answer.body

    def post(self, path: str, document: dict[str, Any]) -> str | None:
        """Posts JSON; returns why it was refused, or None when it was taken."""
        answer = self._asked("POST", path, orjson.dumps(document))
        if 400 <= answer.status < 500:
            try:
                return str(orjson.loads(answer.body)["detail"])
            except (ValueError, KeyError, TypeError):
                return f"status {answer.status}"
        if not 200 <= answer.status < 300:
            raise OSError(f"{path}: it answers with status {answer.status}")
        return None

    def _asked(self, method: str, path: str, content: bytes | None = None) -> _Answer:
        try:
            return self._runner.run(self._ask(method, path, content))
        except TimeoutError:
            raise OSError(f"{path}: the answer took more than {self._patience_s:g} s") from None

    async def _ask(self, method: str, path: str, content: bytes | None) -> _Answer:
        most = _TILE_BYTES if path.startswith(_TILES) else _DOCUMENT_BYTES
        # Not compressed: a few bytes might become any number.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if content is not None:
            headers["content-type"] = "application/json"
        async with (
            asyncio.timeout(self._patience_s),
            self._client.stream(method, path, content=content, headers=headers) as response,
        ):
            if response.headers.get("content-encoding", "identity") != "identity":
                raise OSError(f"{path}: the answer is compressed, which nobody asked for")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > most:
                    raise OSError(f"{path}: the answer has more than {most:,} bytes")
        return _Answer(response.status_code, bytes(body))


@contextmanager
def published_at(url: str, *, patience_s: float = _PATIENCE_S) -> Iterator[Published]:
    """Gives what the coordinator at a base URL publishes. Raises OSError.

    `patience_s`: how long one answer may take, from the connection to its last byte.
    """
    # Here: commands that stay on this machine need not wait for it to load.
    import httpx

    with asyncio.Runner() as runner:
        try:
            # Never before the deadline, which holds for all of an answer.
            client = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=2 * patience_s)
        except httpx.InvalidURL as error:
            raise OSError(f"{url}: {error}") from error
        try:
            yield Published(runner, client, patience_s=patience_s)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OSError(f"{url}: {_reason(error)}") from error
        finally:
            runner.run(client.aclose())


def _reason(error: BaseException) -> str:
    # The system knows best. Who raised its error again told less.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            return os.strerror(cause.errno) if cause.errno > 0 else cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
