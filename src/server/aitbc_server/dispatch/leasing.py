"""How leases begin, expire and end: what is proposed for them, and what their miners are told."""

from __future__ import annotations

from aitbc_server.dispatch.effects import Effects
from aitbc_server.dispatch.endings import LEASE_EXPIRED, end_of_attempt, end_of_undelivered
from aitbc_server.dispatch.leases import LeaseBook
from aitbc_server.dispatch.live import CancelReason, Lease, LiveJob, Now, Phase, Session
from aitbc_server.dispatch.matcher import Matcher
from aitbc_server.dispatch.timers import Timers
from aitbc_server.dispatch.vanishing import Vanishing
from aitbc_server.domain.ids import lease_id_of
from aitbc_server.domain.jobs import Begin, Completion


class Leasing:
    """The steps that jobs and sessions share: none decides, each keeps the books in step."""

    def __init__(
        self,
        effects: Effects,
        matcher: Matcher,
        timers: Timers,
        vanishing: Vanishing,
        *,
        lease_s: float,
    ) -> None:
        """`lease_s`: how long a lease lasts after its miner was last heard."""
        self.book = LeaseBook()
        self.lease_s = lease_s
        self._effects = effects
        self._matcher = matcher
        self._vanishing = vanishing
        self._expiries = timers.calling(self._check_expiry)

    def propose(
        self,
        job: LiveJob,
        miner_id: str,
        now: Now,
        *,
        session: Session | None = None,
        claim_s: float | None = None,
    ) -> Lease:
        """Proposes a new lease: of a session, or a claim."""
        job.attempt += 1
        lease = Lease(
            lease_id=lease_id_of(job.job_id, job.attempt),
            job=job,
            miner_id=miner_id,
            attempt=job.attempt,
            started_us=now.wall_us,
            session=session,
            claim_s=claim_s,
        )
        self.book.add(lease)
        self._effects.begins.append(
            Begin(
                job_id=job.job_id,
                lease_id=lease.lease_id,
                attempt=job.attempt,
                miner_id=miner_id,
                started_us=now.wall_us,
                claim_s=claim_s,
            )
        )
        return lease

    def complete(self, lease: Lease, completion: Completion) -> None:
        """Proposes the completion of a held lease."""
        lease.phase = Phase.ENDING
        self._effects.completions.append(completion)

    def end(
        self,
        lease: Lease,
        code: str,
        message: str,
        now: Now,
        *,
        retryable: bool,
        is_miners: bool = False,
        at_once: bool = False,
    ) -> None:
        """Proposes the end of a lease without a result.

        `is_miners`: by the miner's own fault; `at_once`: the job is tried again now.
        """
        lease.phase = Phase.ENDING
        self._effects.endings.append(
            end_of_attempt(
                lease,
                code,
                message,
                now,
                retryable=retryable,
                is_miners=is_miners,
                at_once=at_once,
            )
        )

    def lose(self, lease: Lease, code: str, message: str, now: Now, *, has_vanished: bool) -> None:
        """Proposes the end of a lease whose miner is away; its process may have vanished."""
        is_counted = has_vanished and not lease.job.cancel_requested
        verdict = self._vanishing.note(lease) if is_counted else None
        lease.phase = Phase.ENDING
        self._effects.endings.append(
            end_of_attempt(lease, code, message, now, retryable=True, verdict=verdict)
        )

    def give_back(self, lease: Lease, now: Now) -> None:
        """Proposes the end of a lease that its miner never began on, unless it ends already."""
        if lease.is_held:
            lease.phase = Phase.ENDING
            self._effects.endings.append(end_of_undelivered(lease, now))

    def withdraw(self, lease: Lease, now: Now) -> None:
        """Takes a lease from a session that was not told of it, and gives it back."""
        self.book.move(lease, None)
        self.give_back(lease, now)

    def detach(self, lease: Lease) -> Session | None:
        """Forgets a lease that is over; returns the session that held it."""
        session = self.book.remove(lease)
        if lease.expires_at is not None:
            self._expiries.cancel(lease.lease_id)
        if session is not None:
            self._matcher.update(session)
        return session

    def acknowledge(self, session: Session | None, lease: Lease) -> None:
        """Tells the miner that what it reported of a lease that is over is stored."""
        if not lease.is_reported:
            return
        self.book.remember(lease)
        if session is not None and session.closed is None:
            session.outbox.acks[lease.lease_id] = lease.next_sequence
            self._effects.touched[session] = None

    def tell(self, lease: Lease, reason: CancelReason) -> None:
        """Tells the miner of a lease to stop, if it is there."""
        if lease.session is not None:
            lease.session.outbox.cancellations[lease.lease_id] = reason
            self._effects.touched[lease.session] = None

    def expire_after(self, lease: Lease, seconds: float, now: Now) -> None:
        """Ends a lease after so long, unless its miner is heard before."""
        self.expire_at(lease, now.mono + seconds)

    def expire_at(self, lease: Lease, when: float) -> None:
        """Ends a lease at a time (monotonic), unless its miner is heard before."""
        lease.expires_at = when
        self._expiries.set(lease.lease_id, when)

    def renew(self, lease: Lease) -> None:
        """Lets a lease last as long as its session is heard."""
        if lease.expires_at is not None:
            lease.expires_at = None
            self._expiries.cancel(lease.lease_id)

    def _check_expiry(self, lease_id: str, now: Now) -> None:
        lease = self.book.by_id[lease_id]
        if lease.expires_at is None or lease.phase is Phase.ENDING:
            return
        if lease.expires_at > now.mono or lease.phase is Phase.BEGINNING:
            # A claim was extended, or its beginning is still being stored.
            self._expiries.set(lease_id, max(lease.expires_at, now.mono + 1.0))
            return
        self.tell(lease, CancelReason.LEASE_LOST)
        message = f"nothing was heard from {lease.miner_id} while the lease lasted"
        self.lose(lease, LEASE_EXPIRED, message, now, has_vanished=lease.session is None)
