"""Responses: `POST /v1/responses`, and what may be asked of one later.

A response is a job under another name, and so all of them can be retrieved, however they began.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server.api.errors import CallError, failure_of
from aitbc_server.aside import by_size
from aitbc_server.domain.errors import JobAlreadyFinal, JobNotFound
from aitbc_server.openai.call import Call
from aitbc_server.openai.errors import OpenAIError
from aitbc_server.openai.jobs import Jobs, is_absent
from aitbc_server.openai.query import ItemsQuery, ResponseQuery
from aitbc_server.openai.response_events import response_events
from aitbc_server.openai.response_ids import job_id_of, response_not_found
from aitbc_server.openai.response_items import input_items
from aitbc_server.openai.response_items_page import page_of
from aitbc_server.openai.response_notes import notes_of
from aitbc_server.openai.response_object import response_object
from aitbc_server.openai.response_references import conversation_before, resolved
from aitbc_server.openai.response_request import ResponseRequest
from aitbc_server.openai.response_telling import Telling

# A stream of a response that is there already has it as two jobs, as events and as their texts.
_TIMES_HELD = 4


class Responses:
    """Answers the requests about responses."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def create(self, call: Call) -> None:
        """Generates a response: at once, as a stream, or in the background."""
        await self._jobs.admit(call.client)
        request = await call.read(ResponseRequest, await call.body())
        name = request.previous_response_id
        earlier, conversation = await conversation_before(name, self._jobs, call.client)
        items = await resolved(request.items, self._jobs, call.client)
        submission = await by_size(call.asked_bytes, request.submission, earlier, items)
        submission.conversation_id = submission.conversation_id or conversation
        await self._jobs.check_model(request.model, call.client)
        call.job_ids = await self._jobs.submit([submission], call.client)
        (job_id,) = call.job_ids
        if request.background and not request.stream:
            await _answer(call, await self._jobs.get(job_id, call.client))
        elif request.background:
            await self._stream(call, job_id, -1, request.includes)
        else:
            async with self._jobs.cancelled_with_client([job_id], call.client):
                if request.stream:
                    await self._stream(call, job_id, -1, request.includes)
                    return
                async with call.watched():
                    (job,) = await self._jobs.results([job_id], call.client)
            await _answer(call, job, request.includes)

    async def get(self, call: Call, response_id: str) -> None:
        """Answers with a response as it is now, or streams it from where its reader was."""
        query: ResponseQuery = call.query
        job = await self._job(call, response_id)
        if query.stream:
            with call.client.reader.held(_TIMES_HELD * job.ByteSize()):
                await self._stream(call, job.job_id, query.after, query.includes)
        else:
            await _answer(call, job, query.includes)

    async def input_items(self, call: Call, response_id: str) -> None:
        """Answers with a page of what a response was asked."""
        query: ItemsQuery = call.query
        job = await self._job(call, response_id)
        with call.holding([job]):
            await call.answer(await by_size(job.ByteSize(), _page, job, query))

    async def delete(self, call: Call, response_id: str) -> None:
        """Deletes a response that has ended."""
        with _named(call, response_id) as job_id:
            await self._jobs.delete(job_id, call.client)
        await call.answer({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, call: Call, response_id: str) -> None:
        """Cancels a response; one of the background that has ended is told as it is."""
        try:
            with _named(call, response_id) as job_id:
                job = await self._jobs.cancel(job_id, call.client)
        except (JobAlreadyFinal, CallError) as error:
            if failure_of(error).reason != JobAlreadyFinal.reason:
                raise
            job = await self._job(call, response_id)
            was_cancelled = job.status == jobs_pb2.JOB_STATUS_CANCELLED
            if not was_cancelled and not notes_of(job).shown.get("background"):
                message = "Cannot cancel a synchronous response."
                raise OpenAIError(400, message, code="invalid_value", param="response_id") from None
        await _answer(call, job)

    async def _job(self, call: Call, response_id: str) -> jobs_pb2.Job:
        self._jobs.let_in_reader(call.client)
        with _named(call, response_id) as job_id:
            return await self._jobs.get(job_id, call.client)

    async def _stream(self, call: Call, job_id: str, after: int, includes: frozenset[str]) -> None:
        events = response_events(self._jobs, job_id, call.client, includes, after)
        told = Telling()
        await call.stream(events, told.event, last_words=told.last_words)


async def _answer(call: Call, job: jobs_pb2.Job, includes: frozenset[str] = frozenset()) -> None:
    with call.holding([job]):
        await call.answer(await by_size(job.ByteSize(), response_object, job, includes))


def _page(job: jobs_pb2.Job, query: ItemsQuery) -> dict[str, Any]:
    return page_of(list(input_items(job, notes_of(job))), query)


@contextlib.contextmanager
def _named(call: Call, response_id: str) -> Iterator[str]:
    """Gives the job of a response, and tells in the words of responses that there is none."""
    job_id = job_id_of(response_id)
    call.job_ids = [job_id]
    try:
        yield job_id
    except (JobNotFound, CallError) as error:
        if not is_absent(error):
            raise
        raise response_not_found(response_id) from None
