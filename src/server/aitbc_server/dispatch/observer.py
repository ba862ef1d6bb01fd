"""What others may watch of the dispatcher, without a part in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from aitbc_server.dispatch.live import LiveJob
from aitbc_server.domain.call import Call
from aitbc_server.domain.jobs import Begin, Completion, Ending, NewJob


class Observer(Protocol):
    """Is told of what was stored, a batch at a time, on the loop. It must be quick."""

    def submitted(self, jobs: Sequence[NewJob], call: Call) -> None:
        """New jobs are stored, which a call asked for."""

    def begun(self, begins: Sequence[Begin], jobs: Mapping[str, LiveJob]) -> None:
        """Leases are stored, on these of the live jobs."""

    def completed(self, completions: Sequence[Completion]) -> None:
        """Results are stored."""

    def ended(self, endings: Sequence[Ending]) -> None:
        """Ends of waits and attempts without a result are stored."""
