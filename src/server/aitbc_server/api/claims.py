"""JobService for miners that poll: what they may claim, and what becomes of it."""

from __future__ import annotations

from aitbc.v1 import jobs_pb2
from aitbc_server.api.convert import job_message, set_timestamp
from aitbc_server.api.records import find_job
from aitbc_server.api.statements import Stated, stated_by
from aitbc_server.dispatch.live import Lease, LiveJob
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    JobAlreadyClaimed,
    JobAlreadyFinal,
    LeaseLost,
)
from aitbc_server.domain.jobs import Completion, JobRecord, JobStatus
from aitbc_server.lifecycle import Lifecycle
from aitbc_server.store.seam import Store

_AVAILABLE = 10


class ClaimService:
    """Implements the methods of aitbc.v1.JobService that miners call."""

    descriptor = jobs_pb2.DESCRIPTOR.services_by_name["JobService"]

    def __init__(
        self, store: Store, dispatcher: Dispatcher, clock: Clock, lifecycle: Lifecycle
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._lifecycle = lifecycle

    async def list_available_jobs(
        self, request: jobs_pb2.ListAvailableJobsRequest, caller: Caller
    ) -> jobs_pb2.ListAvailableJobsResponse:
        """Returns what a miner could claim now."""
        miner = self._dispatcher.seen(request.miner_id, caller)
        limit = request.limit if request.HasField("limit") else _AVAILABLE
        waiting = self._dispatcher.available(miner, limit)
        specs = await self._store.specs([job.job_id for job in waiting])
        jobs = [_available(specs[job.job_id]) for job in waiting if job.job_id in specs]
        if not jobs:
            return jobs_pb2.ListAvailableJobsResponse()
        response = jobs_pb2.ListAvailableJobsResponse.FromString(jobs[0].SerializeToString())
        response.jobs.extend(jobs)
        return response

    async def claim_job(self, request: jobs_pb2.ClaimJobRequest, caller: Caller) -> jobs_pb2.Job:
        """Gives a job to the miner that asks for it."""
        self._lifecycle.check_serving()
        miner = self._dispatcher.seen(request.miner_id, caller)
        live = self._dispatcher.core.jobs.get(request.job_id)
        if live is None:
            record = await find_job(self._store, request.job_id)
            raise JobAlreadyFinal(f"the job is {record.status} already")
        if live.lease is not None and live.lease.miner_id != request.miner_id:
            raise JobAlreadyClaimed("a miner holds this job already")
        lease = await self._dispatcher.claim(live, miner)
        return await self._leased(lease)

    async def complete_job(
        self, request: jobs_pb2.CompleteJobRequest, caller: Caller
    ) -> jobs_pb2.Job:
        """Stores a claimed job's result."""
        _settle_miner_id(request)
        self._dispatcher.seen(request.miner_id, caller)
        live = self._dispatcher.core.jobs.get(request.job_id)
        if live is not None:
            lease = live.lease_of(request.miner_id, request.lease_id)
            key = self._dispatcher.registry.get(request.miner_id).public_key
            stated = stated_by(request, lease.lease_id, key)
            await self._dispatcher.complete(lease, self._completion(request, lease, stated))
        record = await find_job(self._store, request.job_id)
        if not _is_answered_by(record, request):
            raise LeaseLost(f"{request.miner_id} does not hold the lease on this job")
        return job_message(record)

    async def fail_job(self, request: jobs_pb2.FailJobRequest, caller: Caller) -> jobs_pb2.Job:
        """Gives a claimed job back as failed."""
        self._dispatcher.seen(request.miner_id, caller)
        lease = await self._held(request.job_id, request.miner_id, request.lease_id)
        done = await self._dispatcher.give_up(
            lease, code="MINER_FAILED", message=request.error, retryable=request.retryable
        )
        if not done:
            raise LeaseLost(f"{request.miner_id} does not hold the lease on this job")
        return job_message(await find_job(self._store, request.job_id))

    async def extend_lease(
        self, request: jobs_pb2.ExtendLeaseRequest, caller: Caller
    ) -> jobs_pb2.Job:
        """Renews a claim."""
        self._dispatcher.seen(request.miner_id, caller)
        lease = await self._held(request.job_id, request.miner_id, request.lease_id)
        self._dispatcher.extend(lease)
        return await self._leased(lease)

    # Inside

    async def _held(self, job_id: str, miner_id: str, lease_id: str) -> Lease:
        live: LiveJob | None = self._dispatcher.core.jobs.get(job_id)
        if live is None:
            await find_job(self._store, job_id)
            raise LeaseLost("the job is final")
        return live.lease_of(miner_id, lease_id)

    async def _leased(self, lease: Lease) -> jobs_pb2.Job:
        message = job_message(await find_job(self._store, lease.job.job_id))
        message.lease_id = lease.lease_id
        if lease.expires_at is not None:
            now = self._dispatcher.now()
            left_us = int((lease.expires_at - now.mono) * 1e6)
            set_timestamp(message.lease_expires_at, now.wall_us + left_us)
        return message

    def _completion(
        self, request: jobs_pb2.CompleteJobRequest, lease: Lease, stated: Stated | None
    ) -> Completion:
        now_us = self._clock.wall_us()
        completed_us = now_us
        if request.HasField("completed_at"):
            given_us = request.completed_at.ToMicroseconds()
            completed_us = given_us if lease.started_us <= given_us <= now_us else now_us
        usage = request.usage
        return Completion(
            job_id=request.job_id,
            lease_id=lease.lease_id,
            result=request.result,
            prompt_tokens=usage.prompt_tokens if usage.HasField("prompt_tokens") else None,
            completion_tokens=(
                usage.completion_tokens if usage.HasField("completion_tokens") else None
            ),
            finish_reason="stop",
            completed_us=completed_us,
            result_salt=stated.result_salt if stated else None,
            result_hash=stated.result_hash if stated else None,
            miner_signature=stated.signature if stated else None,
        )


def _available(spec: bytes) -> jobs_pb2.AvailableJob:
    job = jobs_pb2.Job.FromString(spec)
    available = jobs_pb2.AvailableJob(
        job_id=job.job_id, messages=job.messages, model=job.model, created_at=job.created_at
    )
    if job.HasField("prompt"):
        available.prompt = job.prompt
    if job.HasField("params"):
        available.params.CopyFrom(job.params)
    return available


def _settle_miner_id(request: jobs_pb2.CompleteJobRequest) -> None:
    request.miner_id = request.miner_id or request.receipt.miner_id


def _is_answered_by(record: JobRecord, request: jobs_pb2.CompleteJobRequest) -> bool:
    return (
        record.status is JobStatus.COMPLETED
        and record.miner_id == request.miner_id
        and record.result == request.result
        and request.lease_id in ("", record.lease_id)
    )
