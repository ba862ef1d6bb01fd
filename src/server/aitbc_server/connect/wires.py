"""How a protocol puts messages and errors into HTTP, and which one a request speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from aitbc_server.api.errors import Failure
from aitbc_server.connect.envelopes import Wrapped
from aitbc_server.connect.errors import Told
from aitbc_server.rest.asgi import Response


class Head(NamedTuple):
    """What the headers of a call say."""

    # How long its client waits, in seconds; None: as long as it takes.
    timeout_s: float | None
    # How messages that are packed are so; None: none is.
    coding: str | None


class Wire(Protocol):
    """One protocol, with one codec."""

    # Name of the codec.
    codec: str
    # Of a response.
    content_type: bytes

    def head(self, headers: Mapping[str, str]) -> Head:
        """Reads the headers. Raises InvalidArgument and Unimplemented."""

    def body_bytes(self, most: int) -> int:
        """Returns the size of a body with a message of this size."""

    def message(self, body: bytes, head: Head, most: int) -> Wrapped:
        """Returns the message of a request.

        Raises InvalidArgument and HttpErrors, and PayloadTooLarge for one of more than `most`.
        """

    def failure(self, told: Told) -> Response:
        """Returns the response of a call that failed before anything was sent."""


class UnaryWire(Wire, Protocol):
    """Calls methods with one response."""

    def success(self, message: bytes) -> Response:
        """Returns the response."""


class StreamWire(Wire, Protocol):
    """Calls methods with many responses, all of which are the body of one."""

    def piece(self, message: bytes) -> bytes:
        """Returns what is sent of one message."""

    def end(self, failure: Failure | None) -> bytes:
        """Returns what is sent last."""
