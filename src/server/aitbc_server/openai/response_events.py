"""The events of a response's stream, whose numbers are the same whenever it is read.

A delta is numbered by where its text ends, in bytes, so that a reader who comes back with the
number of the last event that it has gets what follows, whichever way the text was cut before.

The reasoning comes first, then the text, then the calls. What comes out of turn, such as text after
a call, is told with the whole response only: who reads the stream later could not be told when.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server.aside import LARGE_BYTES, aside, by_size
from aitbc_server.openai.errors import AnswerRestarted, JobFailed
from aitbc_server.openai.jobs import Client, Jobs
from aitbc_server.openai.open_items import OpenCall, OpenItem, OpenReasoning, OpenText
from aitbc_server.openai.response_items import ENCRYPTED, LOGPROBS, is_cut, text_logprobs
from aitbc_server.openai.response_notes import Notes, notes_of
from aitbc_server.openai.response_object import response_object

_Event = dict[str, Any]


async def response_events(
    jobs: Jobs, job_id: str, client: Client, includes: frozenset[str], after: int
) -> AsyncGenerator[_Event, None]:
    """Yields the events numbered above `after`. Raises as `Jobs.events`."""
    async for event in _all_events(jobs, job_id, client, includes):
        number = event["sequence_number"]
        if number <= after:
            continue
        if event["type"].endswith(".delta"):
            text = event["delta"].encode()
            # Its number is that of its last byte.
            begin = number - len(text)
            if begin < after:
                # Its reader has a part of it, cut at a byte where a character may go on.
                event["delta"] = text[max(0, after - begin) :].decode(errors="ignore")
        yield event


async def _all_events(
    jobs: Jobs, job_id: str, client: Client, includes: frozenset[str]
) -> AsyncGenerator[_Event, None]:
    job = await jobs.get(job_id, client)
    begun = jobs_pb2.Job()
    begun.CopyFrom(job)
    begun.status = jobs_pb2.JOB_STATUS_RUNNING
    told = _Told(job_id, notes_of(job), includes)
    size = job.ByteSize()
    yield await by_size(size, told.of_response, "created", begun)
    yield await by_size(size, told.of_response, "in_progress", begun)
    # What it was asked is told twice, and needed no longer.
    del job, begun
    try:
        async for _, event in jobs.events([job_id], client):
            tellings = told.more(event)
            if event.ByteSize() > LARGE_BYTES:
                tellings = iter(await aside(list, tellings))
            for telling in tellings:
                yield telling
    except JobFailed:
        job = await jobs.get(job_id, client)
        kind = "failed" if job.status == jobs_pb2.JOB_STATUS_FAILED else "incomplete"
        yield told.of_response(kind, job)
        return
    job = await jobs.get(job_id, client)
    size = job.ByteSize()
    for closing in await by_size(size, list, told.rest(job)):
        yield closing
    yield await by_size(size, told.of_response, "incomplete" if is_cut(job) else "completed", job)


class _Told:
    """What was told of a response: the item that is open, and the number of the next event."""

    def __init__(self, job_id: str, notes: Notes, includes: frozenset[str]) -> None:
        self._job_id = job_id
        self._notes = notes
        self._includes = includes
        self._number = 0
        # Items that are complete.
        self._done = 0
        self._open: OpenItem | None = None
        # Kinds of those that were begun, and how many calls.
        self._begun: set[type[OpenItem]] = set()
        self._calls = 0

    def of_response(self, kind: str, job: jobs_pb2.Job) -> _Event:
        """Returns an event about all of it."""
        told = response_object(job, self._includes, self._notes)
        return self._event({"type": f"response.{kind}", "response": told})

    def more(self, event: jobs_pb2.JobEvent) -> Iterator[_Event]:
        """Yields what a delta tells. Raises AnswerRestarted."""
        is_told = not self._notes.hides_reasoning and not self._begun - {OpenReasoning}
        if event.reasoning and is_told:
            yield from self._reasoning(event.reasoning)
        if event.text and OpenCall not in self._begun:
            tokens = event.logprobs if LOGPROBS in self._includes else ()
            yield from self._text(event.text, tokens)
        for part in event.tool_calls:
            yield from self._call(part)

    def rest(self, job: jobs_pb2.Job) -> Iterator[_Event]:
        """Yields what is left of the items of a completed job."""
        status = "incomplete" if is_cut(job) else "completed"
        has_text = bool(job.result) or not (job.tool_calls or job.reasoning)
        if has_text and OpenCall not in self._begun and OpenText not in self._begun:
            # An empty one.
            yield from self._begin(OpenText(self._job_id))
        if isinstance(self._open, OpenText) and LOGPROBS in self._includes:
            self._open.tokens = list(text_logprobs(job))
        for part in self._untold(job):
            yield from self._call(part)
        yield from self._end(status)

    def _untold(self, job: jobs_pb2.Job) -> Iterator[jobs_pb2.ToolCallPart]:
        for index, call in enumerate(job.tool_calls):
            if index >= self._calls:
                yield jobs_pb2.ToolCallPart(
                    index=index, id=call.id, name=call.name, arguments=call.arguments
                )
            elif index == self._calls - 1 and isinstance(self._open, OpenCall):
                rest = call.arguments[len(self._open.arguments) :]
                yield jobs_pb2.ToolCallPart(index=index, arguments=rest)

    def _reasoning(self, text: str) -> Iterator[_Event]:
        item = self._open
        if not isinstance(item, OpenReasoning):
            item = OpenReasoning(self._job_id, is_sealed=ENCRYPTED in self._includes)
            yield from self._begin(item)
        yield from self._delta(item.more(text), text)

    def _text(self, text: str, tokens: Sequence[jobs_pb2.TokenLogprob]) -> Iterator[_Event]:
        item = self._open
        if not isinstance(item, OpenText):
            item = OpenText(self._job_id)
            yield from self._begin(item)
        yield from self._delta(item.more(text, tokens), text)

    def _call(self, part: jobs_pb2.ToolCallPart) -> Iterator[_Event]:
        item = self._open
        if part.index == self._calls:
            self._calls += 1
            item = OpenCall(self._job_id, part, self._notes)
            yield from self._begin(item)
        elif part.id or part.index != self._calls - 1 or not isinstance(item, OpenCall):
            # What was told of it is void.
            raise AnswerRestarted
        text = item.more(part.arguments)
        yield from self._delta(item.delta(text), text)

    def _delta(self, event: _Event, text: str) -> Iterator[_Event]:
        if text:
            self._number += len(text.encode()) - 1
            yield self._placed(event)

    def _begin(self, item: OpenItem) -> Iterator[_Event]:
        yield from self._end("completed")
        self._open = item
        self._begun.add(type(item))
        for event in item.begin():
            yield self._placed(event)

    def _end(self, status: str) -> Iterator[_Event]:
        if self._open is None:
            return
        if isinstance(self._open, OpenCall):
            text = self._open.untold
            yield from self._delta(self._open.delta(text), text)
        for event in self._open.end(status):
            yield self._placed(event)
        self._open = None
        self._done += 1

    def _placed(self, event: _Event) -> _Event:
        return self._event({**event, "output_index": self._done})

    def _event(self, told: _Event) -> _Event:
        event = {"type": told.pop("type"), "sequence_number": self._number, **told}
        self._number += 1
        return event
