"""Connect: one message as the whole body of a request, or many in envelopes.

https://connectrpc.com/docs/protocol
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from aitbc_server.api.errors import Failure
from aitbc_server.connect.envelopes import GZIP, HEAD_BYTES, Wrapped, coding, enveloped, unwrapped
from aitbc_server.connect.errors import Told, error_object
from aitbc_server.connect.wires import Head
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.asgi import API_HEADERS, Response, json_response

_VERSION = "connect-protocol-version"
_TIMEOUT = "connect-timeout-ms"
_MILLISECONDS = re.compile(r"[0-9]{1,10}")
_LAST = 2


class ConnectUnary:
    """A method with one response. An error has the status of HTTP that says the same."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.content_type = f"application/{codec}".encode()

    def head(self, headers: Mapping[str, str]) -> Head:
        """Reads the headers. Raises InvalidArgument and Unimplemented."""
        packed = coding(headers.get("content-encoding"), b"accept-encoding")
        return Head(_timeout_s(headers), packed)

    def body_bytes(self, most: int) -> int:
        """Returns the same: a message is the body."""
        return most

    def message(self, body: bytes, head: Head, most: int) -> Wrapped:
        """Returns the body. It is packed when the headers say how; nothing never is."""
        return Wrapped(body, is_packed=head.coding is not None and bool(body))

    def success(self, message: bytes) -> Response:
        """Returns the message as the response."""
        length = (b"content-length", b"%d" % len(message))
        return Response(200, ((b"content-type", self.content_type), length, *API_HEADERS), message)

    def failure(self, told: Told) -> Response:
        """Returns the error as JSON, whatever the codec is."""
        return json_response(told.status, orjson.dumps(error_object(told.failure)), told.headers)


class ConnectStream:
    """A method with many responses. Its status is 200, and the last envelope says how it ended."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.content_type = f"application/connect+{codec}".encode()

    def head(self, headers: Mapping[str, str]) -> Head:
        """Reads the headers. Raises InvalidArgument and Unimplemented."""
        packed = coding(headers.get("connect-content-encoding"), b"connect-accept-encoding")
        return Head(_timeout_s(headers), packed)

    def body_bytes(self, most: int) -> int:
        """Returns the size with the envelope."""
        return HEAD_BYTES + most

    def message(self, body: bytes, head: Head, most: int) -> Wrapped:
        """Returns what is in the only envelope."""
        return unwrapped(body, head.coding, most)

    def failure(self, told: Told) -> Response:
        """Returns a stream that ends at once."""
        body = self.end(told.failure)
        length = (b"content-length", b"%d" % len(body))
        headers = ((b"content-type", self.content_type), length, *API_HEADERS, _ACCEPTS)
        return Response(200, headers, body)

    def piece(self, message: bytes) -> bytes:
        """Returns the message in an envelope."""
        return enveloped(0, message)

    def end(self, failure: Failure | None) -> bytes:
        """Returns the envelope that is the last."""
        told = {} if failure is None else {"error": error_object(failure)}
        return enveloped(_LAST, orjson.dumps(told))


_ACCEPTS = (b"connect-accept-encoding", GZIP.encode())


def _timeout_s(headers: Mapping[str, str]) -> float | None:
    if headers.get(_VERSION, "1") != "1":
        raise InvalidArgument(_VERSION, "must be 1")
    said = headers.get(_TIMEOUT)
    if said is None:
        return None
    if not _MILLISECONDS.fullmatch(said):
        raise InvalidArgument(_TIMEOUT, "must be milliseconds, in at most 10 digits")
    return int(said) / 1000
