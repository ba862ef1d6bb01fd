"""Jobs during whose leases miner processes vanished: which are to be set aside.

A process vanished when its stream broke and its lease expired before it came back, or when its
miner came back as another process. One that was only away is not counted, nor one that was there
until a newer process took its place, nor one whose end nobody can tell from a restart of the
coordinator, nor a poller, whose process nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aitbc_server.dispatch.live import Holder, Lease, LiveJob, Session


class Verdict(NamedTuple):
    """Why a job is set aside."""

    code: str
    message: str


class Vanishing:
    """Counts, for each job, the processes that vanished with it."""

    def __init__(self, present: Mapping[str, Session], *, poison_after: int) -> None:
        """`present`: the open sessions by miner; `poison_after`: as many set a job aside."""
        self._present = present
        self._poison_after = poison_after

    def note(self, lease: Lease) -> Verdict | None:
        """Counts the holder of a lease that is lost; says why, if that sets its job aside."""
        if lease.holder is None:
            return None
        job = lease.job
        gone = [holder for holder in job.vanished if not self._is_back(holder)]
        job.vanished = (*gone, lease.holder)
        return self._verdict(job)

    def _is_back(self, holder: Holder) -> bool:
        session = self._present.get(holder.miner_id)
        return bool(
            holder.process_id and session is not None and session.process_id == holder.process_id
        )

    def _verdict(self, job: LiveJob) -> Verdict | None:
        times = len(job.vanished)
        if times < self._poison_after:
            return None
        message = (
            f"{times} miner {'process' if times == 1 else 'processes'} vanished while they had the "
            f"job, the last one of {job.vanished[-1].miner_id}: it is set aside, see its attempts"
        )
        return Verdict("POISON", message)
