"""How the events of a response are sent: each with its name, and also the error that ends them."""

from __future__ import annotations

from typing import Any

import orjson

from aitbc_server.openai.errors import in_stream


class Telling:
    """Writes the events of one stream, and the error that ends it."""

    def __init__(self) -> None:
        # Number of the next event.
        self._next = 0

    def event(self, event: dict[str, Any]) -> bytes:
        """Returns an event as it is sent."""
        self._next = event["sequence_number"] + 1
        return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))

    def last_words(self, error: Exception, where: str) -> bytes:
        """Returns the event of an error."""
        told = orjson.loads(in_stream(error, where))["error"]
        # Clients look for it in either place.
        beside = {name: told[name] for name in ("code", "message", "param")}
        return self.event({"type": "error", "sequence_number": self._next, **beside, "error": told})
