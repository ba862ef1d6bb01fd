"""Work that would stop the event loop for too long, done on one thread beside it.

The thread shares the interpreter with the loop, which goes on, if at a slower pace. There is one
thread, so that large work of many callers takes turns, and not all of the time. A single call into
C stops the loop wherever it is made: what these may be given is bounded before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

# From this size on, messages are read, checked and written aside: a few milliseconds' work.
LARGE_BYTES = 100_000

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_thread = ThreadPoolExecutor(1, "aside")


def aside(
    work: Callable[_Given, _Result], *args: _Given.args, **kwargs: _Given.kwargs
) -> asyncio.Future[_Result]:
    """Does work that touches nothing but what it is given."""
    loop = asyncio.get_running_loop()
    return loop.run_in_executor(_thread, lambda: work(*args, **kwargs))


async def by_size(
    size: int,
    work: Callable[_Given, _Result],
    *args: _Given.args,
    **kwargs: _Given.kwargs,
) -> _Result:
    """Does work on so many bytes: aside, when these are many."""
    return await aside(work, *args, **kwargs) if size > LARGE_BYTES else work(*args, **kwargs)
