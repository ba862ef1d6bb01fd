"""Sets up logging: events with keys, on standard error. No prompt, result or key is ever logged."""

from __future__ import annotations

import sys
from typing import Any, TextIO, cast

import structlog

from aitbc_miner.terminal import harmless_event


def configure_logging() -> None:
    """Writes for people on a terminal and as logfmt elsewhere."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            harmless_event,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Unbreakable(sys.stderr))),
        cache_logger_on_first_use=True,
    )


class Unbreakable:
    """A stream of text that may lose its reader or its disk: then what is logged is lost, no more.

    A line that cannot be written must not end what was about to be done.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes what can be written."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Passes on what can be passed on."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass
