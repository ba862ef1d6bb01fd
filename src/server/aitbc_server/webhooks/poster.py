"""Makes one request to a receiver, bounded in time and in what is read of the answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime

import httpcore

from aitbc_server import __version__
from aitbc_server.domain.clock import Clock
from aitbc_server.webhooks.answer import Answer
from aitbc_server.webhooks.guard import Guard, NameNotFound, Refused, target_port

# What is read of an answer's body: enough that a connection can be used again. Nothing is kept.
_READ_BYTES = 16 * 1024
# A connection is used for a burst of messages, and then forgotten: see Guard.
_IDLE_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
_LONGEST_RETRY_AFTER_S = 86_400.0
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"user-agent", f"aitbc-coordinator/{__version__}".encode()),
    (b"accept", b"*/*"),
]


class Poster:
    """Posts messages. Redirects, cookies and proxies do not exist here."""

    def __init__(
        self,
        guard: Guard,
        clock: Clock,
        *,
        ssl_context: ssl.SSLContext,
        timeout_s: float,
        connections: int,
    ) -> None:
        self._guard = guard
        self._clock = clock
        self._timeout_s = timeout_s
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=connections,
            keepalive_expiry=_IDLE_S,
            network_backend=_PinnedBackend(guard),
        )

    async def post(self, url: str, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Answer:
        """Posts a message and returns what came of it; raises nothing but CancelledError."""
        began = self._clock.monotonic()
        status, error, retry_after = None, "", None
        try:
            async with asyncio.timeout(self._timeout_s):
                status, retry_after = await self._post(url, headers, body)
        except (Refused, NameNotFound) as problem:
            error = str(problem)
        except TimeoutError:
            error = f"no answer within {self._timeout_s:g} s"
        except (
            httpcore.NetworkError,
            httpcore.TimeoutException,
            httpcore.ProtocolError,
        ) as problem:
            error = f"{type(problem).__name__}: {_first_line(problem)}"
        if status is not None and not 200 <= status < 300:
            error = f"answered {status}" + (", a redirect" if 300 <= status < 400 else "")
        return Answer(
            duration_ms=int((self._clock.monotonic() - began) * 1000),
            status_code=status,
            error=error,
            retry_after_s=_seconds(retry_after, self._clock) if retry_after else None,
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._pool.aclose()

    async def _post(
        self, text: str, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, bytes | None]:
        url = self._guard.check_url(text)
        # Also where a connection is open already: a name that changed its mind is refused at once.
        await self._guard.addresses(url.host, target_port(url))
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        host = [(b"host", url.netloc), (b"content-length", b"%d" % len(body))]
        async with self._pool.stream(
            "POST",
            target,
            headers=[*host, *_HEADERS, *headers],
            content=body,
            extensions={"timeout": {"connect": _CONNECT_TIMEOUT_S}},
        ) as response:
            read = 0
            async for part in response.aiter_stream():
                read += len(part)
                if read > _READ_BYTES:
                    break
            given = {name.lower(): value for name, value in response.headers}
            return response.status, given.get(b"retry-after")


class _PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to an address that the guard has checked; TLS still checks the name."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses: Sequence[str] = await self._guard.addresses(host, port)
        for address in addresses[:-1]:
            try:
                return await self._backend.connect_tcp(address, port, timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._backend.connect_tcp(addresses[-1], port, timeout)


def _seconds(retry_after: bytes, clock: Clock) -> float | None:
    """Reads `Retry-After`: seconds, or a date; a day at most. None when it is neither."""
    text = retry_after.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - clock.wall_us() / 1e6
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else "the connection broke"
