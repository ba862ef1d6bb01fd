"""The Work streams as the core sees them: who is there, with what window, and what it reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from aitbc_server.dispatch.census import Census
from aitbc_server.dispatch.effects import Effects
from aitbc_server.dispatch.flapping import Flapping
from aitbc_server.dispatch.leasing import Leasing
from aitbc_server.dispatch.live import CancelReason, CloseReason, Lease, Now, Outbox, Phase, Session
from aitbc_server.dispatch.matcher import Matcher
from aitbc_server.dispatch.pace import Paces
from aitbc_server.dispatch.pauses import Pauses, ToldPause
from aitbc_server.dispatch.refusals import Refusal
from aitbc_server.dispatch.timers import Timers
from aitbc_server.domain.errors import SessionSuperseded
from aitbc_server.domain.jobs import Completion, Fault

# How long a job with which a process vanished is the only such one of its miner at most: what ends
# a process does so soon, and engines that answer all at once show no progress before.
_PROBATION_S = 2.0
# Times the tokens that were asked for, after which more of them are no progress: templates and
# engines count a little differently, but no engine that works goes on for so long.
_MOST_ASKED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a miner may make no progress on a job, or say nothing at all."""

    # So many times what its own pace predicts for the job,
    factor: float = 10.0
    # and never less than so many seconds.
    least_s: float = 60.0
    # One that was heard so many seconds ago, some of its heartbeats, is there.
    silence_s: float = 12.5


