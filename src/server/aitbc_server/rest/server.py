"""Serves an ASGI application over HTTP/1.1 in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Iterator
from functools import partial
from typing import cast

import uvicorn

from aitbc_server.rest.asgi import AsgiApp
from aitbc_server.rest.limits import HttpLimits
from aitbc_server.rest.peers import Peers
from aitbc_server.rest.protocol import HttpProtocol
from aitbc_server.supervisor import Supervisor, end
from aitbc_server.tls import TlsFiles, server_context

_BACKLOG = 2048
_DATE_S = 1.0
# Time for cancelled requests to send their last words.
_CANCEL_GRACE_S = 1.0
_LIMITS = HttpLimits()


class RestServer:
    """A uvicorn server that leaves signals and the event loop to its owner."""

    def __init__(
        self,
        app: AsgiApp,
        *,
        tls: TlsFiles | None = None,
        limits: HttpLimits = _LIMITS,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Raises OSError when the files of TLS are not right."""
        self._supervisor = supervisor or Supervisor()
        context = None if tls is None else server_context(tls)
        peers = Peers(most=limits.connections, each=limits.connections_each, trusted=limits.trusted)
        config = uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", partial(HttpProtocol, limits, peers)),
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
        )
        config.load()
        # Ours: uvicorn's own would be made of files alone.
        config.ssl = context
        self._server = _Server(config)
        self._sweep_s = limits.sweep_s
        self._serving: asyncio.Task[None] | None = None
        self._tending: list[asyncio.Task[None]] = []
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
        self._tending = [
            self._supervisor.keep("http-date", self._server.tell_date),
            self._supervisor.keep("http-sweep", self._sweep),
        ]

    async def stop(self, grace_s: float) -> None:
        """Takes no more requests, lets running ones end within the grace and cancels the rest."""
        if self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = math.ceil(grace_s)
        self._server.ending.set()
        await self._serving
        if tasks := set(self._server.server_state.tasks):
            await asyncio.wait(tasks, timeout=_CANCEL_GRACE_S)
        await end(self._tending)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._sweep_s)
            now = loop.time()
            for connection in list(self._server.server_state.connections):
                cast("HttpProtocol", connection).sweep(now)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.ending = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # The date of the first responses.
        await self.on_tick(0)
        self.ready.set()

    async def main_loop(self) -> None:
        # Not uvicorn's, which looks ten times a second whether it is to end.
        await self.ending.wait()

    async def tell_date(self) -> None:
        """Keeps the date of responses, for ever."""
        while True:
            await asyncio.sleep(_DATE_S)
            await self.on_tick(0)

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
