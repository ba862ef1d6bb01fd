"""Every step of every job as a line in the log at level `debug`: ids and numbers, never texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from aitbc_server.dispatch.live import LiveJob
from aitbc_server.dispatch.observer import Observer
from aitbc_server.domain.call import Call
from aitbc_server.domain.jobs import Begin, Completion, Ending, NewJob

_log = structlog.get_logger(__name__)


class Journal(Observer):
    """Watches the dispatcher, and writes what it sees."""

    def submitted(self, jobs: Sequence[NewJob], call: Call) -> None:
        """Names the jobs that a request made."""
        for job in jobs:
            _log.debug(
                "job.submitted", job_id=job.job_id, model=job.model, request_id=call.request_id
            )

    def begun(self, begins: Sequence[Begin], jobs: Mapping[str, LiveJob]) -> None:
        """Names the miners that took jobs."""
        for begin in begins:
            _log.debug(
                "job.begun", job_id=begin.job_id, miner_id=begin.miner_id, attempt=begin.attempt
            )

    def completed(self, completions: Sequence[Completion]) -> None:
        """Names the jobs that have a result."""
        for completion in completions:
            _log.debug(
                "job.completed",
                job_id=completion.job_id,
                lease_id=completion.lease_id,
                completion_tokens=completion.completion_tokens,
            )

    def ended(self, endings: Sequence[Ending]) -> None:
        """Names the jobs whose wait or attempt ended without one."""
        for ending in endings:
            # Not its message, which may repeat what the model was asked.
            _log.debug(
                "job.ended",
                job_id=ending.job_id,
                lease_id=ending.lease_id,
                status=ending.status.value,
                code=ending.told_code,
            )
