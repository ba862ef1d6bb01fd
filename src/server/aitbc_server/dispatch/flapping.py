"""Miners that take jobs and go before they did anything with one: each time they wait longer."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from aitbc_server.dispatch.live import CloseReason, Now, Session

# How long such a miner is given nothing, from the second time in a row on: doubled for each further
# one. The first time may be any miner's bad luck.
_FIRST_HOLD_S = 1.0
_LONGEST_HOLD_S = 60.0
# Miners remembered.
_REMEMBERED = 10_000


class _Flaps(NamedTuple):
    times: int
    # When it is given jobs again (monotonic).
    until: float


class Flapping:
    """Sessions in a row that took jobs and ended without news of any, by miner."""

    def __init__(self) -> None:
        self._flaps: OrderedDict[str, _Flaps] = OrderedDict()

    def ended(self, session: Session, reason: CloseReason, now: Now) -> None:
        """Takes in the end of a session that holds its leases still."""
        if session.has_worked or not session.leases or reason is CloseReason.DRAINING:
            return
        known = self._flaps.pop(session.miner_id, None)
        times = known.times + 1 if known else 1
        hold_s = min(_FIRST_HOLD_S * 2.0 ** min(times - 2, 10), _LONGEST_HOLD_S)
        self._flaps[session.miner_id] = _Flaps(times, now.mono + hold_s if times > 1 else now.mono)
        if len(self._flaps) > _REMEMBERED:
            self._flaps.popitem(last=False)

    def held_until(self, miner_id: str) -> float:
        """Returns until when a miner is given nothing (monotonic)."""
        known = self._flaps.get(miner_id)
        return known.until if known else 0.0

    def forgive(self, miner_id: str) -> None:
        """Begins anew with a miner: it works, or is gone for good."""
        self._flaps.pop(miner_id, None)