class Sessions:
    """The open sessions, at most one a miner."""

    def __init__(
        self,
        effects: Effects,
        leasing: Leasing,
        matcher: Matcher,
        timers: Timers,
        patience: Patience,
        by_miner: dict[str, Session],
    ) -> None:
        self.by_miner = by_miner
        # How many ended, by why they did.
        self.closed: Counter[CloseReason] = Counter()
        self.paces = Paces()
        # The process of each miner that a newer one took over from last.
        self._superseded: dict[str, str] = {}
        self.census = Census()
        self._patience = patience
        self._effects = effects
        self._leasing = leasing
        self._matcher = matcher
        # By miner.
        self.pauses = Pauses(leasing, matcher, timers)
        self._silences = timers.calling(self._check_silence)
        self._looks = timers.calling(self._check_progress)
        self._probations = timers.calling(self._end_probation)
        self._holds = timers.calling(self._end_hold)
        self._flapping = Flapping()

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
        taken_over: frozenset[str] = frozenset()
        if older is not None:
            if now.mono - older.heard_at <= self._patience.silence_s:
                taken_over = frozenset(older.leases)
            self.close(older, CloseReason.SUPERSEDED, now)
            if older.process_id != session.process_id:
                self._superseded[session.miner_id] = older.process_id
        self.by_miner[session.miner_id] = session
        self.census.take(session)
        book = self._leasing.book
        lost, kept = [], []
        for lease_id in dict.fromkeys(held):
            lease = book.by_id.get(lease_id)
            if lease is None or not _goes_on(lease, session):
                lost.append(lease_id)
                continue
            book.move(lease, session)
            lease.told_at = lease.progress_at = now.mono
            lease.holder = session.holder
            lease.is_measured = False
            if not lease.job.cancel_requested:
                self._leasing.renew(lease)
            elif lease.is_held:
                self._leasing.tell(lease, CancelReason.REQUESTED)
            kept.append(lease)
        self._give_back_unnamed(session, taken_over, now)
        held_until = self._flapping.held_until(session.miner_id)
        if held_until > now.mono:
            session.is_held_back = True
            self._holds.set(session.miner_id, held_until)
        self._matcher.update(session)
        self._silences.set(session.miner_id, now.mono + self._leasing.lease_s)
        self._looks.set(session.miner_id, now.mono + self._patience.least_s)
        self._time_probation(session, now)
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
            self.census.take(session)
            del self.by_miner[session.miner_id]
            self._silences.cancel(session.miner_id)
            self._looks.cancel(session.miner_id)
            self._probations.cancel(session.miner_id)
            self._holds.cancel(session.miner_id)
            self._flapping.ended(session, reason, now)
        self.pauses.forget(session)
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

    def forget(self, miner_id: str) -> None:
        """Lets go of what is remembered of a miner that is no longer registered."""
        self._superseded.pop(miner_id, None)
        self._flapping.forgive(miner_id)

    def set_window(
        self, session: Session, window: int, now: Now, told: Iterable[ToldPause] = ()
    ) -> None:
        """Takes the miner's new window, and the models that it cannot serve at present."""
        self.pauses.tell(session, told, now)
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
        if session.closed is None:
            self.census.take(session)

    def told(self, lease: Lease, spec_bytes: int, now: Now) -> None:
        """Notes that a lease is on its way to its miner, which is expected to make progress."""
        lease.told_at = lease.progress_at = now.mono
        lease.spec_bytes = spec_bytes
        if lease.session is not None:
            lease.holder = lease.session.holder
            if lease.session.probation is lease:
                self._time_probation(lease.session, now)

    def progress(
        self,
        session: Session,
        lease_id: str,
        sequence: int,
        tokens: int,
        *,
        is_empty: bool = False,
        is_thought: bool = False,
    ) -> Lease | None:
        """Notes more of an answer; returns the lease that it is news of, or None.

        What is empty is no progress, nor is what comes when far more came than was asked for.
        `is_thought`: it is reasoning, which some servers do not count as what was asked for.
        """
        lease = self.lease_of(session, lease_id)
        if lease is None or sequence < lease.next_sequence:
            return None
        lease.next_sequence = sequence + 1
        asked = lease.job.max_tokens
        said = lease.tokens - lease.thought_tokens
        if is_empty or (asked is not None and said > _MOST_ASKED * asked):
            return lease
        lease.tokens += tokens
        if is_thought:
            lease.thought_tokens += tokens
        lease.progress_at = session.heard_at
        if lease.first_at is None:
            lease.first_at, lease.first_tokens = session.heard_at, lease.tokens
        if session.probation is lease:
            self._pass_probation(session)
        if session.pauses:
            self._try(session, lease.job.model)
        self._trust(session)
        return lease

    def _try(self, session: Session, model: str) -> None:
        """Ends the trial of a model of which a job makes progress."""
        if session.is_on_trial(model):
            self.pauses.clear(session, model)

    def deliver(self, session: Session, sequence: int, completion: Completion) -> None:
        """Takes a result: proposes the completion if the session holds the lease."""
        lease = self.lease_of(session, completion.lease_id)
        if lease is not None:
            lease.next_sequence, lease.is_reported = sequence + 1, True
            tokens = completion.completion_tokens or lease.tokens
            if not lease.job.failed_miners:
                # A later attempt may go on from an earlier one's text.
                self.paces.add(lease, tokens, len(session.leases), session.heard_at)
            self._trust(session)
            if session.pauses:
                self.pauses.clear(session, lease.job.model)
            self._leasing.complete(lease, completion)

    def refuse(self, session: Session, lease_id: str, refusal: Refusal, now: Now) -> None:
        """Ends an attempt whose answer cannot be taken; another miner may give a better one."""
        lease = self.lease_of(session, lease_id)
        if lease is not None:
            self._leasing.tell(lease, refusal.reason)
            message = f"{session.miner_id} {refusal.problem}"
            self._leasing.end(lease, refusal.code, message, now, retryable=True)

    def cannot_take(self, session: Session, lease: Lease, now: Now) -> None:
        """Ends a lease that its miner was not told of: the job is larger than it takes."""
        if lease.is_held:
            most = session.max_message_bytes
            message = f"{session.miner_id} takes messages of {most} bytes, and the job is larger"
            self._leasing.end(lease, "JOB_TOO_LARGE", message, now, retryable=True)

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
        fault: Fault = Fault.UNSPECIFIED,
        retry_after_s: float = 0.0,
    ) -> None:
        """Takes a failure. `retry_after_s`: for how long the miner is to be spared."""
        lease = self.lease_of(session, lease_id)
        if lease is not None:
            lease.next_sequence, lease.is_reported = sequence + 1, True
            self._note_work(session)
            pause = ToldPause(lease.job.model, code, message, retry_after_s)
            is_miners = fault is Fault.MINER
            if is_miners:
                self.pauses.blame(session, pause, now)
            elif fault is Fault.PASSING:
                self.pauses.spare(session, pause, now)
            is_doubted = not (retryable or is_miners) and self._is_doubted(lease)
            self._leasing.end(
                lease,
                code,
                message,
                now,
                retryable=retryable or is_miners or is_doubted,
                is_miners=is_miners,
                at_once=is_doubted,
            )

    def _is_doubted(self, lease: Lease) -> bool:
        """Whether another miner is to be asked before a job is given up at one miner's word."""
        job = lease.job
        job.final_words |= {lease.miner_id}
        return len(job.final_words) < 2 and self._matcher.has_other(job, lease.miner_id)

    def lease_of(self, session: Session, lease_id: str) -> Lease | None:
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

    def _give_back_unnamed(self, session: Session, taken_over: frozenset[str], now: Now) -> None:
        message = "the miner came back without the job"
        for lease in self._leasing.book.away(session.miner_id):
            if lease.is_held:
                # The same process has not vanished: what it does not name never reached it. Nor has
                # one that was there until it had to give way.
                is_other = not session.process_id or lease.holder != session.holder
                has_vanished = is_other and lease.lease_id not in taken_over
                self._leasing.lose(
                    lease, "MINER_RESTARTED", message, now, has_vanished=has_vanished
                )

    def _note_work(self, session: Session) -> None:
        session.has_worked = True
        self._flapping.forgive(session.miner_id)

    def _trust(self, session: Session) -> None:
        if not session.has_worked:
            self._note_work(session)
        if session.is_suspect:
            session.is_suspect = False
            self._matcher.update(session)

    def _end_hold(self, miner_id: str, now: Now) -> None:
        session = self.by_miner[miner_id]
        session.is_held_back = False
        self._matcher.update(session)

    def _time_probation(self, session: Session, now: Now) -> None:
        if session.probation is not None:
            self._probations.set(session.miner_id, now.mono + _PROBATION_S)

    def _end_probation(self, miner_id: str, now: Now) -> None:
        session = self.by_miner[miner_id]
        lease = session.probation
        # Another one may have taken its place, and not been told yet.
        if lease and lease.told_at is not None and lease.told_at + _PROBATION_S <= now.mono:
            self._pass_probation(session)

    def _pass_probation(self, session: Session) -> None:
        session.probation = None
        self._matcher.update(session)

    def _check_progress(self, miner_id: str, now: Now) -> None:
        session = self.by_miner[miner_id]
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
        self._looks.set(miner_id, now.mono + self._patience.least_s / 4)

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

    def _check_silence(self, miner_id: str, now: Now) -> None:
        session = self.by_miner[miner_id]
        due = session.heard_at + self._leasing.lease_s
        if due > now.mono:
            self._silences.set(miner_id, due)
        else:
            self.close(session, CloseReason.SILENT, now)


def _goes_on(lease: Lease, session: Session) -> bool:
    """Says whether a lease that a miner presents goes on in its new session."""
    # One that ends by the miner's own word is kept until that is stored, and acknowledged then.
    is_over = lease.phase is Phase.ENDING and not lease.is_reported
    return lease.miner_id == session.miner_id and lease.claim_s is None and not is_over
