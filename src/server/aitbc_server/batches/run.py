"""Runs one batch, step by step; each step is stored before the next begins.

    1. what has ended is written to the output and error files, and closed
    2. what is open and has no jobs yet is submitted, under names made of the batch and the line
    3. more of the file is read and opened

A run that begins anew, after a crash or a fault of the storage, submits what is open once more: the
same names find the same jobs. So no line is lost, and none is told or run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aitbc.v1 import jobs_pb2
from aitbc_server.batches.checking import FileCheck
from aitbc_server.batches.parts import BatchBounds, BatchStore, Endpoints, Jobs
from aitbc_server.batches.requests import LineFault, Request
from aitbc_server.batches.room import Room
from aitbc_server.batches.source import Source
from aitbc_server.batches.telling import CANCELLED, EXPIRED, Texts, answer_line, fault_line
from aitbc_server.domain.batches import Advance, BatchFault, BatchRecord, BatchStatus, OpenLine
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    Exhausted,
    InvalidApiKey,
    PayloadTooLarge,
    Unavailable,
)
from aitbc_server.domain.files import file_id_of
from aitbc_server.slices import is_spent, next_turn

# Of one step: lines that are read and submitted, and about how many bytes are read or written.
_STEP_LINES = 64
_STEP_BYTES = 1024 * 1024
# How long a batch whose jobs are refused waits at most before it tries again.
_MOST_PAUSE_S = 30.0
_LONGEST_WAIT_S = 60.0


@dataclass(slots=True, eq=False)
class _Line:
    """A line that is open."""

    number: int
    offset: int
    size: int
    # Whether it was open before this run began: then it may have jobs.
    is_resumed: bool = False
    job_ids: Sequence[str] = ()
    # Those of them that are not final.
    waiting: set[str] = field(default_factory=set)
    # Whether they are kept no longer than until they are told.
    is_fleeting: bool = False
    # Why it has no jobs.
    refusal: Exception | None = None


class BatchRun:
    """One run of one batch, from what is stored of it."""

    def __init__(
        self,
        batch: BatchRecord,
        store: BatchStore,
        source: Source,
        endpoints: Endpoints,
        jobs: Jobs,
        clock: Clock,
        bounds: BatchBounds,
        turns: asyncio.Semaphore,
        watch: dict[str, Callable[[str], None]],
    ) -> None:
        """`turns`: of steps, which all batches share; `watch`: who is told of the end of a job."""
        self._batch = batch
        self._store = store
        self._source = source
        self._endpoints = endpoints
        self._jobs = jobs
        self._clock = clock
        self._bounds = bounds
        self._turns = turns
        self._watch = watch
        self._reader = source.reader(batch.read_bytes, batch.read_lines)
        # Lines that are open, by number; those of them without jobs, and those that have ended.
        self._lines: dict[int, _Line] = {}
        self._unsubmitted: list[_Line] = []
        # Jobs that are being stored.
        self._submitting = 0
        self._ended: list[_Line] = []
        # Lines by the jobs that are waited for.
        self._waiting: dict[str, _Line] = {}
        self._may_submit_at = 0.0
        # Whether what has not ended is being ended.
        self._is_ending = False
        self._is_changed = False
        self._wake = asyncio.Event()
        self._room = Room(_STEP_BYTES)

    def changed(self) -> None:
        """Says that the batch is stored otherwise than it was."""
        self._is_changed = True
        self._wake.set()

    def leave(self) -> None:
        """Waits for no job any more: the run is over, however."""
        for job_id in self._waiting:
            self._watch.pop(job_id, None)

    async def run(self) -> BatchStatus:
        """Returns how it ended. Raises StorageUnavailable."""
        if self._batch.status is BatchStatus.VALIDATING and not await self._is_right():
            return BatchStatus.FAILED
        for number, offset, size in await self._store.lines(self._batch.batch_id):
            self._lines[number] = _Line(number, offset, size, is_resumed=True)
        self._unsubmitted = list(self._lines.values())
        while True:
            self._wake.clear()
            if self._is_changed:
                self._is_changed = False
                await self._read_again()
            async with self._turns:
                has_moved = await self._step()
            if has_moved:
                # Others take turns.
                await asyncio.sleep(0)
            elif self._reader.is_at_end and not self._lines:
                return await self._end()
            else:
                await self._wait()

    async def _is_right(self) -> bool:
        """Checks the file, and stores whether it can be run."""
        check = FileCheck(
            self._batch.endpoint,
            most_lines=self._bounds.most_lines,
            most_line_bytes=self._bounds.most_line_bytes,
        )
        checked = await check.check(self._source.reader(), self._turns)
        batch_id, now_us = self._batch.batch_id, self._clock.wall_us()
        if checked.faults and await self._store.fail(batch_id, checked.faults, now_us):
            return False
        if not checked.faults:
            await self._store.begin(batch_id, checked.total, now_us)
        # It may have been cancelled meanwhile.
        await self._read_again()
        return True

    async def _read_again(self) -> None:
        batch = await self._store.batch(self._batch.batch_id)
        if batch is not None:
            self._batch = batch

    # Steps

    async def _step(self) -> bool:
        """Does what can be done; says whether there was anything."""
        if self._ended:
            await self._close_ended()
            return True
        code = self._ending()
        if code is not None:
            return await self._step_to_end(code)
        if self._unsubmitted and self._may_submit():
            return await self._submit(self._unsubmitted[:_STEP_LINES], {})
        room = self._bounds.jobs_at_once - max(len(self._lines), len(self._waiting))
        if not self._unsubmitted and room > 0 and not self._reader.is_at_end:
            await self._open(room)
            return True
        return False

    def _may_submit(self) -> bool:
        return self._has_room() and self._clock.monotonic() >= self._may_submit_at

    def _has_room(self) -> bool:
        return len(self._waiting) + self._submitting < self._bounds.jobs_at_once

    async def _open(self, room: int) -> None:
        """Reads more of the file: each line is opened, or fails at once."""
        lines = await self._reader.some(min(room, _STEP_LINES), _STEP_BYTES)
        requests, faults = await self._source.requests(lines)
        opened = [
            _Line(line.number, line.offset, line.size) for line in lines if line.number in requests
        ]
        texts = self._faulty(faults)
        await self._store.advance(self._advance(texts, opened=opened))
        self._lines |= {line.number: line for line in opened}
        self._unsubmitted += opened
        await self._submit(opened, requests)

    def _faulty(self, faults: dict[int, LineFault]) -> Texts:
        texts = Texts()
        for number, fault in faults.items():
            text = fault_line(self._batch.batch_id, number, fault.custom_id, fault.code, str(fault))
            texts.add(text, is_answer=False)
        return texts

    async def _submit(self, lines: Sequence[_Line], known: dict[int, Request]) -> bool:
        """Makes the jobs of lines, or finds those that were made; says whether all were.

        `known` has what they ask, as far as it is in memory.
        """
        try:
            caller = self._jobs.caller(self._batch)
        except InvalidApiKey as error:
            fault = BatchFault("invalid_api_key", f"The key of the batch is not valid: {error}.")
            await self._store.cancel(self._batch.batch_id, self._clock.wall_us(), (fault,))
            await self._read_again()
            return True
        done = await asyncio.gather(
            *(self._submit_one(line, known.get(line.number), caller) for line in lines)
        )
        submitted = {line.number for line, is_done in zip(lines, done, strict=True) if is_done}
        self._unsubmitted = [one for one in self._unsubmitted if one.number not in submitted]
        return all(done)

    async def _submit_one(self, line: _Line, request: Request | None, caller: Caller) -> bool:
        name = f"{self._batch.batch_id}.{line.number}"
        try:
            if request is None:
                request = await self._source.request(line.number, line.offset)
            path, body = self._batch.endpoint, request.body
            async with self._room.made(self._made, path, body) as made:
                for one in made:
                    one.priority = self._bounds.priority
                    if one.HasField("store") and not one.store:
                        line.is_fleeting = True
                # A line may be many jobs. Those of one that began before are there already.
                if not (line.is_resumed or self._has_room()):
                    return False
                self._submitting += len(made)
                try:
                    self._wait_for(line, await self._jobs.submit(name, made, caller))
                finally:
                    self._submitting -= len(made)
        except (Exhausted, Unavailable) as error:
            if not isinstance(error, PayloadTooLarge):
                pause_s = min(error.retry_after_s or 1.0, _MOST_PAUSE_S)
                self._may_submit_at = self._clock.monotonic() + pause_s
                return False
            self._refuse(line, error)
        except Exception as error:
            self._refuse(line, error)
        return True

    def _wait_for(self, line: _Line, job_ids: Sequence[str]) -> None:
        line.job_ids = job_ids
        line.waiting = {job_id for job_id in job_ids if not self._jobs.is_final(job_id)}
        for job_id in line.waiting:
            self._waiting[job_id] = line
            self._watch[job_id] = self._job_ended
        if not line.waiting:
            self._ended.append(line)

    def _refuse(self, line: _Line, error: Exception) -> None:
        # This line alone. A traceback would keep what there was of its jobs.
        line.refusal = error.with_traceback(None)
        self._ended.append(line)

    async def _made(self, path: str, body: bytes) -> Sequence[jobs_pb2.SubmitJobRequest]:
        # Many lines are made one after the other, and those that are wrong take longest.
        if is_spent():
            await next_turn()
        return await self._endpoints.jobs_of(path, body)

    def _job_ended(self, job_id: str) -> None:
        line = self._waiting.pop(job_id)
        line.waiting.remove(job_id)
        if not line.waiting:
            self._ended.append(line)
            self._wake.set()

    async def _close_ended(self) -> None:
        """Writes what has ended to the files."""
        texts = Texts()
        closed: list[_Line] = []
        for line in self._ended:
            if texts.size >= _STEP_BYTES or len(closed) == _STEP_LINES:
                break
            closed.append(line)
            await self._tell(line, texts)
            if is_spent():
                await next_turn()
        await self._store.advance(self._advance(texts, closed=closed))
        del self._ended[: len(closed)]
        for line in closed:
            del self._lines[line.number]
        fleeting = [job_id for line in closed if line.is_fleeting for job_id in line.job_ids]
        if fleeting:
            await self._jobs.forget(fleeting)

    async def _tell(self, line: _Line, texts: Texts) -> None:
        """Adds what the files say of a line."""
        batch_id, number = self._batch.batch_id, line.number
        request = await self._source.request(number, line.offset)
        custom_id = request.custom_id
        found = [await self._jobs.read(job_id, self._batch.owner) for job_id in line.job_ids]
        jobs = [job for job in found if job is not None]
        code = self._ending()
        was_stopped = any(job.status == jobs_pb2.JOB_STATUS_CANCELLED for job in jobs)
        if code is not None and line.refusal is None and (was_stopped or not line.job_ids):
            text = fault_line(batch_id, number, custom_id, code)
            texts.add(text, is_answer=False, jobs=jobs)
            return
        if len(jobs) < len(line.job_ids):
            message = "A job of this request was deleted before its answer was written."
            text = fault_line(batch_id, number, custom_id, "job_deleted", message)
            texts.add(text, is_answer=False)
            return
        try:
            if line.refusal is not None:
                raise line.refusal
            told = await self._endpoints.answer(self._batch.endpoint, request.body, jobs)
        except Exception as error:
            path, body = self._batch.endpoint, request.body
            told = await self._endpoints.failure(path, body, error, line.job_ids)
        text = answer_line(batch_id, number, custom_id, told, line.job_ids)
        texts.add(text, is_answer=told.status < 300, jobs=jobs)

    def _advance(
        self, texts: Texts, *, opened: Sequence[_Line] = (), closed: Sequence[_Line] = ()
    ) -> Advance:
        batch, reader = self._batch, self._reader
        ulid = batch.batch_id.removeprefix("batch_")
        return Advance(
            batch_id=batch.batch_id,
            owner=batch.owner,
            read_bytes=reader.offset,
            read_lines=reader.number,
            opened=tuple(OpenLine(line.number, line.offset, line.size) for line in opened),
            closed=tuple(line.number for line in closed),
            output=b"".join(texts.output),
            errors=b"".join(texts.errors),
            output_file_id=file_id_of(f"{ulid}-output"),
            error_file_id=file_id_of(f"{ulid}-errors"),
            completed=len(texts.output),
            failed=len(texts.errors),
            prompt_tokens=texts.prompt_tokens,
            completion_tokens=texts.completion_tokens,
            now_us=self._clock.wall_us(),
        )

    # The end

    def _ending(self) -> str | None:
        """Returns why what has not ended is to be ended, if it is."""
        if self._batch.status is BatchStatus.CANCELLING:
            return CANCELLED
        if self._batch.expires_us <= self._clock.wall_us():
            return EXPIRED
        return None

    async def _step_to_end(self, code: str) -> bool:
        self._is_ending = True
        resumed = [line for line in self._unsubmitted if line.is_resumed][:_STEP_LINES]
        # Their jobs are found by their names. Those that cannot be are not worth waiting for.
        if resumed:
            await self._submit(resumed, {})
        for line in resumed:
            line.is_resumed = False
        if not any(line.is_resumed for line in self._unsubmitted):
            self._ended += self._unsubmitted
            self._unsubmitted = []
        for job_id in list(self._waiting):
            self._jobs.cancel(job_id)
        if resumed or self._ended:
            return True
        if self._reader.is_at_end:
            return False
        lines = await self._reader.some(10 * _STEP_LINES, _STEP_BYTES)
        requests, faults = await self._source.requests(lines)
        texts = self._faulty(faults)
        for number, request in requests.items():
            text = fault_line(self._batch.batch_id, number, request.custom_id, code)
            texts.add(text, is_answer=False)
        await self._store.advance(self._advance(texts))
        return True

    async def _end(self) -> BatchStatus:
        status = BatchStatus.COMPLETED
        if self._is_ending:
            is_cancelled = self._ending() == CANCELLED
            status = BatchStatus.CANCELLED if is_cancelled else BatchStatus.EXPIRED
        now_us = self._clock.wall_us()
        keep_s = self._batch.keep_output_s or self._bounds.keep_s
        expires_us = None if keep_s is None else now_us + int(keep_s * 1e6)
        await self._store.end(self._batch.batch_id, status, now_us, expires_us)
        return status

    async def _wait(self) -> None:
        """Returns when there may be something to do."""
        wait_s = _LONGEST_WAIT_S
        if not self._is_ending:
            left_us = self._batch.expires_us - self._clock.wall_us()
            wait_s = min(wait_s, max(0.0, left_us / 1e6))
        if self._unsubmitted and len(self._waiting) < self._bounds.jobs_at_once:
            wait_s = min(wait_s, max(0.0, self._may_submit_at - self._clock.monotonic()))
        try:
            async with asyncio.timeout(wait_s + 0.001):  # at the very moment it may not be over yet
                await self._wake.wait()
        except TimeoutError:
            return
