"""Who is there and what is served, counted as it changes: asking costs the same for any number."""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aitbc_server.dispatch.leases import decrement
from aitbc_server.dispatch.live import Now, Session
from aitbc_server.domain.miners import MinerStatus
from aitbc_server.domain.tasks import Task, lane_of

# How long a miner that polls counts as there after its last call.
_PRESENCE_S = 60.0
# Models told of; those that most miners serve, where there are more.
_SHOWN = 1_000
# Models counted: what a miner says that it serves beyond them is not told of.
_COUNTED = 10_000
# Models whose tasks are remembered.
_REMEMBERED = 1_000
# How often those to be told of are chosen anew, where there are more.
_CHOSEN_EVERY_S = 0.25


class _Entry(NamedTuple):
    """A miner that is there."""

    status: MinerStatus
    # What of it was counted.
    models: tuple[str, ...]
    # What it takes of them, and the longest prompt with its answer, where it says so.
    lanes: tuple[str, ...]
    lengths: tuple[tuple[str, int], ...] = ()
    # When it was last heard of (monotonic): of one that polls.
    at: float = 0.0


class Census:
    """The miners that hold a stream, and those that made a call lately."""

    def __init__(self) -> None:
        self._streaming: dict[str, _Entry] = {}
        # The one that was silent for longest first.
        self._calling: OrderedDict[str, _Entry] = OrderedDict()
        self._statuses: Counter[MinerStatus] = Counter()
        self._miners: Counter[str] = Counter()
        # Of what may be asked of models; and, by model, of the lengths that miners say.
        self._lanes: Counter[str] = Counter()
        # What follows from it for models that were asked about, until it changes.
        self._tasks: dict[str, tuple[Task, ...]] = {}
        self._lengths: dict[str, Counter[int]] = {}
        # Models that each adapter changes.
        self._parents: dict[str, str] = {}
        self._shown: list[str] | None = None
        self._chosen_at = float("-inf")

    def take(self, session: Session) -> None:
        """Notes that a session began, changed or ended."""
        miner_id = session.miner_id
        if session.closed is not None:
            self._leave(self._streaming.pop(miner_id, None))
            return
        status = _status(is_draining=session.window == 0 or session.is_drained)
        known = self._streaming.get(miner_id)
        if known is not None:
            self._streaming[miner_id] = self._moved(known, status)
            return
        self.forget(miner_id)
        lengths = {
            model: info.max_model_len
            for model, info in session.infos.items()
            if info.max_model_len is not None
        }
        self._streaming[miner_id] = self._enter(status, session.lanes, lengths)
        if session.parents:
            self._parents |= session.parents

    def called(self, miner_id: str, models: Sequence[str], now: Now, *, is_drained: bool) -> None:
        """Notes that a miner made a call, and what it serves by polling."""
        if miner_id in self._streaming:
            return
        self.forget(miner_id)
        # It only generates, and the lane of that has the model's name.
        lanes = {model: (model,) for model in models}
        entry = self._enter(_status(is_draining=is_drained), lanes, {})
        self._calling[miner_id] = entry._replace(at=now.mono)
        self._drop_silent(now)

    def drained(self, miner_id: str, *, is_drained: bool) -> None:
        """Notes that a miner which made a call is drained, or not any more."""
        known = self._calling.get(miner_id)
        if known is not None:
            self._calling[miner_id] = self._moved(known, _status(is_draining=is_drained))

    def forget(self, miner_id: str) -> None:
        """Lets go of a miner that made a call."""
        self._leave(self._calling.pop(miner_id, None))

    def status(self, miner_id: str, now: Now) -> MinerStatus:
        """Returns whether a miner takes work."""
        self._drop_silent(now)
        entry = self._streaming.get(miner_id) or self._calling.get(miner_id)
        return entry.status if entry else MinerStatus.OFFLINE

    def counts(self, now: Now, *, registered: int) -> dict[MinerStatus, int]:
        """Returns how many miners of those registered have each status."""
        self._drop_silent(now)
        there = len(self._streaming) + len(self._calling)
        counts = {status: self._statuses[status] for status in MinerStatus}
        return counts | {MinerStatus.OFFLINE: max(0, registered - there)}

    def models(self, now: Now) -> Mapping[str, int]:
        """Returns the models that are served, by name, with the number of their miners.

        A thousand at most: those that most miners serve.
        """
        self._drop_silent(now)
        miners = self._miners
        is_stale = len(miners) <= _SHOWN or now.mono >= self._chosen_at + _CHOSEN_EVERY_S
        if self._shown is None and is_stale:
            self._chosen_at = now.mono
            self._shown = sorted(heapq.nlargest(_SHOWN, miners, key=lambda model: miners[model]))
        return {model: miners[model] for model in self._shown or () if model in miners}

    def parent(self, model: str) -> str:
        """Returns the model that an adapter changes; "" of other models."""
        return self._parents.get(model, "")

    def takes(self, lane: str) -> bool:
        """Says whether a miner is there that takes jobs of a lane."""
        return lane in self._lanes

    def tasks(self, model: str) -> tuple[Task, ...]:
        """Returns what may be asked of a model now; nothing where no miner is there."""
        known = self._tasks.get(model)
        if known is None:
            if len(self._tasks) >= _REMEMBERED:
                self._tasks.clear()
            known = tuple(task for task in Task if lane_of(model, task) in self._lanes)
            self._tasks[model] = known
        return known

    def max_model_len(self, model: str) -> int | None:
        """Returns the longest prompt with its answer that a miner of a model takes, if one says."""
        return max(self._lengths.get(model, ()), default=None)

    def _moved(self, entry: _Entry, status: MinerStatus) -> _Entry:
        self._statuses[entry.status] -= 1
        self._statuses[status] += 1
        return entry._replace(status=status)

    def _enter(
        self,
        status: MinerStatus,
        lanes_of: Mapping[str, tuple[str, ...]],
        lengths: Mapping[str, int],
    ) -> _Entry:
        miners, counted = self._miners, []
        for model in lanes_of:
            if model not in miners:
                if len(miners) >= _COUNTED:
                    continue
                self._shown = None
            miners[model] += 1
            counted.append(model)
        self._statuses[status] += 1
        lanes = tuple(lane for model in counted for lane in lanes_of[model])
        self._lanes.update(lanes)
        self._tasks.clear()
        said = tuple((model, lengths[model]) for model in counted if model in lengths)
        for model, length in said:
            self._lengths.setdefault(model, Counter())[length] += 1
        return _Entry(status, tuple(counted), lanes, said)

    def _leave(self, entry: _Entry | None) -> None:
        if entry is None:
            return
        self._statuses[entry.status] -= 1
        for lane in entry.lanes:
            decrement(self._lanes, lane)
        self._tasks.clear()
        for model, length in entry.lengths:
            decrement(self._lengths[model], length)
            if not self._lengths[model]:
                del self._lengths[model]
        for model in entry.models:
            decrement(self._miners, model)
            if model not in self._miners:
                self._shown = None
                self._parents.pop(model, None)

    def _drop_silent(self, now: Now) -> None:
        while self._calling:
            miner_id, entry = next(iter(self._calling.items()))
            if entry.at + _PRESENCE_S > now.mono:
                return
            self.forget(miner_id)


def _status(*, is_draining: bool) -> MinerStatus:
    return MinerStatus.DRAINING if is_draining else MinerStatus.ONLINE
