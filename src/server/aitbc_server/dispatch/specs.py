"""What was submitted, kept in memory while jobs wait, as far as memory allows."""

from __future__ import annotations

from aitbc_server.dispatch.live import LiveJob


class Specs:
    """Keeps the sum of all `LiveJob.spec` within a budget; what does not fit is on disk."""

    def __init__(self, budget: int) -> None:
        """`budget`: bytes kept."""
        self._left = budget

    def keep(self, job: LiveJob, spec: bytes) -> None:
        """Keeps what was submitted, if there is room."""
        if self._left >= len(spec):
            self.put(job, spec)

    def put(self, job: LiveJob, spec: bytes) -> None:
        """Keeps what was submitted although there may be no room: it is needed now."""
        self._left -= len(spec)
        job.spec = spec

    def take(self, job: LiveJob) -> bytes:
        """Returns what was submitted, and lets go of it."""
        spec, job.spec = job.spec or b"", None
        self._left += len(spec)
        return spec
