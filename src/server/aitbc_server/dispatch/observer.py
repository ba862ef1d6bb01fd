"""What others may watch of the dispatcher, without a part in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aitbc_server.dispatch.live import LiveJob
from aitbc_server.domain.call import Call
from aitbc_server.domain.jobs import Begin, Completion, Ending, NewJob
from aitbc_server.supervisor import Supervisor


class Observer:
    """Is told of what was stored, a batch at a time, on the loop. It must be quick.

    It has the methods that it wants to be called.
    """

    def submitted(self, jobs: Sequence[NewJob], call: Call) -> None:
        """New jobs are stored, which a call asked for."""

    def begun(self, begins: Sequence[Begin], jobs: Mapping[str, LiveJob]) -> None:
        """Leases are stored, on these of the live jobs."""

    def completed(self, completions: Sequence[Completion]) -> None:
        """Results are stored."""

    def ended(self, endings: Sequence[Ending]) -> None:
        """Ends of waits and attempts without a result are stored."""


class Observers(Observer):
    """Those who watch, told as one. What one of them raises keeps nobody else from anything."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._submitted: list[Callable[..., None]] = []
        self._begun: list[Callable[..., None]] = []
        self._completed: list[Callable[..., None]] = []
        self._ended: list[Callable[..., None]] = []

    def add(self, observer: Observer) -> None:
        """Tells one more from now on, of what it wants to know."""
        kind = type(observer)
        if kind.submitted is not Observer.submitted:
            self._submitted.append(observer.submitted)
        if kind.begun is not Observer.begun:
            self._begun.append(observer.begun)
        if kind.completed is not Observer.completed:
            self._completed.append(observer.completed)
        if kind.ended is not Observer.ended:
            self._ended.append(observer.ended)

    def submitted(self, jobs: Sequence[NewJob], call: Call) -> None:
        """Tells that new jobs are stored."""
        if self._submitted:
            self._tell(self._submitted, jobs, call)

    def begun(self, begins: Sequence[Begin], jobs: Mapping[str, LiveJob]) -> None:
        """Tells that leases are stored."""
        self._tell(self._begun, begins, jobs)

    def completed(self, completions: Sequence[Completion]) -> None:
        """Tells that results are stored."""
        self._tell(self._completed, completions)

    def ended(self, endings: Sequence[Ending]) -> None:
        """Tells that waits and attempts ended without a result."""
        self._tell(self._ended, endings)

    def _tell(self, told: Sequence[Callable[..., None]], *what: Any) -> None:
        for tell in told:
            try:
                tell(*what)
            except Exception as error:
                self._supervisor.broke("observer", error)
