"""The streams of jobs: what readers of StreamJob and RunJob get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aitbc.v1 import jobs_pb2
from aitbc_server.api.convert import job_message, set_timestamp, timestamp
from aitbc_server.api.endpoint import Messages
from aitbc_server.dispatch.extras import Place
from aitbc_server.dispatch.live import LiveJob, Phase
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.dispatch.transcripts import Follower, News
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

# Text of one event: a large answer that is there already becomes several.
_MOST_BYTES = 1024 * 1024


def position_of(request: jobs_pb2.StreamJobRequest) -> Position:
    """Returns where a reader is."""
    if request.after_event_id:
        return Position.parse(request.after_event_id)
    if request.from_offset:
        return Position(request.from_offset, None)
    return START


class JobStreams:
    """Makes events of what the dispatcher hears and the store holds."""

    def __init__(self, store: Store, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher

    async def events(self, job_id: str, position: Position) -> Messages:
        """Yields a job's events, from the reader's position to the end of the job.

        Raises InvalidArgument for a position that is none in the text, and Draining.
        """
        live = self._dispatcher.core.jobs.get(job_id)
        place = None
        if live is not None:
            follower = self._dispatcher.transcripts.follow(live, position)
            told: _State | None = None
            try:
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
            finally:
                follower.close()
            position, place = follower.position, follower.place
        for event in self.ending(await self._record(job_id), position, place):
            yield event

    def ending(
        self, record: JobRecord, position: Position, place: Place | None = None
    ) -> Iterator[jobs_pb2.JobEvent]:
        """Yields what a reader of a final job does not have yet. Raises InvalidArgument.

        `place`: how far the reader is in what the answer has beside its text, when that is known.
        """
        if position.is_final:
            return
        job = job_message(record)
        if record.result is not None:
            news = _rest_of(job, position, place)
            yield from _text_events(news)
            position = news.position.advanced(news.text)
        # The texts, and what its client asked for.
        for field in ("prompt", "messages", "params", "tools", "response_format", "result"):
            job.ClearField(field)
        yield _event(jobs_pb2.JOB_EVENT_TYPE_FINAL, position._replace(is_final=True), job=job)

    async def _record(self, job_id: str) -> JobRecord:
        record = await self._store.job(job_id)
        if record is None:
            raise JobNotFound
        if not record.status.is_final:
            # Somebody else changed the database, so the dispatcher let go of the job.
            raise StorageUnavailable
        return record


async def each(events: Iterable[jobs_pb2.JobEvent]) -> Messages:
    """Yields events that are there already."""
    for event in events:
        yield event


def _rest_of(job: jobs_pb2.Job, position: Position, place: Place | None) -> News:
    """Returns what a reader has not of the answer of a completed job. Raises InvalidArgument."""
    result = job.result.encode()
    try:
        found = position.within(result)
    except ValueError as error:
        raise InvalidArgument("from_offset", str(error)) from None
    if place is None and position == START:
        place = Place()
    rest: Parts | None = NO_PARTS
    if place is not None and (job.tool_calls or job.logprobs or place.is_begun):
        whole = _parts_of(job)
        rest = place.beyond(whole)
        if found is None or rest is None:
            found, rest = None, whole
    begin = found or START
    text = result[begin.offset :]
    # The rest of the calls, and probabilities without a text, are the final event's to tell.
    parts = Parts((), rest.logprobs) if text and rest and rest.logprobs else NO_PARTS
    return News(text, begin, found is None, parts)


def _parts_of(job: jobs_pb2.Job) -> Parts:
    calls = (
        CallPart(number, call.id, call.name, call.arguments)
        for number, call in enumerate(job.tool_calls)
    )
    return Parts(tuple(calls), tuple(one.SerializeToString() for one in job.logprobs))


def _news_of(follower: Follower) -> News | None:
    try:
        return follower.news()
    except ValueError as error:
        raise InvalidArgument("from_offset", str(error)) from None


def _text_events(news: News) -> Iterator[jobs_pb2.JobEvent]:
    position = news.position
    if news.is_restarted:
        yield _event(jobs_pb2.JOB_EVENT_TYPE_RESTARTED, position)
    end = position.offset + len(news.text)
    has_only_parts = not news.text and news.parts is not NO_PARTS
    for piece in (b"",) if has_only_parts else _pieces(news.text):
        position = position.advanced(piece)
        event = _event(jobs_pb2.JOB_EVENT_TYPE_DELTA, position, text=piece.decode())
        if news.parts is not NO_PARTS and position.offset == end:
            _add_parts(event, news.parts)
        yield event


def _add_parts(event: jobs_pb2.JobEvent, parts: Parts) -> None:
    for number, call_id, name, arguments in parts.calls:
        event.tool_calls.add(index=number, id=call_id, name=name, arguments=arguments)
    for one in parts.logprobs:
        event.logprobs.add().MergeFromString(one)


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
    text: str = "",
    job: jobs_pb2.Job | None = None,
) -> jobs_pb2.JobEvent:
    return jobs_pb2.JobEvent(
        type=kind, event_id=str(position), text=text, offset=position.offset, job=job
    )
