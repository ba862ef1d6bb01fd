"""The jobs that wait in one lane: by priority, fair between owners, by age for each owner."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice

from aitbc_server.dispatch.line import Line
from aitbc_server.dispatch.live import LiveJob

# Jobs of one priority: each owner's line, the owner whose turn is next first.
_Level = OrderedDict[str, Line]


class LaneQueue:
    """Pending jobs of one lane. `peek` and `ahead_of` look at many; all else takes constant time.

    A job stands in it while it has a `ticket`.
    """

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
        line = level.get(job.owner)
        if line is None:
            line = level[job.owner] = Line()
        if job.attempt:
            line.push_first(job)
        else:
            line.push(job)
        self._size += 1

    def head(self) -> LiveJob:
        """Returns the next job. Raises IndexError when there is none."""
        owners = self._levels[-self._order[0]]
        return next(iter(owners.values())).head()

    def take(self, job: LiveJob) -> None:
        """Removes a job that stands here; its owner's turn is over."""
        self.remove(job)
        level = self._levels.get(job.priority)
        if level and job.owner in level:
            level.move_to_end(job.owner)

    def pop(self) -> LiveJob:
        """Takes the next job. Raises IndexError when there is none."""
        job = self.head()
        self.take(job)
        return job

    def remove(self, job: LiveJob) -> None:
        """Removes a job that stands here, wherever it stands."""
        level = self._levels[job.priority]
        line = level[job.owner]
        line.remove(job)
        self._size -= 1
        if not line:
            del level[job.owner]
        if not level:
            del self._levels[job.priority]
            self._order.remove(-job.priority)

    def peek(self, count: int) -> list[LiveJob]:
        """Returns the first jobs in the order in which `pop` would give them."""
        return list(islice(self, count))

    def ahead_of(self, job: LiveJob) -> int:
        """Returns how many `pop` would give before a job that stands here."""
        higher = [p for p in self._levels if p > job.priority]
        ahead = sum(len(line) for priority in higher for line in self._levels[priority].values())
        own = self._levels[job.priority][job.owner].ahead_of(job)
        # Others have a turn for each of its own before it, and one more if theirs comes first.
        turns = own + 1
        for owner, line in self._levels[job.priority].items():
            if owner == job.owner:
                turns = own
                ahead += own
            else:
                ahead += min(len(line), turns)
        return ahead

    def __iter__(self) -> Iterator[LiveJob]:
        for negated in self._order:
            # Lazy, for the first round may be long.
            turns: Iterable[Iterator[LiveJob]] = map(iter, self._levels[-negated].values())
            while turns:
                going = []
                for turn in turns:
                    job = next(turn, None)
                    if job is not None:
                        yield job
                        going.append(turn)
                turns = going
