"""Structured logs on stderr: `event key=value`, as text on a terminal and as JSON elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog

from aitbc_server.domain.call import current_call


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
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _add_request_id(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    call = current_call.get()
    if call.request_id:
        event.setdefault("request_id", call.request_id)
    return event
