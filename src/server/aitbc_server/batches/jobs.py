"""The jobs behind the lines of batches: submitted by the same method that clients call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aitbc.v1 import jobs_pb2
from aitbc_server.api.convert import job_message
from aitbc_server.api.endpoint import Endpoint
from aitbc_server.auth.keyring import Keyring
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.batches import BatchRecord
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import IdempotencyKeyReused
from aitbc_server.domain.limits import Limits
from aitbc_server.slices import is_spent, next_turn
from aitbc_server.store.seam import Store

# Names that are tried for one line.
_TRIES = 8


class BatchJobs:
    """Submits and reads jobs for batches."""

    def __init__(
        self,
        submit: Endpoint,
        store: Store,
        dispatcher: Dispatcher,
        keyring: Keyring,
        limits: Limits,
    ) -> None:
        """`submit` is BatchSubmitJobs; `limits` are those of callers without a key."""
        self._submit = submit
        self._store = store
        self._dispatcher = dispatcher
        self._keyring = keyring
        self._limits = limits

    def caller(self, batch: BatchRecord) -> Caller:
        """Returns for whom the jobs are. Raises InvalidApiKey when its key is no longer valid."""
        if batch.key_id is not None:
            return self._keyring.check_live(batch.key_id)
        return Caller(owner=batch.owner, account=batch.account, limits=self._limits)

    async def submit(
        self, name: str, requests: Sequence[jobs_pb2.SubmitJobRequest], caller: Caller
    ) -> Sequence[str]:
        """Stores jobs under a name, or finds them; returns their ids. Raises CoordinatorError."""
        if is_spent():
            # One line may be many jobs, and a step has many lines.
            await next_turn()
        for attempt in range(_TRIES):
            request = jobs_pb2.BatchSubmitJobsRequest(
                jobs=requests, request_id=f"{name}.{attempt}" if attempt else name
            )
            try:
                made = await self._submit(request, caller)
            except IdempotencyKeyReused:
                # By an older version, to which the line meant something else; or by its owner.
                if attempt == _TRIES - 1:
                    raise
                continue
            return [job.job_id for job in cast("jobs_pb2.BatchSubmitJobsResponse", made).jobs]
        raise AssertionError

    def is_final(self, job_id: str) -> bool:
        """Says whether a job that is stored has ended."""
        return job_id not in self._dispatcher.core.jobs

    def cancel(self, job_id: str) -> None:
        """Asks for the cancellation of a job."""
        self._dispatcher.cancel(job_id)

    async def read(self, job_id: str, owner: str) -> jobs_pb2.Job | None:
        """Returns a job; None when it was deleted."""
        record = await self._store.job(job_id)
        return job_message(record) if record is not None and record.owner == owner else None

    async def forget(self, job_ids: Sequence[str]) -> None:
        """Deletes jobs that are final."""
        await self._store.forget(job_ids)
