"""Loads what a server begins with: its modules, and the jobs that wait."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Looks for no garbage meanwhile: what is loaded stays, and looking took a sixth of it."""
    gc.disable()
    try:
        yield
    finally:
        # Nor is it looked for among that later.
        gc.freeze()
        gc.enable()
