"""What clients of Connect and gRPC-Web send and read, written out by hand."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, NamedTuple

import httpx
import orjson
from google.rpc import error_details_pb2, status_pb2

LAST = 2
TRAILERS = 0x80


def envelope(data: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(data).to_bytes(4, "big") + data


def envelopes(body: bytes) -> list[tuple[int, bytes]]:
    """Returns flags and data of all envelopes of a body."""
    found = []
    while body:
        size = int.from_bytes(body[1:5], "big")
        assert len(body) >= 5 + size
        found.append((body[0], body[5 : 5 + size]))
        body = body[5 + size :]
    return found


class Ended(NamedTuple):
    """How a call ended."""

    messages: list[bytes]
    # Connect's name of the code; `ok` for a success.
    code: str
    # `google.rpc.ErrorInfo.reason`; empty for a success.
    reason: str = ""


def ended(response: httpx.Response) -> Ended:
    """Returns how a call ended, whichever protocol its client spoke."""
    kind = response.headers["content-type"]
    if kind.startswith("application/grpc-web"):
        return _grpc_web(response.content if "text" not in kind else _decoded(response.text))
    if kind.startswith("application/connect+"):
        *messages, (flags, last) = envelopes(response.content)
        assert flags == LAST
        assert all(flags == 0 for flags, _ in messages)
        error = orjson.loads(last).get("error")
        return Ended([data for _, data in messages], *_told(error))
    if response.status_code == 200:
        return Ended([response.content], "ok")
    return Ended([], *_told(response.json()))


def status_in(trailers: bytes) -> status_pb2.Status:
    """Returns the whole status of a call over gRPC-Web that failed."""
    text = _trailers(trailers)["grpc-status-details-bin"]
    return status_pb2.Status.FromString(b64decode(text + "=" * (-len(text) % 4)))


def _told(error: dict[str, Any] | None) -> tuple[str, str]:
    if error is None:
        return "ok", ""
    assert error["message"]
    info = error["details"][0]
    assert info["type"] == "google.rpc.ErrorInfo"
    return error["code"], info["debug"]["reason"]


def _grpc_web(body: bytes) -> Ended:
    *messages, (flags, last) = envelopes(body)
    assert flags == TRAILERS
    code = CODES[int(_trailers(last)["grpc-status"])]
    if code == "ok":
        return Ended([data for _, data in messages], code)
    info = error_details_pb2.ErrorInfo()
    status_in(last).details[0].Unpack(info)
    return Ended([data for _, data in messages], code, info.reason)


def _trailers(block: bytes) -> dict[str, str]:
    lines = block.decode().removesuffix("\r\n").split("\r\n")
    return dict(line.split(": ", 1) for line in lines)


def _decoded(text: str) -> bytes:
    """Decodes Base64 of which each part that was sent has padding of its own."""
    body, part = b"", ""
    for at in range(0, len(text), 4):
        part += text[at : at + 4]
        if part.endswith("=") or at + 4 >= len(text):
            body += b64decode(part)
            part = ""
    return body


CODES = (
    *("ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found"),
    *("already_exists", "permission_denied", "resource_exhausted", "failed_precondition"),
    *("aborted", "out_of_range", "unimplemented", "internal", "unavailable", "data_loss"),
    "unauthenticated",
)
