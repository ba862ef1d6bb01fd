"""A real HTTP server that receives webhooks: it keeps what it gets, and answers as it is told."""

from __future__ import annotations

import queue
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# No message that a test waits for may take longer.
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Message:
    """One request."""

    path: str
    # Names in lower case.
    headers: Mapping[str, str]
    body: bytes


# Answers a request, by the handler's own methods.
Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, **headers: str) -> Answer:
    """Returns the answer with a status and headers; `_` in a name stands for `-`."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", "0")
        handler.end_headers()

    return answer


class Receiver:
    """Listens on a free port of loopback."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        """The answers are given in turn, the last one for ever; by default 204."""
        self._answers = list(answers) or [status(204)]
        self._lock = threading.Lock()
        self.messages: queue.Queue[Message] = queue.Queue()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.messages.put(Message(self.path, headers, body))
                receiver._next()(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def port(self) -> int:
        """The port."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{self.port}/hook"

    def next(self) -> Message:
        """Returns the next message. Raises queue.Empty."""
        return self.messages.get(timeout=PATIENCE_S)

    def close(self) -> None:
        """Listens no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self) -> Answer:
        with self._lock:
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
