"""The jobs that wait for one model: by priority, fair between owners, by age for each owner."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from aitbc_server.dispatch.live import LiveJob

# Jobs of one priority: each owner's by age, the owner whose turn is next first.
_Level = OrderedDict[str, OrderedDict[str, LiveJob]]


class ModelQueue:
    """Pending jobs of one model. Every operation but `peek` takes constant time."""

    def __init__(self) -> None:
        self._levels: dict[int, _Level] = {}
        # Priorities in use, negated, so that the highest is first.
        self._order: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, job: LiveJob) -> None:
        """Adds a job behind its owner's others; one that had an attempt goes before them."""
        level = self._levels.get(job.priority)
        if level is None:
            level = self._levels[job.priority] = OrderedDict()
            insort(self._order, -job.priority)
        jobs = level.get(job.owner)
        if jobs is None:
            jobs = level[job.owner] = OrderedDict()
        jobs[job.job_id] = job
        if job.attempt:
            jobs.move_to_end(job.job_id, last=False)
        self._size += 1

    def head(self) -> LiveJob:
        """Returns the next job. Raises IndexError when there is none."""
        owners = self._levels[-self._order[0]]
        return next(iter(next(iter(owners.values())).values()))

    def pop(self) -> LiveJob:
        """Removes and returns the next job; its owner's turn is over. Raises IndexError."""
        job = self.head()
        self.remove(job)
        level = self._levels.get(job.priority)
        if level and job.owner in level:
            level.move_to_end(job.owner)
        return job

    def remove(self, job: LiveJob) -> bool:
        """Removes a job wherever it stands; says whether it was there."""
        level = self._levels.get(job.priority)
        jobs = level.get(job.owner) if level else None
        if level is None or jobs is None or jobs.pop(job.job_id, None) is None:
            return False
        self._size -= 1
        if not jobs:
            del level[job.owner]
        if not level:
            del self._levels[job.priority]
            self._order.remove(-job.priority)
        return True

    def peek(self, count: int) -> list[LiveJob]:
        """Returns the first jobs in the order in which `pop` would give them."""
        return list(islice(self._in_order(), count))

    def _in_order(self) -> Iterator[LiveJob]:
        for negated in self._order:
            turns = [iter(jobs.values()) for jobs in self._levels[-negated].values()]
            while turns:
                going = []
                for turn in turns:
                    job = next(turn, None)
                    if job is not None:
                        yield job
                        going.append(turn)
                turns = going
