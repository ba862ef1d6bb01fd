"""One request and its response: uvicorn's, but a response that is whole is one write.

uvicorn looks twice at each field of a head, and writes the head before there is a body: that took
longer than all else that it does for a request.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from aitbc_server.rest.asgi import Event

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

# What no value of a field may hold: it could end there. Names of fields are all ours.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Cycle(RequestResponseCycle):
    """Keeps the head of a response that tells its length until its body comes."""

    # The event that begins the response, while nothing of it is written, and the length it tells.
    _begun: tuple[Event, int] | None = None

    async def send(self, message: ASGISendEvent) -> None:
        """Sends an event of the application, or keeps it until the next one."""
        event = cast("Event", message)
        if self._begun is not None:
            (start, length), self._begun = self._begun, None
            body = event.get("body", b"")
            if (
                len(body) == length
                and self.keep_alive
                and not (self.disconnected or self.flow.write_paused or event.get("more_body"))
            ):
                self._respond(start, body)
                return
            await super().send(cast("ASGISendEvent", start))
        elif not self.response_started and event["type"] == "http.response.start":
            headers = dict(event["headers"])
            if b"content-length" in headers and b"connection" not in headers:
                self._begun = event, int(headers[b"content-length"])
                return
        await super().send(message)

    def _respond(self, start: Event, body: bytes) -> None:
        fields = [*self.default_headers, *start["headers"]]
        if _CONTROL.search(b"".join([value for _, value in fields])):
            raise RuntimeError("a field of the response has a control character")
        parts = [STATUS_LINE[start["status"]]]
        for name, value in fields:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", body)
        self.response_started = self.response_complete = True
        self.transport.write(b"".join(parts))
        self.message_event.set()
        self.on_response()
