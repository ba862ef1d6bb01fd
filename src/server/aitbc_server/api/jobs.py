"""JobService: jobs of clients. Its methods for miners that poll are in claims.py."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import Final

from aitbc.v1 import jobs_pb2
from aitbc_server.api.convert import (
    STATUS_FROM_PROTO,
    STATUS_TO_PROTO,
    attempts_of,
    basic_message,
    job_message,
    page_start,
    page_token,
    queue_message,
    set_timestamp,
    span_of,
)
from aitbc_server.api.endpoint import Messages
from aitbc_server.api.records import find_job
from aitbc_server.api.streams import JobStreams, position_of
from aitbc_server.api.submissions import Submissions
from aitbc_server.api.tasks import check_served
from aitbc_server.aside import LARGE_BYTES
from aitbc_server.auth.allowance import Allowance
from aitbc_server.auth.unread import Unread
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import (
    JobAlreadyFinal,
    JobNotFinal,
    JobNotFound,
    TooManyWaiting,
)
from aitbc_server.domain.jobs import (
    JobRecord,
    JobStatus,
    Submission,
    Submitted,
)
from aitbc_server.domain.limits import BEHIND_ALL
from aitbc_server.domain.positions import START
from aitbc_server.lifecycle import Lifecycle
from aitbc_server.store.seam import Store

_PAGE = 20
# What is far more than a job's texts, or nobody's who lists.
_NOT_LISTED: Final = (
    *("logprobs", "token_ids", "prompt_details", "outputs"),
    *("prompt_token_ids", "inputs", "api_notes"),
)
# How long CancelJob waits for the miner to stop, before it answers with a job still running.
_CANCEL_WAIT_S = 1.0
# How long a request waits for the miner of its first try, which nobody waits for, to stop.
_LEAVING_WAIT_S = 60.0


class JobService:
    """Implements the methods of aitbc.v1.JobService that clients call."""

    descriptor = jobs_pb2.DESCRIPTOR.services_by_name["JobService"]

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        submissions: Submissions,
        lifecycle: Lifecycle,
        allowance: Allowance,
        unread: Unread,
    ) -> None:
        """`unread` counts what streams have for readers that do not take it."""
        self._store = store
        self._allowance = allowance
        self._dispatcher = dispatcher
        self._submissions = submissions
        self._lifecycle = lifecycle
        self._streams = JobStreams(store, dispatcher, unread)

    async def submit_job(
        self, request: jobs_pb2.SubmitJobRequest, caller: Caller
    ) -> jobs_pb2.SubmitJobResponse:
        """Stores a job and queues it."""
        self._lifecycle.check_serving()
        self._allowance.check_jobs(caller, 1)
        if request.ByteSize() > LARGE_BYTES:
            submission = await self._submissions.of_one(request, caller)
        else:
            submission = self._submissions.of_small(request, caller)
        submitted = await self._submit(submission, caller)
        return _submitted(submitted.jobs[0])

    async def batch_submit_jobs(
        self, request: jobs_pb2.BatchSubmitJobsRequest, caller: Caller
    ) -> jobs_pb2.BatchSubmitJobsResponse:
        """Stores all of the jobs, or none."""
        self._lifecycle.check_serving()
        self._allowance.check_jobs(caller, len(request.jobs))
        submission = await self._submissions.of_batch(request, caller)
        # Others may have submitted meanwhile.
        self._allowance.check_jobs(caller, len(request.jobs))
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
        return self._streams.events(submitted.job_id, START, caller)

    async def stream_job(self, request: jobs_pb2.StreamJobRequest, caller: Caller) -> Messages:
        """Streams a job from where the reader is."""
        position = position_of(request)
        live = self._dispatcher.core.jobs.get(request.job_id)
        if live is None or live.owner != caller.owner:
            # Not final only if it became so just now, or is another's.
            record = await self._own(request.job_id, caller)
            if record.status.is_final:
                return await self._streams.ending(record, position, caller)
        return self._streams.events(request.job_id, position, caller)

    async def list_jobs(
        self, request: jobs_pb2.ListJobsRequest, caller: Caller
    ) -> jobs_pb2.ListJobsResponse:
        """Returns a page of the caller's jobs."""
        before = page_start(request.page_token)
        limit = request.limit if request.HasField("limit") else _PAGE
        is_basic = request.view == jobs_pb2.JOB_VIEW_BASIC
        page = await self._store.jobs(
            caller.owner,
            limit=limit,
            status=STATUS_FROM_PROTO.get(request.status),
            model=request.model or None,
            before=before,
            created=span_of(request),
            texts=not is_basic,
        )
        message = basic_message if is_basic else _listed
        return jobs_pb2.ListJobsResponse(
            jobs=[message(record) for record in page.records],
            next_page_token=page_token(page.next_before) if page.next_before else "",
        )

    async def cancel_job(self, request: jobs_pb2.CancelJobRequest, caller: Caller) -> jobs_pb2.Job:
        """Cancels a job; waits a moment for a miner to stop."""
        record = await self._own(request.job_id, caller)
        if record.status.is_final:
            raise JobAlreadyFinal(f"the job is {record.status} already")
        end = self._dispatcher.abandon if request.abandoned else self._dispatcher.cancel
        if end(record.job_id):
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
        check_served(submission.jobs, self._dispatcher.core.sessions.census)
        if caller.limits.has_budget:
            return self._submit_in_budget(submission, caller)
        return self._stored(submission)

    def _stored(self, submission: Submission) -> Awaitable[Submitted]:
        if submission.request_id is None:
            return self._dispatcher.submit(submission)
        return self._stored_or_found(submission)

    async def _stored_or_found(self, submission: Submission) -> Submitted:
        """Stores jobs, or finds those of the same name; these are not about to be abandoned."""
        last = None
        while True:
            submitted = await self._dispatcher.submit(submission)
            if submitted.is_new:
                return submitted
            found = [(job_id, status) for job_id, status, _ in submitted.jobs]
            leaving = self._dispatcher.join(found)
            # What does not end is what is answered, too.
            if leaving is None or leaving == last:
                return submitted
            last = leaving
            await self._dispatcher.wait_final(leaving, _LEAVING_WAIT_S)

    async def _submit_in_budget(self, submission: Submission, caller: Caller) -> Submitted:
        count = len(submission.jobs)
        if await self._allowance.spend(caller, count):
            jobs = [job._replace(priority=job.priority + BEHIND_ALL) for job in submission.jobs]
            submission = submission._replace(jobs=tuple(jobs))
        try:
            submitted = await self._stored(submission)
        except Exception:
            # Not after a cancellation: the jobs are stored whether or not the caller waits.
            self._allowance.give_back(caller, count)
            raise
        if not submitted.is_new:
            self._allowance.give_back(caller, count)
        return submitted

    async def _own(self, job_id: str, caller: Caller) -> JobRecord:
        record = await find_job(self._store, job_id, attempts=True)
        if not caller.owns(record.owner):
            raise JobNotFound
        return record


def _whole(record: JobRecord) -> jobs_pb2.Job:
    """Returns a job that was read with its attempts."""
    job = job_message(record)
    job.attempts.extend(attempts_of(record))
    return job


def _listed(record: JobRecord) -> jobs_pb2.Job:
    """Returns a job of a list, without what is far more than its texts."""
    job = job_message(record)
    for name in _NOT_LISTED:
        job.ClearField(name)
    return job


def _submitted(job: tuple[str, JobStatus, int]) -> jobs_pb2.SubmitJobResponse:
    job_id, status, created_us = job
    response = jobs_pb2.SubmitJobResponse(job_id=job_id, status=STATUS_TO_PROTO[status])
    set_timestamp(response.created_at, created_us)
    return response
