"""JobService for miners that poll: what they may claim, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aitbc.v1 import jobs_pb2
from aitbc_server.api.convert import NOT_FOR_MINERS, job_message, set_timestamp, usage_details
from aitbc_server.api.records import find_job
from aitbc_server.api.statements import (
    Stated,
    check_lease,
    check_statement,
    stated_by,
    statement_of,
)
from aitbc_server.dispatch.live import Lease, LiveJob
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain import sizes
from aitbc_server.domain.allowed_models import check_allowed
from aitbc_server.domain.cache_salts import CacheSaltOf
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    InvalidArgument,
    JobAlreadyClaimed,
    JobAlreadyFinal,
    LeaseLost,
)
from aitbc_server.domain.jobs import Completion, JobRecord, JobStatus
from aitbc_server.domain.plausibility import usage_problem
from aitbc_server.domain.said import MINER_FAILED, harmless
from aitbc_server.lifecycle import Lifecycle
from aitbc_server.store.seam import Store

_AVAILABLE = 10


class ClaimService:
    """Implements the methods of aitbc.v1.JobService that miners call."""

    descriptor = jobs_pb2.DESCRIPTOR.services_by_name["JobService"]

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        lifecycle: Lifecycle,
        salt_of: CacheSaltOf,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._lifecycle = lifecycle
        self._salt_of = salt_of

    async def list_available_jobs(
        self, request: jobs_pb2.ListAvailableJobsRequest, caller: Caller
    ) -> jobs_pb2.ListAvailableJobsResponse:
        """Returns what a miner could claim now."""
        miner = self._dispatcher.seen(request.miner_id, caller)
        limit = request.limit if request.HasField("limit") else _AVAILABLE
        # It may have registered before its key came to name models.
        waiting = self._dispatcher.available(miner.of(caller), limit)
        specs = await self._store.specs(
            [job.job_id for job in waiting], most_bytes=sizes.PAGE_BYTES
        )
        jobs = [_available(spec) for spec in _one_page(specs.values())]
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
        check_allowed(caller.models, (live.model,))
        lease = await self._dispatcher.claim(live, miner)
        return await self._leased(lease)

    async def complete_job(
        self, request: jobs_pb2.CompleteJobRequest, caller: Caller
    ) -> jobs_pb2.Job:
        """Stores a claimed job's result."""
        _settle_miner_id(request)
        # What contradicts itself is wrong whoever holds the job.
        check_statement(request)
        self._dispatcher.seen(request.miner_id, caller)
        live = self._dispatcher.core.jobs.get(request.job_id)
        if live is not None:
            lease = live.lease_of(request.miner_id, request.lease_id)
            check_lease(request, lease.lease_id)
            key = self._dispatcher.registry.get(request.miner_id).public_key
            _check_usage(request.usage, lease)
            stated = stated_by(request, lease.lease_id, key)
            await self._dispatcher.complete(lease, self._completion(request, lease, stated))
        record = await find_job(self._store, request.job_id)
        if not _is_answered_by(record, request):
            raise LeaseLost(f"{request.miner_id} does not hold the lease on this job")
        return _told(record)

    async def fail_job(self, request: jobs_pb2.FailJobRequest, caller: Caller) -> jobs_pb2.Job:
        """Gives a claimed job back as failed."""
        self._dispatcher.seen(request.miner_id, caller)
        lease = await self._held(request.job_id, request.miner_id, request.lease_id)
        done = await self._dispatcher.give_up(
            lease, code=MINER_FAILED, message=harmless(request.error), retryable=request.retryable
        )
        if not done:
            raise LeaseLost(f"{request.miner_id} does not hold the lease on this job")
        return _told(await find_job(self._store, request.job_id))

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
        record = await find_job(self._store, lease.job.job_id)
        lease.spec_bytes = len(record.spec)
        message = _told(record)
        message.lease_id = lease.lease_id
        named = jobs_pb2.Job.FromString(record.spec).cache_salt
        message.cache_salt = self._salt_of(lease.job.owner, named)
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
            details=usage_details(usage),
            result_salt=stated.result_salt if stated else None,
            result_hash=stated.result_hash if stated else None,
            answer_hash=stated.answer_hash if stated else None,
            miner_signature=stated.signature if stated else None,
            statement=statement_of(request),
        )


def _check_usage(usage: jobs_pb2.Usage, lease: Lease) -> None:
    has = usage.HasField
    problem = usage_problem(
        usage.prompt_tokens if has("prompt_tokens") else None,
        usage.completion_tokens if has("completion_tokens") else None,
        job_bytes=lease.spec_bytes,
        max_tokens=lease.job.max_tokens,
        media=lease.job.asks.media,
        cached_tokens=usage.cached_tokens if has("cached_tokens") else None,
    )
    if problem is not None:
        raise InvalidArgument(f"usage.{problem[0]}", problem[1])


def _one_page(specs: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the first of what was submitted: as much as an answer holds, and at least one."""
    size = 0
    for place, spec in enumerate(specs):
        told = sizes.JOB_BYTES + sizes.told_bytes(spec)
        # The first one is told twice.
        size += told if place else 2 * told
        if size > sizes.PAGE_BYTES and place:
            return
        yield spec


def _available(spec: bytes) -> jobs_pb2.AvailableJob:
    job = jobs_pb2.Job.FromString(spec)
    available = jobs_pb2.AvailableJob(
        job_id=job.job_id,
        messages=job.messages,
        model=job.model,
        created_at=job.created_at,
        prompt_token_ids=job.prompt_token_ids,
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


def _told(record: JobRecord) -> jobs_pb2.Job:
    """Returns a job as a miner is told of it."""
    job = job_message(record)
    for name in NOT_FOR_MINERS:
        job.ClearField(name)
    return job
