"""Whoever verifies a coordinator is not harmed by what it answers, however much and slowly."""

from __future__ import annotations

import resource
import socket
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from scripts.processes import BIN

from aitbc_server.coordinator_http import published_at
from tests.conftest import CLEAN_ENV

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_KEYS = "/.well-known/aitbc-keys.json"
# A command has the modules that it loads, and little more.
_MOST_MEMORY = 1_500 * 2**20

Answer = Callable[[socket.socket], None]


@contextmanager
def coordinator(answer: Answer) -> Iterator[str]:
    """Serves one answer to whoever connects, until the other side leaves; gives its URL."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        connection.recv(65536)
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        # Wakes it.
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def endless(connection: socket.socket) -> None:
    """Answers with a name without end."""
    connection.sendall(_HEAD + b'\r\n{"origin":"')
    while True:
        connection.sendall(b"x" * 65536)


def endless_error(connection: socket.socket) -> None:
    """Refuses without end."""
    connection.sendall(_HEAD.replace(b"200 OK", b"503 No") + b"\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def chunked(connection: socket.socket) -> None:
    """Answers in small chunks without end."""
    connection.sendall(_HEAD + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"40\r\n" + b"x" * 64 + b"\r\n")


def compressed(connection: socket.socket) -> None:
    """Answers with few bytes that become many."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join(packer.compress(bytes(2**20)) for _ in range(512)) + packer.flush()
    head = b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    connection.sendall(_HEAD + head + body)


def endless_headers(connection: socket.socket) -> None:
    """Never comes to the end of its headers."""
    connection.sendall(_HEAD)
    while True:
        connection.sendall(b"x-more: " + b"x" * 65536 + b"\r\n")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (endless, f"{_KEYS}: the answer has more than 4,194,304 bytes"),
        (endless_error, f"{_KEYS}: the answer has more than 4,194,304 bytes"),
        (chunked, f"{_KEYS}: the answer has more than 4,194,304 bytes"),
        (compressed, f"{_KEYS}: the answer is compressed"),
        (endless_headers, "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("words", [("witness", "--once"), ("ledger", "verify")])
def test_an_answer_without_end_is_refused(
    words: tuple[str, ...], answer: Answer, told: str, tmp_path: Path
) -> None:
    data = ("--data", str(tmp_path)) if "witness" in words else ()
    with coordinator(answer) as url:
        done = subprocess.run(
            [str(BIN / "aitbc-coordinator"), *words, *data, "--url", url],
            env={**CLEAN_ENV, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=50,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY)),
            check=False,
        )
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def silent(connection: socket.socket) -> None:
    """Says nothing until the other side leaves."""
    while connection.recv(65536):
        pass


def slow(connection: socket.socket) -> None:
    """Says a little again and again: no part of it is late."""
    connection.settimeout(0.01)
    connection.sendall(_HEAD + b"\r\n")
    while True:
        with suppress(TimeoutError):
            if not connection.recv(65536):
                return
        connection.sendall(b" ")


def interim(connection: socket.socket) -> None:
    """Says again and again that it goes on."""
    connection.settimeout(0.01)
    while True:
        with suppress(TimeoutError):
            if not connection.recv(65536):
                return
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize("answer", [silent, slow, interim])
def test_one_deadline_holds_for_all_of_an_answer(answer: Answer) -> None:
    with (
        coordinator(answer) as url,
        pytest.raises(OSError, match=r"the answer took more than 0\.5 s"),
        published_at(url, patience_s=0.5) as published,
    ):
        published.get(_KEYS)
    with (
        coordinator(answer) as url,
        pytest.raises(OSError, match=r"the answer took more than 0\.5 s"),
        published_at(url, patience_s=0.5) as published,
    ):
        published.post("/explorer/cosignatures", {"checkpoint": "x"})


@pytest.mark.parametrize(
    "document", [b"[]", b"{}", b"7", b'{"origin":7,"keys":[]}', b'{"origin":"x","keys":7}']
)
@pytest.mark.parametrize("words", [("witness", "--once"), ("ledger", "verify")])
def test_a_document_that_is_another_is_refused(
    words: tuple[str, ...], document: bytes, tmp_path: Path
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(_HEAD + b"connection: close\r\n\r\n" + document)

    data = ("--data", str(tmp_path)) if "witness" in words else ()
    with coordinator(answer) as url:
        done = subprocess.run(
            [str(BIN / "aitbc-coordinator"), *words, *data, "--url", url],
            env={**CLEAN_ENV, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
