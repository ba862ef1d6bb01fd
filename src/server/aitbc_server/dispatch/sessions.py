"""The Work streams as the core sees them: who is there, with what window, and what it reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from aitbc_server.dispatch.effects import Effects
from aitbc_server.dispatch.leasing import Leasing
from aitbc_server.dispatch.live import CancelReason, CloseReason, Lease, Now, Outbox, Phase, Session
from aitbc_server.dispatch.matcher import Matcher
from aitbc_server.dispatch.pace import Paces
from aitbc_server.dispatch.timers import Timers
from aitbc_server.domain.errors import MinerSignatureRefused, SessionSuperseded
from aitbc_server.domain.jobs import Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a miner may make no progress on a job."""

    # So many times what its own pace predicts for the job,
    factor: float = 10.0
    # and never less than so many seconds.
    least_s: float = 60.0


class Sessions:
    """The open sessions, at most one a miner."""

    def __init__(
        self,
        effects: Effects,
        leasing: Leasing,
        matcher: Matcher,
        timers: Timers,
        patience: Patience,
    ) -> None:
        self.by_miner: dict[str, Session] = {}
        # How many ended, by why they did.
        self.closed: Counter[CloseReason] = Counter()
        self.paces = Paces()
        # The process of each miner that a newer one took over from last.
        self._superseded: dict[str, str] = {}
        self._patience = patience
        self._effects = effects
        self._leasing = leasing
        self._matcher = matcher
        self._timers = timers

    @property
    def hold_leases(self) -> bool:
        """Whether any session has work under way."""
        return any(session.leases for session in self.by_miner.values())

    def open(
        self, session: Session, held: Iterable[str], now: Now
    ) -> tuple[list[str], list[Lease]]:
        """Begins a session; returns which held leases are lost, and which go on in it.

        Leases of the miner that it does not name are given back: they never reached it, or it was
        started anew. Raises SessionSuperseded for a process that a newer one has taken over from.
        """
        if session.process_id and self._superseded.get(session.miner_id) == session.process_id:
            raise SessionSuperseded
        older = self.by_miner.get(session.miner_id)
        if older is not None:
            self.close(older, CloseReason.SUPERSEDED, now)
            if older.process_id != session.process_id:
                self._superseded[session.miner_id] = older.process_id
        self.by_miner[session.miner_id] = session
        book = self._leasing.book
        lost, kept = [], []
        for lease_id in dict.fromkeys(held):
            lease = book.by_id.get(lease_id)
            if lease is None or not _goes_on(lease, session):
                lost.append(lease_id)
                continue
            book.move(lease, session)
            lease.told_at = lease.progress_at = now.mono
            lease.is_measured = False
            if not lease.job.cancel_requested:
                lease.expires_at = None
            elif lease.is_held:
                self._leasing.tell(lease, CancelReason.REQUESTED)
            kept.append(lease)
        self._give_back_unnamed(session, now)
        self._matcher.update(session)
        self._timers.at(now.mono + self._leasing.lease_s, self._check_silence, session)
        self._timers.at(now.mono + self._patience.least_s, self._check_progress, session)
        return lost, kept

    def close(self, session: Session, reason: CloseReason, now: Now) -> None:
        """Ends a session; its leases wait for the miner until they expire.

        What the miner was never told, or what reached it after it had left, is given back at once.
        """
        if session.closed is not None:
            return
        session.closed = reason
        self.closed[reason] += 1
        self._effects.touched[session] = None
        self._matcher.update(session)
        if self.by_miner.get(session.miner_id) is session:
            del self.by_miner[session.miner_id]
        leases = list(session.leases.values())
        for lease in leases:
            self._leasing.book.move(lease, None)
            if lease.expires_at is None:
                silent_at = session.heard_at + self._leasing.lease_s
                self._leasing.expire_at(lease, max(silent_at, now.mono))
        untold = leases if reason is CloseReason.LEFT else session.outbox.assignments
        for lease in untold:
            self._leasing.give_back(lease, now)
        session.outbox = Outbox()

    def set_window(self, session: Session, window: int, now: Now) -> None:
        """Takes the miner's new window."""
        session.window = window
        self._fit(session, now)

    def drain(self, session: Session, is_drained: bool, now: Now) -> None:
        """Gives the miner nothing new, or again."""
        session.is_drained = is_drained
        self._fit(session, now)

    def _fit(self, session: Session, now: Now) -> None:
        """Gives back what the miner was not told of and may not hold any more."""
        while session.room < 0 and session.outbox.assignments:
            self._leasing.withdraw(session.outbox.assignments.pop(), now)
        self._matcher.update(session)

    def told(self, lease: Lease, spec_bytes: int, now: Now) -> None:
        """Notes that a lease is on its way to its miner, which is expected to make progress."""
        lease.told_at = lease.progress_at = now.mono
        lease.spec_bytes = spec_bytes

    def progress(self, session: Session, lease_id: str, sequence: int, tokens: int) -> Lease | None:
        """Notes more of an answer; returns the lease that it is news of, or None."""
        lease = self._lease_of(session, lease_id)
        if lease is None or sequence < lease.next_sequence:
            return None
        lease.next_sequence = sequence + 1
        lease.tokens += tokens
        lease.progress_at = session.heard_at
        if lease.first_at is None:
            lease.first_at, lease.first_tokens = session.heard_at, lease.tokens
        self._trust(session)
        return lease

    def deliver(self, session: Session, sequence: int, completion: Completion) -> None:
        """Takes a result: proposes the completion if the session holds the lease."""
        lease = self._lease_of(session, completion.lease_id)
        if lease is not None:
            lease.next_sequence, lease.is_reported = sequence + 1, True
            tokens = completion.completion_tokens or lease.tokens
            if not lease.job.failed_miners:
                # A later attempt may go on from an earlier one's text.
                self.paces.add(lease, tokens, len(session.leases), session.heard_at)
            self._trust(session)
            self._leasing.complete(lease, completion)

    def refuse(self, session: Session, lease_id: str, now: Now) -> None:
        """Ends an attempt whose result is not signed as its miner's key demands."""
        lease = self._lease_of(session, lease_id)
        if lease is not None:
            self._leasing.tell(lease, CancelReason.SIGNATURE_REFUSED)
            message = f"{session.miner_id} did not sign its result as its key demands"
            self._leasing.end(lease, MinerSignatureRefused.reason, message, now, retryable=True)

    def fail(
        self,
        session: Session,
        lease_id: str,
        sequence: int,
        *,
        code: str,
        message: str,
        retryable: bool,
        now: Now,
    ) -> None:
        """Takes a failure."""
        lease = self._lease_of(session, lease_id)
        if lease is not None:
            lease.next_sequence, lease.is_reported = sequence + 1, True
            self._leasing.end(lease, code, message, now, retryable=retryable)

    def _lease_of(self, session: Session, lease_id: str) -> Lease | None:
        """Returns the lease if its session may change it now; else tells where it stands."""
        book = self._leasing.book
        lease = book.by_id.get(lease_id)
        if lease is not None and lease.session is session:
            # Ending: the answer follows when its end is stored.
            return lease if lease.is_held else None
        if session.closed is None:
            ended_at = book.ended_at(lease_id)
            if ended_at is not None:
                session.outbox.acks[lease_id] = ended_at
            else:
                session.outbox.cancellations[lease_id] = CancelReason.LEASE_LOST
            self._effects.touched[session] = None
        return None

    def _give_back_unnamed(self, session: Session, now: Now) -> None:
        message = "the miner came back without the job"
        for lease in self._leasing.book.away(session.miner_id):
            if lease.is_held:
                self._leasing.end(lease, "MINER_RESTARTED", message, now, retryable=True)

    def _trust(self, session: Session) -> None:
        if session.is_suspect:
            session.is_suspect = False
            self._matcher.update(session)

    def _check_progress(self, session: Session, now: Now) -> None:
        if session.closed is not None:
            return
        held = len(session.leases)
        for lease in list(session.leases.values()):
            if lease.told_at is None or not lease.is_held or lease.job.cancel_requested:
                continue
            silent_s = now.mono - lease.progress_at
            if silent_s < self._patience.least_s:
                continue
            predicted_s = self.paces.of(lease).predicted_s(lease, held)
            if silent_s > self._patience.factor * predicted_s:
                self._lose(session, lease, silent_s, predicted_s, now)
        self._timers.at(now.mono + self._patience.least_s / 4, self._check_progress, session)

    def _lose(
        self, session: Session, lease: Lease, silent_s: float, predicted_s: float, now: Now
    ) -> None:
        self._leasing.tell(lease, CancelReason.NO_PROGRESS)
        message = (
            f"{lease.miner_id} made no progress for {silent_s:.0f} s, "
            f"where its own pace predicts {predicted_s:.1f} s at most"
        )
        self._leasing.end(lease, "NO_PROGRESS", message, now, retryable=True)
        session.is_suspect = True
        self._fit(session, now)

    def _check_silence(self, session: Session, now: Now) -> None:
        if session.closed is not None:
            return
        due = session.heard_at + self._leasing.lease_s
        if due > now.mono:
            self._timers.at(due, self._check_silence, session)
        else:
            self.close(session, CloseReason.SILENT, now)


def _goes_on(lease: Lease, session: Session) -> bool:
    """Says whether a lease that a miner presents goes on in its new session."""
    # One that ends by the miner's own word is kept until that is stored, and acknowledged then.
    is_over = lease.phase is Phase.ENDING and not lease.is_reported
    return lease.miner_id == session.miner_id and lease.claim_s is None and not is_over
