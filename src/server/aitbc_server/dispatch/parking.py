"""The jobs that wait for another miner than those that failed them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from aitbc_server.dispatch.live import LiveJob

# Jobs by the miners that failed them: all of one group fit the same sessions.
_Groups = dict[tuple[str, ...], dict[str, LiveJob]]


class Parking:
    """Jobs by model. A job is in at most one place: here or in its queue."""

    def __init__(self) -> None:
        self._models: dict[str, _Groups] = {}

    def __contains__(self, job: LiveJob) -> bool:
        group = self._models.get(job.model, {}).get(job.failed_miners)
        return group is not None and job.job_id in group

    def add(self, job: LiveJob) -> None:
        """Takes in a job."""
        groups = self._models.setdefault(job.model, {})
        groups.setdefault(job.failed_miners, {})[job.job_id] = job

    def discard(self, job: LiveJob) -> None:
        """Lets go of a job, if it is here."""
        if job not in self:
            return
        groups = self._models[job.model]
        del groups[job.failed_miners][job.job_id]
        if not groups[job.failed_miners]:
            del groups[job.failed_miners]
        if not groups:
            del self._models[job.model]

    def of_model(self, model: str) -> Iterator[LiveJob]:
        """Yields the jobs of a model."""
        groups = self._models.get(model, {}).values()
        return chain.from_iterable(map(dict.values, groups))

    def fitting(self, model: str, miner_id: str, most: int) -> list[LiveJob]:
        """Returns jobs that a miner has not failed."""
        groups = self._models.get(model, {}).items()
        fit = (jobs.values() for failed, jobs in groups if miner_id not in failed)
        return list(islice(chain.from_iterable(fit), most))
