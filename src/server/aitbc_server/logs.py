"""Structured logs on stderr: `event key=value`, as text on a terminal and as JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog

from aitbc_server.domain.call import current_call
from aitbc_server.terminal import harmless_event


def configure(level: str) -> None:
    """Sets up structlog for the process. `level`: debug, info, warning or error."""
    renderer: structlog.typing.Processor = (
        # Not the one that shows local variables: these hold prompts.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            harmless_event,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
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


def _add_request_id(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    call = current_call.get()
    if call.request_id:
        event.setdefault("request_id", call.request_id)
    return event
