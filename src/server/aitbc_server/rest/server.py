"""Serves an ASGI application over HTTP/1.1 in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Iterator

import uvicorn

from aitbc_server.rest.asgi import AsgiApp
from aitbc_server.tls import TlsFiles, server_context

_BACKLOG = 2048
# Longer than the idle time of common client pools and proxies, so that they close first: a request
# sent while the server closes is lost.
_KEEP_ALIVE_S = 75
# Time for cancelled requests to send their last words.
_CANCEL_GRACE_S = 1.0


class RestServer:
    """A uvicorn server that leaves signals and the event loop to its owner."""

    def __init__(self, app: AsgiApp, *, tls: TlsFiles | None = None) -> None:
        """Raises OSError when the files of TLS are not right."""
        context = None if tls is None else server_context(tls)
        self._server = _Server(
            uvicorn.Config(
                app,
                http="httptools",
                interface="asgi3",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                # Nothing here asks for the client's address, and the middleware costs 2 us.
                proxy_headers=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                ssl_context_factory=None if context is None else lambda *_: context,
            )
        )
        self._serving: asyncio.Task[None] | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """Returns the port that is listened on, also when 0 was asked for."""
        return self._port

    async def start(self, host: str, port: int) -> None:
        """Returns when connections are taken. Raises OSError when the address cannot be had."""
        listener = _listen(host, port)
        self._port = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        ready = asyncio.ensure_future(self._server.ready.wait())
        await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            ready.cancel()
            listener.close()
            await self._serving

    async def stop(self, grace_s: float) -> None:
        """Takes no more requests, lets running ones end within the grace and cancels the rest."""
        if self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = math.ceil(grace_s)
        self._server.should_exit = True
        await self._serving
        if tasks := set(self._server.server_state.tasks):
            await asyncio.wait(tasks, timeout=_CANCEL_GRACE_S)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The process has handlers of its own, which drain more than HTTP.
        yield


def _listen(host: str, port: int) -> socket.socket:
    # Bound here because uvicorn, which can bind too, ends the process when it fails.
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> OSError:
    return OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}")
