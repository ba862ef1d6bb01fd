"""Models that miners cannot serve at present: they are given no jobs of them for a while.

A miner tells its pauses, and says with a failure that the fault is its own; of one that says no
more than that, the pauses are made here, each longer than the one before. When a pause is over, one
job at a time tries whether the miner can serve the model again; the first sign of that ends it. It
is one that has not failed there, if such a one waits: one that always fails must not hold up the
others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aitbc_server.dispatch.leasing import Leasing
from aitbc_server.dispatch.live import Now, Pause, Session
from aitbc_server.dispatch.matcher import Matcher
from aitbc_server.dispatch.timers import Timers

_FIRST_S = 1.0
_LONGEST_S = 300.0
# Longest pause that a miner may tell.
_MOST_S = 3600.0


class ToldPause(NamedTuple):
    """A pause, as a miner tells it."""

    model: str
    code: str
    message: str
    seconds: float


class Pauses:
    """The pauses of the open sessions."""

    def __init__(self, leasing: Leasing, matcher: Matcher, timers: Timers) -> None:
        self._leasing = leasing
        self._matcher = matcher
        # By miner and model.
        self._ends = timers.calling(self._end)
        self._sessions: dict[str, Session] = {}

    def tell(self, session: Session, told: Iterable[ToldPause], now: Now) -> None:
        """Takes the pauses that a miner tells; those told before that it does not name are over."""
        named = set()
        for pause in told:
            if pause.model in session.models:
                named.add(pause.model)
                seconds = min(max(pause.seconds, 0.0), _MOST_S)
                self._pause(session, pause._replace(seconds=seconds), now, is_told=True)
        for model, known in list(session.pauses.items()):
            # One that is being tried is over when it was tried.
            if known.is_told and not known.is_trial and model not in named:
                self.clear(session, model)

    def blame(self, session: Session, pause: ToldPause, now: Now) -> None:
        """Notes that a job failed by the miner's fault. Its `seconds` are the least."""
        known = session.pauses.get(pause.model)
        if known is not None and not known.is_trial:
            # Jobs that ran together fail together: that is one fault.
            return
        faults = known.faults if known is not None else 0
        seconds = min(_LONGEST_S, max(_FIRST_S * 2.0 ** min(faults, 20), pause.seconds))
        self._pause(session, pause._replace(seconds=seconds), now, is_told=False)

    def spare(self, session: Session, pause: ToldPause, now: Now) -> None:
        """Notes for how long a miner's engine wants to be spared."""
        known = session.pauses.get(pause.model)
        seconds = min(max(pause.seconds, 0.0), _MOST_S)
        if seconds and (known is None or known.is_trial or known.until < now.mono + seconds):
            self._pause(session, pause._replace(seconds=seconds), now, is_told=False)

    def clear(self, session: Session, model: str) -> None:
        """Notes that a miner serves a model."""
        if session.pauses.pop(model, None) is not None:
            self._drop(session, model)
            self._matcher.update(session)

    def forget(self, session: Session) -> None:
        """Lets go of the pauses of a session that ends."""
        for model in session.pauses:
            self._drop(session, model)
        session.pauses.clear()

    def _drop(self, session: Session, model: str) -> None:
        key = _key(session, model)
        self._ends.cancel(key)
        self._sessions.pop(key, None)

    def _pause(self, session: Session, pause: ToldPause, now: Now, *, is_told: bool) -> None:
        known = session.pauses.get(pause.model)
        session.pauses[pause.model] = Pause(
            code=pause.code,
            message=pause.message,
            until=now.mono + pause.seconds,
            faults=(known.faults if known else 0) + 1,
            is_told=is_told,
        )
        key = _key(session, pause.model)
        self._sessions[key] = session
        self._ends.set(key, now.mono + pause.seconds)
        # What the miner was not told of goes to others at once.
        for lease in [one for one in session.outbox.assignments if one.job.model == pause.model]:
            session.outbox.assignments.remove(lease)
            self._leasing.withdraw(lease, now)
        self._matcher.update(session)

    def _end(self, key: str, now: Now) -> None:
        session = self._sessions.pop(key)
        pause = session.pauses.get(key.rpartition("\n")[2])
        if pause is not None:
            pause.is_trial = True
            self._matcher.update(session)


def _key(session: Session, model: str) -> str:
    # A model's name has no control characters.
    return f"{session.miner_id}\n{model}"
