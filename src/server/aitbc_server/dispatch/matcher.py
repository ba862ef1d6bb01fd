"""Which waiting job goes to which session next."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import count, islice

from aitbc_server.dispatch.affinity import Affinity
from aitbc_server.dispatch.live import LiveJob, Now, Session
from aitbc_server.dispatch.parking import Parking
from aitbc_server.dispatch.queue import LaneQueue

# Owners whose last turn is remembered; one that is not has its turn first.
_REMEMBERED_OWNERS = 100_000
# Jobs looked at for one that a session on trial has not failed: those that it has go before others.
_MOST_PASSED_OVER = 10_000

# Order of the lanes' heads: priority, then the owner who waited longest for a turn, then age.
_Key = tuple[int, int, int, str]


class Matcher:
    """Pending jobs by lane, and the sessions that have room for them.

    A lane is a model and what is asked of it: its jobs can go to the same sessions.
    """

    def __init__(self) -> None:
        self._queues: dict[str, LaneQueue] = {}
        self._parking = Parking()
        self._affinity = Affinity()
        # Sessions that changed since the last look: many leases of one may end in a turn.
        self._changed: dict[Session, None] = {}
        # Sessions that take jobs at all, by lane.
        self._serving: dict[str, dict[Session, None]] = {}
        # Those with room, by lane; the one whose turn is next first.
        self._open: dict[str, OrderedDict[Session, None]] = {}
        # Lanes that have both a queue and a session with room: all that a match looks at.
        self._ready: set[str] = set()
        # When each owner last had a turn, over all lanes.
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._turn = count(1)

    def push(self, job: LiveJob) -> None:
        """Queues a job, unless it stands there."""
        if job.ticket is not None:
            return
        self._parking.discard(job)
        lane = job.lane
        queue = self._queues.get(lane)
        if queue is None:
            queue = self._queues[lane] = LaneQueue()
        queue.push(job)
        if lane in self._open:
            self._ready.add(lane)

    def remove(self, job: LiveJob) -> None:
        """Takes a job out of its queue, if it is there."""
        self._parking.discard(job)
        if job.ticket is not None:
            self._queues[job.lane].remove(job)
            self._drop_if_empty(job.lane)

    def take(self, job: LiveJob) -> None:
        """Takes out a job that a miner asked for; its owner's turn is over."""
        self._parking.discard(job)
        if job.ticket is not None:
            self._queues[job.lane].take(job)
            self._drop_if_empty(job.lane)
        self._note_turn(job.owner)

    def update(self, session: Session) -> None:
        """Notes that a session's room has changed, or that it ended."""
        self._changed[session] = None

    def pairs(self, now: Now) -> Iterator[tuple[LiveJob, Session]]:
        """Yields jobs with the sessions to give them to, the most urgent job first.

        The caller adds the lease to the session before it asks for the next pair.
        """
        self._look_at_changed()
        heads = [self._key(lane) for lane in self._ready]
        heapq.heapify(heads)
        while heads:
            key = heapq.heappop(heads)
            lane = key[-1]
            if lane not in self._ready:
                continue
            if heads and (current := self._key(lane)) != key:
                # Its owner has had a turn at another lane since.
                heapq.heappush(heads, current)
                continue
            job = self._queues[lane].head()
            session = self._choose(lane, job, now)
            if session and session.is_on_trial(job.model) and session.miner_id in job.failed_miners:
                job = self._untried(lane, session) or job
            self._queues[lane].take(job)
            self._drop_if_empty(lane)
            if session is None:
                waits = now.mono < job.prefers_until
                self._parking.add(job, job.failed_miners if waits else ())
            else:
                self._note_turn(job.owner)
                if job.affinity:
                    self._affinity.note(job, session)
                yield job, session
                if session.room_for(job.model) > 0:
                    self._open[lane].move_to_end(session)
                else:
                    self._look_at(session)
                if job.vanished:
                    self._offer_probations(job)
            if lane in self._ready:
                # One that is alone needs no order.
                heapq.heappush(heads, self._key(lane) if heads else (0, 0, 0, lane))

    def peek(self, lanes: Iterable[str], most: int) -> list[LiveJob]:
        """Returns the jobs that a miner of these lanes would be given next."""
        rest = {lane: self._waiting(lane) for lane in dict.fromkeys(lanes)}
        turns: dict[str, int] = {}
        fresh = count(next(self._turn))
        heads: list[tuple[_Key, LiveJob]] = []

        def push_head(lane: str) -> None:
            job = next(rest[lane], None)
            if job is not None:
                turn = turns.get(job.owner, self._turns.get(job.owner, 0))
                heapq.heappush(heads, ((-job.priority, turn, job.created_us, job.job_id), job))

        for lane in rest:
            push_head(lane)
        found: list[LiveJob] = []
        while heads and len(found) < most:
            key, job = heapq.heappop(heads)
            turn = turns.get(job.owner, key[1])
            if turn > key[1]:
                heapq.heappush(heads, ((key[0], turn, *key[2:]), job))
                continue
            found.append(job)
            turns[job.owner] = next(fresh)
            push_head(job.lane)
        return found

    def ahead_of(self, job: LiveJob) -> int:
        """Returns how many jobs of its lane go before a waiting job."""
        return 0 if job.ticket is None else self._queues[job.lane].ahead_of(job)

    def is_parked(self, job: LiveJob) -> bool:
        """Whether a job waits for another miner than those that have room."""
        return job in self._parking

    def reconsider(self, job: LiveJob) -> None:
        """Looks again for a miner for a job that has waited for another one."""
        if job in self._parking:
            self.push(job)

    def has_other(self, job: LiveJob, miner_id: str) -> bool:
        """Whether another miner takes jobs like this one, and did not fail at it."""
        self._look_at_changed()
        failed = {*job.failed_miners, miner_id}
        serving = islice(self._serving.get(job.lane, ()), len(failed) + 1)
        return any(session.miner_id not in failed for session in serving)

    def _look_at_changed(self) -> None:
        changed, self._changed = self._changed, {}
        for session in changed:
            self._look_at(session)

    def _look_at(self, session: Session) -> None:
        self._affinity.update(session)
        for model, lanes in session.lanes.items():
            serves, room = session.limit_for(model) > 0, session.room_for(model)
            for lane in lanes:
                is_open = room > 0 and session in self._open.get(lane, ())
                if is_open and not self._parking.has_lane(lane):
                    # As before. A miner may have many lanes, and each of its leases changes it.
                    continue
                self._note_serving(session, lane, serves=serves)
                self._note_room(session, lane, room)

    def _waiting(self, lane: str) -> Iterator[LiveJob]:
        yield from self._parking.of_lane(lane)
        yield from self._queues.get(lane, ())

    def _choose(self, lane: str, job: LiveJob, now: Now) -> Session | None:
        """Returns a session with room whose miner did not fail the job; None: wait for one."""
        sessions, failed = self._open[lane], job.failed_miners
        if not failed:
            next_in_turn = next(iter(sessions))
            return self._affinity.preferred(job, next_in_turn) if job.affinity else next_in_turn
        able = list(islice(_able(sessions, job), len(failed) + 1))
        for session in able:
            if session.miner_id not in failed:
                return session
        if now.mono < job.prefers_until:
            serving = islice(self._serving[lane], len(failed) + 1)
            if job.awaits_miners or any(s.miner_id not in failed for s in serving):
                return None
        return min(able, key=lambda session: session.is_on_trial(job.model), default=None)

    def _untried(self, lane: str, session: Session) -> LiveJob | None:
        """Returns the next job that a session can take and its miner has not failed, if one waits.

        A trial by a job that it has failed says little: the job itself may be why it fails.
        """
        for job in islice(self._queues[lane], _MOST_PASSED_OVER):
            if session.miner_id not in job.failed_miners and any(_able((session,), job)):
                return job
        return None

    def _offer_probations(self, given: LiveJob) -> None:
        """Queues a suspected job for each session that could take one.

        The one that was just given away may have been meant for another session.
        """
        for session in self._open.get(given.lane, ()):
            room = session.room_for(given.model)
            for job in self._parking.suspected(given.lane, session, room):
                self.push(job)

    def _note_serving(self, session: Session, lane: str, *, serves: bool) -> None:
        serving = self._serving.get(lane)
        if serves:
            if serving is None:
                serving = self._serving[lane] = {}
            serving[session] = None
        elif serving is not None and session in serving:
            del serving[session]
            if not serving:
                del self._serving[lane]
            # It may have been the one they waited for.
            for job in list(self._parking.of_lane(lane)):
                self.push(job)

    def _note_room(self, session: Session, lane: str, room: int) -> None:
        if room > 0:
            self._open.setdefault(lane, OrderedDict()).setdefault(session)
            for job in self._parking.fitting(lane, session, room):
                self.push(job)
            if lane in self._queues:
                self._ready.add(lane)
        elif lane in self._open and session in self._open[lane]:
            del self._open[lane][session]
            if not self._open[lane]:
                del self._open[lane]
                self._ready.discard(lane)

    def _note_turn(self, owner: str) -> None:
        self._turns[owner] = next(self._turn)
        self._turns.move_to_end(owner)
        if len(self._turns) > _REMEMBERED_OWNERS:
            self._turns.popitem(last=False)

    def _key(self, lane: str) -> _Key:
        head = self._queues[lane].head()
        return -head.priority, self._turns.get(head.owner, 0), head.created_us, lane

    def _drop_if_empty(self, lane: str) -> None:
        if not self._queues[lane]:
            del self._queues[lane]
            self._ready.discard(lane)


def _able(sessions: Iterable[Session], job: LiveJob) -> Iterator[Session]:
    """Yields the sessions that may take a job; no two at once with which processes vanished."""
    if not job.vanished:
        return iter(sessions)
    return (session for session in sessions if session.probation is None)
