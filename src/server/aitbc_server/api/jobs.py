"""JobService: jobs of clients. Its methods for miners that poll are in claims.py."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from contextlib import suppress

from aitbc.v1 import jobs_pb2
from aitbc_server.api.convert import (
    STATUS_FROM_PROTO,
    STATUS_TO_PROTO,
    attempts_of,
    job_message,
    page_start,
    page_token,
    prompt_text,
    queue_message,
    set_timestamp,
    timestamp,
)
from aitbc_server.api.endpoint import Messages
from aitbc_server.api.generation import affinity_of, check_generation, check_size
from aitbc_server.api.records import find_job
from aitbc_server.api.streams import JobStreams, each, position_of
from aitbc_server.auth.allowance import Allowance
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    JobAlreadyFinal,
    JobNotFinal,
    JobNotFound,
    TooManyWaiting,
)
from aitbc_server.domain.ids import IdSource
from aitbc_server.domain.jobs import (
    DEFAULT_MAX_ATTEMPTS,
    JobRecord,
    JobStatus,
    NewJob,
    Submission,
    Submitted,
)
from aitbc_server.domain.limits import BEHIND_ALL
from aitbc_server.domain.positions import START
from aitbc_server.ledger.receipts import salted_hash
from aitbc_server.lifecycle import Lifecycle
from aitbc_server.store.seam import Store

_PAGE = 20
_AVAILABLE = 10
_REQUEST_ID = jobs_pb2.SubmitJobRequest.DESCRIPTOR.fields_by_name["request_id"]
# How long CancelJob waits for the miner to stop, before it answers with a job still running.
_CANCEL_WAIT_S = 1.0


class JobService:
    """Implements the methods of aitbc.v1.JobService that clients call."""

    descriptor = jobs_pb2.DESCRIPTOR.services_by_name["JobService"]

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        ids: IdSource,
        lifecycle: Lifecycle,
        allowance: Allowance,
    ) -> None:
        self._store = store
        self._allowance = allowance
        self._dispatcher = dispatcher
        self._clock = clock
        self._ids = ids
        self._lifecycle = lifecycle
        self._streams = JobStreams(store, dispatcher)

    async def submit_job(
        self, request: jobs_pb2.SubmitJobRequest, caller: Caller
    ) -> jobs_pb2.SubmitJobResponse:
        """Stores a job and queues it."""
        self._lifecycle.check_serving()
        self._allowance.check_jobs(caller, 1)
        submission = Submission(
            jobs=(self._new_job(request, caller),),
            account=caller.account,
            request_id=request.request_id or None,
            fingerprint=_fingerprint(request) if request.request_id else b"",
        )
        submitted = await self._submit(submission, caller)
        return _submitted(submitted.jobs[0])

    async def batch_submit_jobs(
        self, request: jobs_pb2.BatchSubmitJobsRequest, caller: Caller
    ) -> jobs_pb2.BatchSubmitJobsResponse:
        """Stores all of the jobs, or none."""
        self._lifecycle.check_serving()
        self._allowance.check_jobs(caller, len(request.jobs))
        submission = Submission(
            account=caller.account,
            jobs=tuple([self._new_job(job, caller) for job in request.jobs]),
            # Apart from the names of single jobs, which have no space.
            request_id=f"batch {request.request_id}" if request.request_id else None,
            fingerprint=_fingerprint(request) if request.request_id else b"",
        )
        submitted = await self._submit(submission, caller)
        return jobs_pb2.BatchSubmitJobsResponse(jobs=[_submitted(job) for job in submitted.jobs])

    async def get_job(self, request: jobs_pb2.GetJobRequest, caller: Caller) -> jobs_pb2.Job:
        """Returns a job, waiting for its end as long as asked."""
        if request.wait:
            # Whose it is is known of every job that is worth waiting for: it is read once, after.
            live = self._dispatcher.core.jobs.get(request.job_id)
            if live is not None and caller.owns(live.owner):
                await self._dispatcher.wait_final(live.job_id, request.wait)
        return _whole(await self._own(request.job_id, caller))

    async def run_job(self, request: jobs_pb2.SubmitJobRequest, caller: Caller) -> Messages:
        """Stores a job and streams it."""
        submitted = await self.submit_job(request, caller)
        return self._streams.events(submitted.job_id, START)

    async def stream_job(self, request: jobs_pb2.StreamJobRequest, caller: Caller) -> Messages:
        """Streams a job from where the reader is."""
        position = position_of(request)
        live = self._dispatcher.core.jobs.get(request.job_id)
        if live is None or live.owner != caller.owner:
            # Not final only if it became so just now, or is another's.
            record = await self._own(request.job_id, caller)
            if record.status.is_final:
                return each(list(self._streams.ending(record, position)))
        return self._streams.events(request.job_id, position)

    async def list_jobs(
        self, request: jobs_pb2.ListJobsRequest, caller: Caller
    ) -> jobs_pb2.ListJobsResponse:
        """Returns a page of the caller's jobs."""
        before = page_start(request.page_token)
        limit = request.limit if request.HasField("limit") else _PAGE
        page = await self._store.jobs(
            caller.owner,
            limit=limit,
            status=STATUS_FROM_PROTO.get(request.status),
            model=request.model or None,
            before=before,
        )
        return jobs_pb2.ListJobsResponse(
            jobs=[job_message(record) for record in page.records],
            next_page_token=page_token(page.next_before) if page.next_before else "",
        )

    async def cancel_job(self, request: jobs_pb2.CancelJobRequest, caller: Caller) -> jobs_pb2.Job:
        """Cancels a job; waits a moment for a miner to stop."""
        record = await self._own(request.job_id, caller)
        if record.status.is_final:
            raise JobAlreadyFinal(f"the job is {record.status} already")
        if self._dispatcher.cancel(record.job_id):
            # It is asked for; whether there is room to wait for it makes no difference.
            with suppress(TooManyWaiting):
                await self._dispatcher.wait_final(record.job_id, _CANCEL_WAIT_S)
        record = await self._own(request.job_id, caller)
        if record.status.is_final and record.status is not JobStatus.CANCELLED:
            raise JobAlreadyFinal(f"the job is {record.status} already")
        return _whole(record)

    async def delete_job(
        self, request: jobs_pb2.DeleteJobRequest, caller: Caller
    ) -> jobs_pb2.DeleteJobResponse:
        """Deletes a job that is final."""
        record = await self._own(request.job_id, caller)
        if not record.status.is_final:
            raise JobNotFinal
        if not await self._store.forget([record.job_id]):
            # Somebody else was faster.
            raise JobNotFound
        return jobs_pb2.DeleteJobResponse()

    async def get_job_queue(
        self, request: jobs_pb2.GetJobQueueRequest, caller: Caller
    ) -> jobs_pb2.GetJobQueueResponse:
        """Says why a job waits."""
        live = self._dispatcher.core.jobs.get(request.job_id)
        if live is None:
            record = await self._own(request.job_id, caller)
            return jobs_pb2.GetJobQueueResponse(
                job_id=record.job_id,
                status=STATUS_TO_PROTO[record.status],
                explanation=f"the job is {record.status}",
            )
        if not caller.owns(live.owner):
            raise JobNotFound
        return queue_message(live.job_id, self._dispatcher.explain(live))

    # Inside

    def _submit(self, submission: Submission, caller: Caller) -> Awaitable[Submitted]:
        if caller.limits.has_budget:
            return self._submit_in_budget(submission, caller)
        return self._dispatcher.submit(submission)

    async def _submit_in_budget(self, submission: Submission, caller: Caller) -> Submitted:
        count = len(submission.jobs)
        if await self._allowance.spend(caller, count):
            jobs = [job._replace(priority=job.priority + BEHIND_ALL) for job in submission.jobs]
            submission = submission._replace(jobs=tuple(jobs))
        try:
            submitted = await self._dispatcher.submit(submission)
        except Exception:
            # Not after a cancellation: the jobs are stored whether or not the caller waits.
            self._allowance.give_back(caller, count)
            raise
        if not submitted.is_new:
            self._allowance.give_back(caller, count)
        return submitted

    def _new_job(self, request: jobs_pb2.SubmitJobRequest, caller: Caller) -> NewJob:
        now_us = self._clock.wall_us()
        job_id = self._ids.job_id(now_us)
        max_attempts = request.max_attempts or DEFAULT_MAX_ATTEMPTS
        # None and the empty list leave a field unset.
        timeout_s = request.timeout_seconds if request.HasField("timeout_seconds") else None
        params = request.params if request.HasField("params") else None
        check_generation(request)
        if caller.limits.prompt_bytes:
            check_size(request, caller.limits.prompt_bytes)
        salt = self._ids.salt()
        # What a request says of its job, the job has under the same names.
        said = {f.name: value for f, value in request.ListFields() if f != _REQUEST_ID}
        spec = jobs_pb2.Job(**said)
        spec.job_id = job_id
        spec.max_attempts = max_attempts
        set_timestamp(spec.created_at, now_us)
        return NewJob(
            job_id=job_id,
            owner=caller.owner,
            model=request.model,
            priority=request.priority,
            max_attempts=max_attempts,
            max_tokens=params.max_tokens if params and params.HasField("max_tokens") else None,
            created_us=now_us,
            deadline_us=None if timeout_s is None else now_us + timeout_s * 1_000_000,
            spec=spec.SerializeToString(),
            affinity=affinity_of(request, caller),
            prompt_salt=salt,
            prompt_hash=salted_hash(salt, prompt_text(request)),
        )

    async def _own(self, job_id: str, caller: Caller) -> JobRecord:
        record = await find_job(self._store, job_id, attempts=True)
        if not caller.owns(record.owner):
            raise JobNotFound
        return record


def _fingerprint(request: jobs_pb2.SubmitJobRequest | jobs_pb2.BatchSubmitJobsRequest) -> bytes:
    """Returns what tells this request from another one under the same request_id."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def _whole(record: JobRecord) -> jobs_pb2.Job:
    """Returns a job that was read with its attempts."""
    job = job_message(record)
    job.attempts.extend(attempts_of(record))
    return job


def _submitted(job: tuple[str, JobStatus, int]) -> jobs_pb2.SubmitJobResponse:
    job_id, status, created_us = job
    return jobs_pb2.SubmitJobResponse(
        job_id=job_id, status=STATUS_TO_PROTO[status], created_at=timestamp(created_us)
    )
