"""Sets up logging: events with keys, on standard error. No prompt, result or key is ever logged."""

from __future__ import annotations

import sys
from typing import Any

import structlog


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
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
