"""Holds the miner back from models that it cannot serve at present, and says why.

A fault of the miner's opens the circuit of its model: the coordinator is told to give no job of it
for a while, longer each time. When the while is over, one job may try; an answer closes the
circuit.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from aitbc.v1.work_pb2 import ModelPause
from aitbc_miner.errors import EngineError

log = structlog.get_logger()

FIRST_S = 1.0
LONGEST_S = 300.0
# Miners that share a server must not all come back at the same moment.
_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Pause:
    """Until when a model is held back, and why."""

    reason: str
    message: str
    until: float


class Breaker:
    """The circuits of a miner's models."""

    def __init__(self, clock: Callable[[], float], rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.Random()
        self._pauses: dict[str, Pause] = {}
        # How often each model failed in a row.
        self._faults: dict[str, int] = {}

    def open(self, model: str, error: EngineError) -> bool:
        """Notes a fault of the miner's; returns whether its pauses have changed.

        The jobs that ran together fail together: that is one fault.
        """
        now = self._clock()
        known = self._pauses.get(model)
        if known is not None and now < known.until:
            return False
        faults = self._faults[model] = self._faults.get(model, 0) + 1
        longest_s = min(LONGEST_S, FIRST_S * 2.0 ** min(faults - 1, 20))
        wait_s = longest_s * self._rng.uniform(1.0 - _JITTER, 1.0)
        wait_s = min(LONGEST_S, max(wait_s, error.retry_after_s or 0.0))
        self._pauses[model] = Pause(error.reason, str(error), now + wait_s)
        log.error(
            "model.paused",
            model=model,
            reason=error.reason,
            message=str(error),
            faults=faults,
            pause_s=round(wait_s, 1),
        )
        return True

    def close(self, model: str) -> bool:
        """Notes an answer; returns whether the model was held back."""
        if model not in self._faults:
            return False
        del self._faults[model]
        self._pauses.pop(model, None)
        log.info("model.resumed", model=model)
        return True

    def pauses(self) -> list[ModelPause]:
        """Returns the models that are held back now, as the coordinator is told of them."""
        now = self._clock()
        pauses = []
        for model, pause in self._pauses.items():
            if pause.until > now:
                told = ModelPause(model=model, code=pause.reason, message=pause.message)
                told.duration.FromMilliseconds(int((pause.until - now) * 1000))
                pauses.append(told)
        return pauses
