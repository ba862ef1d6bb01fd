"""The streams of jobs: what readers of StreamJob and RunJob get."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from aitbc.v1 import jobs_pb2
from aitbc_server.api.convert import job_message, set_timestamp, timestamp
from aitbc_server.api.endpoint import Messages
from aitbc_server.aside import by_size
from aitbc_server.auth.unread import Unread
from aitbc_server.dispatch.extras import Place
from aitbc_server.dispatch.live import LiveJob, Phase
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.dispatch.transcripts import Follower, News
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import (
    Draining,
    InvalidArgument,
    JobNotFound,
    StorageUnavailable,
)
from aitbc_server.domain.jobs import JobRecord
from aitbc_server.domain.parts import NO_PARTS, CallPart, Parts
from aitbc_server.domain.positions import START, Position
from aitbc_server.store.seam import Store

# What a status event tells apart: the number of the attempt, and whether it runs.
_State = tuple[int, bool]

# What the final event does not repeat.
_TEXTS: Final = (
    "prompt",
    "messages",
    "prompt_token_ids",
    "prompt_options",
    "inputs",
    "params",
    "tools",
    "response_format",
    "result",
    "reasoning",
    "api_notes",
)
# Text of one event: a large answer that is there already becomes several.
_MOST_BYTES = 1024 * 1024


def position_of(request: jobs_pb2.StreamJobRequest) -> Position:
    """Returns where a reader is."""
    if request.after_event_id:
        return Position.parse(request.after_event_id)
    return Position.after(request.from_offset)


class JobStreams:
    """Makes events of what the dispatcher hears and the store holds."""

    def __init__(self, store: Store, dispatcher: Dispatcher, unread: Unread) -> None:
        self._store = store
        self._unread = unread
        self._dispatcher = dispatcher

    async def events(self, job_id: str, position: Position, caller: Caller) -> Messages:
        """Yields a job's events, from the reader's position to the end of the job.

        Raises InvalidArgument for a position that is none in the text, Draining, and TooMuchUnread.
        """
        live = self._dispatcher.core.jobs.get(job_id)
        place = None
        if live is not None:
            follower = self._dispatcher.transcripts.follow(live, position)
            told: _State | None = None
            with self._dispatcher.reading(live), closing(follower):
                # Looked at again after each event: whatever comes meanwhile is not waited for.
                while job_id in self._dispatcher.core.jobs:
                    state = (live.attempt, _is_running(live))
                    if state != told:
                        told = state
                        job = _live_message(live)
                        yield _event(jobs_pb2.JOB_EVENT_TYPE_STATUS, follower.position, job=job)
                    elif (news := _news_of(follower)) is not None:
                        for event in _text_events(news):
                            yield event
                    else:
                        await follower.wait()
                        if self._dispatcher.transcripts.is_closed:
                            raise Draining(retry_after_s=1)
            position, place = follower.position, follower.place
        rest = await self.ending(await self._record(job_id), position, caller, place)
        async for message in rest:
            yield message

    async def ending(
        self,
        record: JobRecord,
        position: Position,
        caller: Caller,
        place: Place | None = None,
    ) -> Messages:
        """Returns what a reader of a final job does not have yet. Raises InvalidArgument.

        `place`: how far the reader is in what the answer has beside its text, when that is known.
        Raises TooMuchUnread, because all of it is there until it is read.
        """
        size = len(record.details or b"") + len(record.result or "")
        with self._unread.held(caller, size):
            events = await by_size(size, deque, _ending(record, position, place))
        return self._each(events, size, caller)

    async def _each(self, events: deque[jobs_pb2.JobEvent], size: int, caller: Caller) -> Messages:
        with self._unread.held(caller, size):
            while events:
                yield events.popleft()

    async def _record(self, job_id: str) -> JobRecord:
        record = await self._store.job(job_id)
        if record is None:
            raise JobNotFound
        if not record.status.is_final:
            # Somebody else changed the database, so the dispatcher let go of the job.
            raise StorageUnavailable
        return record


def _ending(
    record: JobRecord, position: Position, place: Place | None
) -> Iterator[jobs_pb2.JobEvent]:
    if position.is_final:
        return
    job = job_message(record)
    if record.result is not None:
        news = _rest_of(job, position, place)
        yield from _text_events(news)
        position = news.position.advanced(news.text, news.reasoning)
    # The texts, and what its client asked for.
    for field in _TEXTS:
        job.ClearField(field)
    yield _event(jobs_pb2.JOB_EVENT_TYPE_FINAL, position._replace(is_final=True), job=job)


def _rest_of(job: jobs_pb2.Job, position: Position, place: Place | None) -> News:
    """Returns what a reader has not of the answer of a completed job. Raises InvalidArgument."""
    result, reasoning = job.result.encode(), job.reasoning.encode()
    try:
        found = position.within(result, reasoning)
    except ValueError as error:
        raise InvalidArgument("from_offset", str(error)) from None
    if place is None and position == START:
        place = Place()
    rest: Parts | None = NO_PARTS
    beside = job.tool_calls or job.logprobs or job.token_ids
    if place is not None and (beside or place.is_begun):
        whole = _parts_of(job)
        rest = place.beyond(whole)
        if found is None or rest is None:
            found, rest = None, whole
    begin = found or START
    text = result[begin.offset :]
    # The rest of the calls, and of tokens without a text, are the final event's to tell.
    thought = reasoning[begin.reasoning_offset :]
    parts = NO_PARTS
    if rest is not None and (text or thought) and (rest.logprobs or rest.token_ids):
        parts = Parts((), rest.logprobs, token_ids=rest.token_ids)
    return News(text, begin, found is None, parts, thought)


def _parts_of(job: jobs_pb2.Job) -> Parts:
    calls = (
        CallPart(number, call.id, call.name, call.arguments)
        for number, call in enumerate(job.tool_calls)
    )
    logprobs = (one.SerializeToString() for one in job.logprobs)
    return Parts(tuple(calls), tuple(logprobs), token_ids=tuple(job.token_ids))


def _news_of(follower: Follower) -> News | None:
    try:
        return follower.news()
    except ValueError as error:
        raise InvalidArgument("from_offset", str(error)) from None


def _text_events(news: News) -> Iterator[jobs_pb2.JobEvent]:
    position = news.position
    if news.is_restarted:
        yield _event(jobs_pb2.JOB_EVENT_TYPE_RESTARTED, position)
    pieces = (
        *((b"", piece) for piece in _pieces(news.reasoning)),
        *((piece, b"") for piece in _pieces(news.text)),
    )
    if not pieces and news.parts is not NO_PARTS:
        pieces = ((b"", b""),)
    for place, (text, reasoning) in enumerate(pieces, start=1):
        position = position.advanced(text, reasoning)
        event = _event(
            jobs_pb2.JOB_EVENT_TYPE_DELTA,
            position,
            text=text.decode(),
            reasoning=reasoning.decode(),
        )
        if place == len(pieces):
            _add_parts(event, news.parts)
        yield event


def _add_parts(event: jobs_pb2.JobEvent, parts: Parts) -> None:
    for number, call_id, name, arguments in parts.calls:
        event.tool_calls.add(index=number, id=call_id, name=name, arguments=arguments)
    for one in parts.logprobs:
        event.logprobs.add().MergeFromString(one)
    event.token_ids.extend(parts.token_ids)


def _pieces(text: bytes) -> Iterator[bytes]:
    """Yields the text in parts that fit an event, cut between characters."""
    begin = 0
    while begin < len(text):
        end = min(begin + _MOST_BYTES, len(text))
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
        yield text[begin:end]
        begin = end


def _is_running(job: LiveJob) -> bool:
    return job.lease is not None and job.lease.phase is not Phase.BEGINNING


def _live_message(job: LiveJob) -> jobs_pb2.Job:
    """Returns what a status event tells of a job that is not final."""
    message = jobs_pb2.Job(
        job_id=job.job_id,
        status=jobs_pb2.JOB_STATUS_PENDING,
        model=job.model,
        created_at=timestamp(job.created_us),
        attempt=job.attempt,
    )
    if job.lease is not None and _is_running(job):
        message.status = jobs_pb2.JOB_STATUS_RUNNING
        message.miner_id = job.lease.miner_id
        set_timestamp(message.started_at, job.lease.started_us)
    return message


def _event(
    kind: jobs_pb2.JobEventType.ValueType,
    position: Position,
    *,
    text: str | None = None,
    reasoning: str = "",
    job: jobs_pb2.Job | None = None,
) -> jobs_pb2.JobEvent:
    return jobs_pb2.JobEvent(
        type=kind,
        event_id=str(position),
        text=text,
        offset=position.offset,
        job=job,
        reasoning=reasoning,
    )
