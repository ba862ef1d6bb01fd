"""Which waiting job goes to which session next."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import count, islice

from aitbc_server.dispatch.affinity import Affinity
from aitbc_server.dispatch.live import LiveJob, Now, Session
from aitbc_server.dispatch.parking import Parking
from aitbc_server.dispatch.queue import ModelQueue

# Owners whose last turn is remembered; one that is not has its turn first.
_REMEMBERED_OWNERS = 100_000

# Order of the models' heads: priority, then the owner who waited longest for a turn, then age.
_Key = tuple[int, int, int, str]


class Matcher:
    """Pending jobs by model, and the sessions that have room for them."""

    def __init__(self) -> None:
        self._queues: dict[str, ModelQueue] = {}
        self._parking = Parking()
        self._affinity = Affinity()
        # Sessions that take jobs at all, by model.
        self._serving: dict[str, dict[Session, None]] = {}
        # Those with room, by model; the one whose turn is next first.
        self._open: dict[str, OrderedDict[Session, None]] = {}
        # Models that have both a queue and a session with room: all that a match looks at.
        self._ready: set[str] = set()
        # When each owner last had a turn, over all models.
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._turn = count(1)

    def push(self, job: LiveJob) -> None:
        """Queues a job, unless it stands there."""
        if job.ticket is not None:
            return
        self._parking.discard(job)
        queue = self._queues.get(job.model)
        if queue is None:
            queue = self._queues[job.model] = ModelQueue()
        queue.push(job)
        if job.model in self._open:
            self._ready.add(job.model)

    def remove(self, job: LiveJob) -> None:
        """Takes a job out of its queue, if it is there."""
        self._parking.discard(job)
        if job.ticket is not None:
            self._queues[job.model].remove(job)
            self._drop_if_empty(job.model)

    def take(self, job: LiveJob) -> None:
        """Takes out a job that a miner asked for; its owner's turn is over."""
        self._parking.discard(job)
        if job.ticket is not None:
            self._queues[job.model].take(job)
            self._drop_if_empty(job.model)
        self._note_turn(job.owner)

    def update(self, session: Session) -> None:
        """Notes that a session's room has changed, or that it ended."""
        self._affinity.update(session)
        for model in session.models:
            self._note_serving(session, model)
            if session.room > 0:
                self._open.setdefault(model, OrderedDict()).setdefault(session)
                for job in self._parking.fitting(model, session.miner_id, session.room):
                    self.push(job)
                if model in self._queues:
                    self._ready.add(model)
            elif model in self._open and session in self._open[model]:
                del self._open[model][session]
                if not self._open[model]:
                    del self._open[model]
                    self._ready.discard(model)

    def pairs(self, now: Now) -> Iterator[tuple[LiveJob, Session]]:
        """Yields jobs with the sessions to give them to, the most urgent job first.

        The caller adds the lease to the session before it asks for the next pair.
        """
        heads = [self._key(model) for model in self._ready]
        heapq.heapify(heads)
        while heads:
            key = heapq.heappop(heads)
            model = key[-1]
            if model not in self._ready:
                continue
            if heads and (current := self._key(model)) != key:
                # Its owner has had a turn at another model since.
                heapq.heappush(heads, current)
                continue
            job = self._queues[model].pop()
            self._drop_if_empty(model)
            session = self._choose(model, job, now)
            if session is None:
                self._parking.add(job)
            else:
                self._note_turn(job.owner)
                if job.affinity:
                    self._affinity.note(job, session)
                yield job, session
                if session.room > 0:
                    self._open[model].move_to_end(session)
                else:
                    self.update(session)
            if model in self._ready:
                heapq.heappush(heads, self._key(model))

    def peek(self, models: Iterable[str], most: int) -> list[LiveJob]:
        """Returns the jobs that a miner of these models would be given next."""
        rest = {model: self._waiting(model) for model in dict.fromkeys(models)}
        turns: dict[str, int] = {}
        fresh = count(next(self._turn))
        heads: list[tuple[_Key, LiveJob]] = []

        def push_head(model: str) -> None:
            job = next(rest[model], None)
            if job is not None:
                turn = turns.get(job.owner, self._turns.get(job.owner, 0))
                heapq.heappush(heads, ((-job.priority, turn, job.created_us, job.job_id), job))

        for model in rest:
            push_head(model)
        found: list[LiveJob] = []
        while heads and len(found) < most:
            key, job = heapq.heappop(heads)
            turn = turns.get(job.owner, key[1])
            if turn > key[1]:
                heapq.heappush(heads, ((key[0], turn, *key[2:]), job))
                continue
            found.append(job)
            turns[job.owner] = next(fresh)
            push_head(job.model)
        return found

    def ahead_of(self, job: LiveJob) -> int:
        """Returns how many jobs of its model go before a waiting job."""
        return 0 if job.ticket is None else self._queues[job.model].ahead_of(job)

    def is_parked(self, job: LiveJob) -> bool:
        """Whether a job waits for another miner than those that have room."""
        return job in self._parking

    def reconsider(self, job: LiveJob) -> None:
        """Looks again for a miner for a job that has waited for another one."""
        if job in self._parking:
            self.push(job)

    def _waiting(self, model: str) -> Iterator[LiveJob]:
        yield from self._parking.of_model(model)
        yield from self._queues.get(model, ())

    def _choose(self, model: str, job: LiveJob, now: Now) -> Session | None:
        """Returns a session with room whose miner did not fail the job; None: wait for one."""
        sessions, failed = self._open[model], job.failed_miners
        if not failed:
            next_in_turn = next(iter(sessions))
            return self._affinity.preferred(job, next_in_turn) if job.affinity else next_in_turn
        for session in islice(sessions, len(failed) + 1):
            if session.miner_id not in failed:
                return session
        if now.mono < job.prefers_until:
            serving = islice(self._serving[model], len(failed) + 1)
            if job.awaits_miners or any(s.miner_id not in failed for s in serving):
                return None
        return next(iter(sessions))

    def _note_serving(self, session: Session, model: str) -> None:
        serving = self._serving.get(model)
        if session.limit > 0:
            if serving is None:
                serving = self._serving[model] = {}
            serving[session] = None
        elif serving is not None and session in serving:
            del serving[session]
            if not serving:
                del self._serving[model]
            # It may have been the one they waited for.
            for job in list(self._parking.of_model(model)):
                self.push(job)

    def _note_turn(self, owner: str) -> None:
        self._turns[owner] = next(self._turn)
        self._turns.move_to_end(owner)
        if len(self._turns) > _REMEMBERED_OWNERS:
            self._turns.popitem(last=False)

    def _key(self, model: str) -> _Key:
        head = self._queues[model].head()
        return -head.priority, self._turns.get(head.owner, 0), head.created_us, model

    def _drop_if_empty(self, model: str) -> None:
        if not self._queues[model]:
            del self._queues[model]
            self._ready.discard(model)
