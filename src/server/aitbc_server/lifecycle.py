"""Whether the coordinator takes calls: one value that the edges ask."""

from __future__ import annotations

from enum import Enum

from aitbc_server.domain.errors import Draining, Starting


class Phase(Enum):
    """Where the process is in its life."""

    STARTING = 1
    SERVING = 2
    DRAINING = 3


class Lifecycle:
    """The present phase."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING

    def check_serving(self) -> None:
        """Raises Starting or Draining unless the coordinator serves."""
        if self.phase is Phase.STARTING:
            raise Starting(retry_after_s=1)
        if self.phase is Phase.DRAINING:
            raise Draining(retry_after_s=5)
