"""What is left of a request once it is answered."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from aitbc_server.domain.errors import JobNotFound
from aitbc_server.openai.call import Call
from aitbc_server.rest.asgi import Event
from aitbc_server.rest.watch import ClientGone

SCOPE = {"method": "GET", "path": "/v1/x", "query_string": b"", "headers": []}


class Large:
    """Stands for the answer of a job."""


async def nothing() -> Event:
    return {"type": "http.disconnect"}


@pytest.mark.parametrize("error", [ClientGone(), JobNotFound()])
async def test_nothing_is_kept_of_a_request_that_an_error_ended(error: Exception) -> None:
    sent: list[Any] = []

    async def send(event: Event) -> None:
        sent.append(event)

    kept: list[weakref.ref[Large]] = []

    async def answer() -> None:
        large = Large()
        kept.append(weakref.ref(large))

        async def break_off() -> None:
            raise error

        # The task has the error, the error its traceback, that this frame, and this the task.
        task = asyncio.create_task(break_off())
        await asyncio.wait({task})
        task.result()

    gc.disable()
    try:
        await Call(SCOPE, nothing, send, 1000).run(answer())
        assert [one() for one in kept] == [None]
    finally:
        gc.enable()
    assert bool(sent) == isinstance(error, JobNotFound)
