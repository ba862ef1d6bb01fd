"""Which waiting job goes to which session next."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice

from aitbc_server.dispatch.live import LiveJob, Session
from aitbc_server.dispatch.queue import ModelQueue

# How many sessions are looked at to find one whose miner did not fail the job before.
_LOOK_FOR_ANOTHER = 8


class Matcher:
    """Pending jobs by model, and the sessions that have room for them."""

    def __init__(self) -> None:
        self._queues: dict[str, ModelQueue] = {}
        # Sessions with room, by model; the one whose turn is next first.
        self._open: dict[str, OrderedDict[Session, None]] = {}
        # Models that have both: all that a match looks at.
        self._ready: set[str] = set()

    def push(self, job: LiveJob) -> None:
        """Queues a job."""
        queue = self._queues.get(job.model)
        if queue is None:
            queue = self._queues[job.model] = ModelQueue()
        queue.push(job)
        if job.model in self._open:
            self._ready.add(job.model)

    def remove(self, job: LiveJob) -> None:
        """Takes a job out of its queue, if it is there."""
        queue = self._queues.get(job.model)
        if queue is not None and queue.remove(job):
            self._drop_if_empty(job.model)

    def update(self, session: Session) -> None:
        """Notes that a session's room has changed."""
        for model in session.models:
            if session.room > 0:
                self._open.setdefault(model, OrderedDict()).setdefault(session)
                if model in self._queues:
                    self._ready.add(model)
            elif model in self._open and session in self._open[model]:
                del self._open[model][session]
                if not self._open[model]:
                    del self._open[model]
                    self._ready.discard(model)

    def pairs(self) -> Iterator[tuple[LiveJob, Session]]:
        """Yields jobs with the sessions to give them to, the most urgent job first.

        The caller adds the lease to the session before it asks for the next pair.
        """
        heads = [self._key(model) for model in self._ready]
        heapq.heapify(heads)
        while heads:
            model = heapq.heappop(heads)[-1]
            if model not in self._ready:
                continue
            job = self._queues[model].pop()
            self._drop_if_empty(model)
            session = self._choose(model, job)
            yield job, session
            if session.room > 0:
                self._open[model].move_to_end(session)
            else:
                self.update(session)
            if model in self._ready:
                heapq.heappush(heads, self._key(model))

    def peek(self, models: Iterable[str], count: int) -> list[LiveJob]:
        """Returns the jobs that a miner of these models would be given next."""
        queues = [self._queues[model] for model in set(models) if model in self._queues]
        ordered = (queue.peek(count) for queue in queues)
        merged = heapq.merge(*ordered, key=lambda job: (-job.priority, job.created_us))
        return list(islice(merged, count))

    def _choose(self, model: str, job: LiveJob) -> Session:
        sessions = self._open[model]
        if job.last_miner is not None:
            for session in islice(sessions, _LOOK_FOR_ANOTHER):
                if session.miner_id != job.last_miner:
                    return session
        return next(iter(sessions))

    def _key(self, model: str) -> tuple[int, int, str]:
        head = self._queues[model].head()
        return -head.priority, head.created_us, model

    def _drop_if_empty(self, model: str) -> None:
        if not self._queues[model]:
            del self._queues[model]
            self._ready.discard(model)
