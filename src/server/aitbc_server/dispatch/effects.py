"""What the core asks its shell to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from aitbc_server.dispatch.live import Session
from aitbc_server.domain.jobs import Begin, Completion, Ending


@dataclass(slots=True)
class Effects:
    """Everything asked for since the last time; the order within a list matters, between them not.

    The shell stores `begins`, `completions`, `endings` and `flags`, and gives the answers to the
    core's `begun`, `completed` and `ended`.
    """

    begins: list[Begin] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    # (job_id, requested_us, is_abandoned) of running jobs that are to be cancelled.
    flags: list[tuple[str, int, bool]] = field(default_factory=list)
    # Sessions with something in their outbox, or that were closed.
    touched: dict[Session, None] = field(default_factory=dict)
    # Jobs that became final.
    finals: list[str] = field(default_factory=list)

    def take(self) -> Effects:
        """Returns what was asked for until now, and begins anew."""
        taken = Effects(
            self.begins, self.completions, self.endings, self.flags, self.touched, self.finals
        )
        self.begins, self.completions, self.endings = [], [], []
        self.flags, self.touched, self.finals = [], {}, []
        return taken
