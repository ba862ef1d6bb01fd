"""Which miner served a beginning last, and so may have it in its engine's cache.

What begins alike (a conversation, or prompts with a long common prefix) has a common key. A miner
that served the key is preferred while it is hardly busier than the one whose turn it is: a cache
saves less than a queue costs.
"""

from __future__ import annotations

from collections import OrderedDict

from aitbc_server.dispatch.live import LiveJob, Session

# Keys remembered.
_REMEMBERED = 100_000
# Share of its window by which a preferred miner may be ahead of the one whose turn it is.
_BUSIER = 0.25


class Affinity:
    """Sessions with room that served a key, by key and model."""

    def __init__(self) -> None:
        self._served: OrderedDict[tuple[str, bytes], str] = OrderedDict()
        # Sessions with room, by miner.
        self._open: dict[str, Session] = {}

    def update(self, session: Session) -> None:
        """Notes that a session's room has changed, or that it ended."""
        if session.room > 0:
            self._open[session.miner_id] = session
        elif self._open.get(session.miner_id) is session:
            del self._open[session.miner_id]

    def note(self, job: LiveJob, session: Session) -> None:
        """Notes which miner serves a job."""
        for key in job.affinity:
            place = (job.model, key)
            self._served[place] = session.miner_id
            self._served.move_to_end(place)
            if len(self._served) > _REMEMBERED:
                self._served.popitem(last=False)

    def preferred(self, job: LiveJob, next_in_turn: Session) -> Session:
        """Returns the session that served the beginning of a job, or the one whose turn it is."""
        for key in job.affinity:
            session = self._open.get(self._served.get((job.model, key), ""))
            if session is None or not session.takes(job):
                continue
            if session.room_for(job.model) <= 0:
                continue
            ahead = len(session.leases) - len(next_in_turn.leases)
            if ahead <= max(1, int(session.limit * _BUSIER)):
                return session
        return next_in_turn
