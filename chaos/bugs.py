"""Bugs to plant into a coordinator before it starts, to see that the checker finds them."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.leasing import Leasing
from aitbc_server.dispatch.live import Now, Session
from aitbc_server.dispatch.sessions import Sessions
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.asks import PLAIN, Asks
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.jobs import Completion, JobStatus, LiveRecord, Submission, Submitted
from aitbc_server.domain.tasks import Task
from aitbc_server.store.sqlite import SqliteStore

# How long the early answer is early.
_LATE_COMMIT_S = 0.5


def ack_before_commit() -> None:
    """Answers a submit first and stores it later."""
    stored = SqliteStore.submit

    def submit(
        store: SqliteStore,
        submission: Submission,
        then: Callable[[Submitted | Exception], None] | None = None,
    ) -> Future[Submitted]:
        loop = asyncio.get_running_loop()
        loop.call_later(_LATE_COMMIT_S, stored, store, submission, then)
        answer: Future[Submitted] = loop.create_future()
        jobs = tuple((job.job_id, JobStatus.PENDING, job.created_us) for job in submission.jobs)
        answer.set_result(Submitted(jobs=jobs, is_new=True))
        return answer

    _plant(SqliteStore, "submit", submit)


def no_fencing() -> None:
    """Takes a result for a job from whoever sends it, whatever lease it names."""
    deliver, asked_by = Sessions.deliver, Dispatcher.asked_by

    def asked_anyway(dispatcher: Dispatcher, session: Session, lease_id: str) -> tuple[Task, Asks]:
        return asked_by(dispatcher, session, lease_id) or (Task.GENERATE, PLAIN)

    def deliver_anyway(
        sessions: Sessions, session: Session, sequence: int, completion: Completion
    ) -> None:
        named = sessions._leasing.book.by_id.get(completion.lease_id)
        if named is None or named.session is not session:
            job_id = job_of_lease(completion.lease_id)
            for lease in sessions._leasing.book.by_id.values():
                if lease.job.job_id == job_id and lease.is_held and lease.claim_s is None:
                    stale = completion._replace(lease_id=lease.lease_id)
                    return sessions._leasing.complete(lease, stale)
        return deliver(sessions, session, sequence, completion)

    _plant(Dispatcher, "asked_by", asked_anyway)
    _plant(Sessions, "deliver", deliver_anyway)


def lease_kept_over_restart() -> None:
    """Believes for ever in the leases found at the start, whether or not miners come back."""
    restore = Core.restore
    expire = Leasing.expire_after

    def restore_for_ever(core: Core, records: Iterable[LiveRecord], now: Now) -> None:
        _plant(Leasing, "expire_after", lambda *_: None)
        restore(core, records, now)
        _plant(Leasing, "expire_after", expire)

    def give_nothing_back(sessions: Sessions, session: Session, now: Now) -> None:
        del sessions, session, now

    _plant(Core, "restore", restore_for_ever)
    _plant(Sessions, "_give_back_unnamed", give_nothing_back)


def _plant(owner: type[Any], name: str, bug: Callable[..., Any]) -> None:
    setattr(owner, name, bug)


BUGS: Mapping[str, Callable[[], None]] = {
    "ack-before-commit": ack_before_commit,
    "no-fencing": no_fencing,
    "lease-kept-over-restart": lease_kept_over_restart,
}
