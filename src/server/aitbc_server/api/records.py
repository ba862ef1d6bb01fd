"""Stored jobs, as the services look them up."""

from __future__ import annotations

from aitbc_server.domain.errors import JobNotFound
from aitbc_server.domain.ids import is_job_id
from aitbc_server.domain.jobs import JobRecord
from aitbc_server.store.seam import Store


async def find_job(store: Store, job_id: str, *, attempts: bool = False) -> JobRecord:
    """Returns a job, whosever it is; with its attempts when asked. Raises JobNotFound."""
    record = await store.job(job_id, attempts=attempts) if is_job_id(job_id) else None
    if record is None:
        raise JobNotFound
    return record
