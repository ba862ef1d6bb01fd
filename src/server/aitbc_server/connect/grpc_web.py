"""gRPC-Web: gRPC's envelopes over any HTTP, with the trailers in an envelope of their own.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections.abc import Mapping

from aitbc_server.api.errors import Failure
from aitbc_server.connect.envelopes import GZIP, HEAD_BYTES, Wrapped, coding, enveloped, unwrapped
from aitbc_server.connect.errors import Told, trailers
from aitbc_server.connect.wires import Head
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.asgi import API_HEADERS, Response

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TRAILERS = 0x80
# A client may pad wherever it has sent a part.
_PART = re.compile(rb"[^=]+={0,2}")
_MOST_PADS = 1000


class GrpcWeb:
    """A method with one response or with many. Its status is 200, and its trailers say more."""

    def __init__(self, codec: str, media_type: str, *, is_text: bool) -> None:
        """`is_text`: whether all is in Base64, for clients that take nothing else."""
        self.codec = codec
        self.content_type = media_type.encode()
        self._is_text = is_text

    def head(self, headers: Mapping[str, str]) -> Head:
        """Reads the headers. Raises InvalidArgument and Unimplemented."""
        packed = coding(headers.get("grpc-encoding"), b"grpc-accept-encoding")
        said = headers.get("grpc-timeout")
        if said is None:
            return Head(None, packed)
        timeout = _TIMEOUT.fullmatch(said)
        if timeout is None:
            raise InvalidArgument("grpc-timeout", "must be a number of 8 digits and a unit")
        return Head(int(timeout[1]) * _SECONDS[timeout[2]], packed)

    def body_bytes(self, most: int) -> int:
        """Returns the size with the envelope, and as text where it is one."""
        size = HEAD_BYTES + most
        return size if not self._is_text else -(-size // 3) * 4 + 4

    def message(self, body: bytes, head: Head, most: int) -> Wrapped:
        """Returns what is in the only envelope."""
        return unwrapped(_decoded(body) if self._is_text else body, head.coding, most)

    def success(self, message: bytes) -> Response:
        """Returns the message, and the trailers of a success."""
        return self._whole(enveloped(0, message) + _last(None))

    def failure(self, told: Told) -> Response:
        """Returns the trailers alone."""
        return self._whole(_last(told.failure))

    def piece(self, message: bytes) -> bytes:
        """Returns the message in an envelope."""
        return self._written(enveloped(0, message))

    def end(self, failure: Failure | None) -> bytes:
        """Returns the trailers in an envelope."""
        return self._written(_last(failure))

    def _written(self, envelopes: bytes) -> bytes:
        return b64encode(envelopes) if self._is_text else envelopes

    def _whole(self, envelopes: bytes) -> Response:
        body = self._written(envelopes)
        length = (b"content-length", b"%d" % len(body))
        headers = ((b"content-type", self.content_type), length, *API_HEADERS, _ACCEPTS)
        return Response(200, headers, body)


_ACCEPTS = (b"grpc-accept-encoding", GZIP.encode())


def _last(failure: Failure | None) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in trailers(failure))
    return enveloped(_TRAILERS, lines.encode())


def _decoded(text: bytes) -> bytes:
    parts = _PART.findall(text) if text.count(b"=") <= _MOST_PADS else []
    try:
        if sum(map(len, parts)) == len(text):
            return b"".join(binascii.a2b_base64(part, strict_mode=True) for part in parts)
    except binascii.Error:
        pass  # told below, as for what is not taken apart
    raise InvalidArgument("message", "is not Base64")
