"""The jobs that wait for a miner other than those that have room now.

Some wait for another miner than those that failed them, and some, with which miner processes
vanished, for one that has no other such job on probation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from aitbc_server.dispatch.live import LiveJob, Session


class _Group(NamedTuple):
    """What its jobs have in common: all of them fit the same sessions."""

    lane: str
    # Miners that are avoided.
    avoided: tuple[str, ...]
    is_suspected: bool


class Parking:
    """Jobs by lane. A job is in at most one place: here or in its queue."""

    def __init__(self) -> None:
        self._lanes: dict[str, dict[_Group, dict[str, LiveJob]]] = {}
        # Groups by job id.
        self._groups: dict[str, _Group] = {}

    def __contains__(self, job: LiveJob) -> bool:
        return job.job_id in self._groups

    def add(self, job: LiveJob, avoided: tuple[str, ...]) -> None:
        """Takes in a job that does not go to the miners avoided."""
        group = _Group(job.lane, avoided, bool(job.vanished))
        self._groups[job.job_id] = group
        groups = self._lanes.setdefault(job.lane, {})
        groups.setdefault(group, {})[job.job_id] = job

    def discard(self, job: LiveJob) -> None:
        """Lets go of a job, if it is here."""
        group = self._groups.pop(job.job_id, None)
        if group is None:
            return
        groups = self._lanes[job.lane]
        del groups[group][job.job_id]
        if not groups[group]:
            del groups[group]
        if not groups:
            del self._lanes[job.lane]

    def has_lane(self, lane: str) -> bool:
        """Says whether a job of a lane is here."""
        return lane in self._lanes

    def of_lane(self, lane: str) -> Iterator[LiveJob]:
        """Yields the jobs of a lane."""
        groups = self._lanes.get(lane, {}).values()
        return chain.from_iterable(map(dict.values, groups))

    def fitting(self, lane: str, session: Session, room: int) -> list[LiveJob]:
        """Returns jobs that a session has room for; of those suspected, one if it has none."""
        if lane not in self._lanes:
            return []
        return [
            *islice(self._fitting(lane, session, is_suspected=False), room),
            *self.suspected(lane, session, room),
        ]

    def suspected(self, lane: str, session: Session, room: int) -> list[LiveJob]:
        """Returns a job for the probation of a session, if it may have one and there is one."""
        if session.probation is not None or room <= 0:
            return []
        return list(islice(self._fitting(lane, session, is_suspected=True), 1))

    def _fitting(self, lane: str, session: Session, *, is_suspected: bool) -> Iterator[LiveJob]:
        return chain.from_iterable(
            jobs.values()
            for group, jobs in self._lanes.get(lane, {}).items()
            if group.is_suspected is is_suspected and session.miner_id not in group.avoided
        )
