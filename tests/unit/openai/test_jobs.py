"""What is said of the jobs of a request that ends before they do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc.v1 import jobs_pb2
from aitbc_server.auth.unread import Unread
from aitbc_server.domain.caller import Caller
from aitbc_server.openai.jobs import Client, Jobs
from aitbc_server.rest.asgi import Event
from aitbc_server.rest.errors import CoordinatorUnreachable
from aitbc_server.rest.reader import Reader


async def sent(_: Event) -> None:
    raise AssertionError("nothing is sent")


CLIENT = Client({}, "127.0.0.1", Reader({}, sent, Unread()))


class Listening:
    """A backend that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[Message] = asyncio.Queue()

    async def methods(self) -> Sequence[MethodDescriptor]:
        return ()

    def admit(self, method: MethodDescriptor, headers: Mapping[str, str], peer: str) -> Caller:
        return Caller()

    async def confirm(self, *_: Any) -> None:
        pass

    async def call(
        self, method: MethodDescriptor, request: Message, headers: Mapping[str, str], caller: Caller
    ) -> Message:
        self.asked.put_nowait(request)
        if request == abandoned("job-1"):
            raise CoordinatorUnreachable
        return jobs_pb2.Job()

    async def open(self, *_: Any) -> Any:
        raise NotImplementedError


def abandoned(job_id: str) -> Message:
    """Returns what is said of a job that a request no longer waits for."""
    return jobs_pb2.CancelJobRequest(job_id=job_id, abandoned=True)


async def leave(backend: Listening, error: type[Exception]) -> None:
    """Lets a request with two jobs end."""
    jobs = Jobs(backend, max_message_bytes=1000)
    with pytest.raises(error):
        async with jobs.cancelled_with_client(["job-1", "job-2"], CLIENT):
            raise error


async def test_each_job_of_a_request_that_ends_is_let_go_of_alone() -> None:
    backend = Listening()
    await leave(backend, ConnectionError)
    async with asyncio.timeout(10):
        told = [await backend.asked.get() for _ in range(2)]
    assert told == [abandoned("job-1"), abandoned("job-2")]


async def test_a_coordinator_that_has_gone_is_told_nothing() -> None:
    # The next one does not know that this request waited: it would take another one for it.
    backend = Listening()
    await leave(backend, CoordinatorUnreachable)
    await leave(backend, ConnectionError)
    async with asyncio.timeout(10):
        [await backend.asked.get() for _ in range(2)]
    assert backend.asked.empty()
