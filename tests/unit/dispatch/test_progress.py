"""A miner that makes no progress loses its job, by its own pace and the size of the job."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.live import CancelReason, Lease, Now, Session
from aitbc_server.dispatch.sessions import Patience
from aitbc_server.domain.jobs import JobStatus
from aitbc_server.domain.tasks import ModelInfo
from tests.factories import completion, instant, live_job, session

FACTOR, LEAST_S = 10.0, 60.0


@dataclass
class Miner:
    """One miner that heartbeats for ever, on a core whose store stores everything."""

    core: Core = field(
        default_factory=lambda: Core(lease_s=15, patience=Patience(factor=FACTOR, least_s=LEAST_S))
    )
    seconds: float = 0.0
    infos: dict[str, ModelInfo] = field(default_factory=dict)
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.session = session(window=100, heard_at=self.now.mono, infos=self.infos)
        self.core.sessions.open(self.session, [], self.now)

    @property
    def now(self) -> Now:
        return instant(self.seconds)

    def start(self, *, tokens: int | None = 100, spec_bytes: int = 400) -> Lease:
        """Gives it a job."""
        job = live_job(max_tokens=tokens)
        self.core.submit(job, self.now)
        self.turn()
        [lease] = [one for one in self.session.outbox.assignments if one.job is job]
        self.session.outbox.assignments.clear()
        self.core.sessions.told(lease, spec_bytes, self.now)
        return lease

    def turn(self) -> None:
        """Stores what is proposed."""
        self.core.tick(self.now)
        self.core.match(self.now)
        effects = self.core.effects.take()
        self.core.begun(effects.begins, frozenset(b.job_id for b in effects.begins), self.now)
        self.core.completed(effects.completions, frozenset(c.job_id for c in effects.completions))
        self.core.ended(effects.endings, frozenset(e.job_id for e in effects.endings), self.now)
        self.ended = effects.endings

    def wait(self, seconds: float) -> None:
        """Lets time pass, with a heartbeat and a look at the timers each second."""
        until = self.seconds + seconds
        while self.seconds < until:
            self.seconds = min(until, self.seconds + 1.0)
            self.session.heard_at = self.now.mono
            self.turn()
            if self.ended:
                return

    def say(self, lease: Lease, tokens: int, *, is_thought: bool = False) -> None:
        """Streams so many tokens."""
        self.session.heard_at = self.now.mono
        self.core.sessions.progress(
            self.session, lease.lease_id, lease.next_sequence, tokens, is_thought=is_thought
        )

    def finish(self, lease: Lease, tokens: int) -> None:
        """Delivers a result."""
        self.session.heard_at = self.now.mono
        done = completion(lease.job.job_id, completion_tokens=tokens)
        self.core.sessions.deliver(self.session, lease.next_sequence, done)
        self.turn()

    def work(self, count: int, *, seconds: float, tokens: int = 100, streams: bool = False) -> None:
        """Does jobs one after the other."""
        for _ in range(count):
            lease = self.start(tokens=tokens)
            if streams:
                self.seconds += seconds / tokens
                self.say(lease, 1)
                self.seconds += seconds * (tokens - 1) / tokens
            else:
                self.seconds += seconds
            self.finish(lease, tokens)

    def holds(self, lease: Lease) -> bool:
        return lease.is_held and lease.lease_id in self.session.leases


@pytest.mark.parametrize("streams", [True, False])
def test_a_job_without_progress_is_lost_and_its_miner_told(streams: bool) -> None:
    miner = Miner()
    miner.work(5, seconds=10, streams=streams)
    stuck = miner.start()
    miner.wait(95)
    assert miner.holds(stuck)
    miner.wait(60)
    assert not miner.holds(stuck)
    [ending] = miner.ended
    assert (ending.error_code, ending.status) == ("NO_PROGRESS", JobStatus.PENDING)
    assert "miner-1 made no progress for" in ending.error_message
    assert miner.session.outbox.cancellations == {stuck.lease_id: CancelReason.NO_PROGRESS}
    assert miner.session.closed is None


def test_a_fast_miner_has_the_least_patience_anyway() -> None:
    miner = Miner()
    miner.work(5, seconds=0.1)
    stuck = miner.start()
    miner.wait(LEAST_S - 1)
    assert miner.holds(stuck)
    miner.wait(LEAST_S)
    assert not miner.holds(stuck)


def test_a_job_of_a_larger_size_has_more_time() -> None:
    miner = Miner()
    miner.work(5, seconds=10)
    small, large = miner.start(tokens=100), miner.start(tokens=5_000)
    miner.wait(600)
    assert (miner.holds(small), miner.holds(large)) == (False, True)


def test_a_slow_miner_is_slow_and_not_stuck() -> None:
    miner = Miner()
    miner.work(3, seconds=1_000)
    slow = miner.start()
    miner.wait(3_600)
    assert miner.holds(slow)


def test_a_miner_whose_pace_is_unknown_has_the_time_of_a_slow_one() -> None:
    miner = Miner()
    first = miner.start(tokens=1_000)
    miner.wait(3_600)
    assert miner.holds(first)
    miner.wait(3_600)
    assert not miner.holds(first)


def test_progress_however_slow_keeps_a_job() -> None:
    miner = Miner()
    miner.work(5, seconds=1, streams=True)
    slow = miner.start(tokens=1_000)
    for _ in range(50):
        miner.wait(LEAST_S - 1)
        miner.say(slow, 1)
    assert miner.holds(slow)
    miner.wait(2 * LEAST_S)
    assert not miner.holds(slow)


def test_a_long_prompt_may_be_read_for_long() -> None:
    miner = Miner()
    # A CPU that generates 10 tokens a second, and has only seen prompts that were cached.
    miner.work(40, seconds=10, tokens=100, streams=True)
    long = miner.start(tokens=100, spec_bytes=400_000)
    miner.wait(1_000)
    assert miner.holds(long)


def test_an_answer_that_comes_at_its_end_may_come_late_on_a_busy_miner() -> None:
    miner = Miner()
    # 10 tokens a second, one job after the other.
    miner.work(5, seconds=10)
    many = [miner.start() for _ in range(50)]
    miner.wait(500)
    assert all(miner.holds(lease) for lease in many)


def test_a_job_that_names_no_size_is_taken_to_be_long() -> None:
    miner = Miner()
    miner.work(5, seconds=10)
    unbounded = miner.start(tokens=None)
    miner.wait(600)
    assert miner.holds(unbounded)
    miner.wait(3_000)
    assert not miner.holds(unbounded)


@pytest.mark.parametrize(("streams", "holds"), [(False, True), (True, False)])
def test_an_answer_may_take_the_rest_of_the_context_where_it_comes_at_its_end(
    *, streams: bool, holds: bool
) -> None:
    miner = Miner(infos={"m": ModelInfo(max_model_len=40_000)})
    # 10 tokens a second: 4,000 s for all of the context.
    miner.work(5, seconds=10, streams=streams)
    unbounded = miner.start(tokens=None)
    miner.wait(10_000)
    assert miner.holds(unbounded) is holds


def test_a_task_that_generates_nothing_is_not_waited_for_as_for_an_answer() -> None:
    miner = Miner()
    miner.work(5, seconds=10)
    stuck = miner.start(tokens=0)
    miner.wait(2 * LEAST_S)
    assert not miner.holds(stuck)


def test_what_comes_back_after_a_reconnect_begins_anew() -> None:
    miner = Miner()
    miner.work(5, seconds=0.1)
    kept = miner.start()
    miner.wait(LEAST_S - 5)
    again = session(window=100, heard_at=miner.now.mono)
    miner.core.sessions.open(again, [kept.lease_id], miner.now)
    miner.session = again
    miner.wait(LEAST_S - 5)
    assert miner.holds(kept)


def test_a_miner_that_is_stuck_gets_one_job_at_a_time_until_it_shows_progress() -> None:
    miner = Miner()
    miner.work(5, seconds=0.1)
    miner.start()
    miner.wait(2 * LEAST_S)
    assert miner.session.room == 1
    probe = miner.start()
    assert miner.session.room == 0
    miner.finish(probe, 100)
    assert miner.session.room == 100


@pytest.mark.parametrize("asked", [None, 20])
def test_a_long_reasoning_after_quick_jobs_is_progress(asked: int | None) -> None:
    """Also where the server counts only the answer as what was asked for."""
    miner = Miner()
    miner.work(4, seconds=0.2)
    thinking = miner.start(tokens=asked)
    for _ in range(4 * 150):
        miner.say(thinking, 1, is_thought=True)
        miner.wait(0.25)
    assert miner.holds(thinking)


def test_empty_deltas_are_no_progress() -> None:
    miner = Miner()
    miner.work(5, seconds=1, streams=True)
    held = miner.start(tokens=1_000)
    miner.say(held, 1)
    for _ in range(20):
        miner.wait(LEAST_S / 4)
        if not miner.holds(held):
            break
        opened, sequence = miner.session, held.next_sequence
        miner.core.sessions.progress(opened, held.lease_id, sequence, 0, is_empty=True)
        assert held.next_sequence == sequence + 1, "they count as told all the same"
    assert not miner.holds(held)


def test_tokens_far_beyond_those_asked_for_are_no_progress() -> None:
    miner = Miner()
    miner.work(5, seconds=1, streams=True)
    held = miner.start(tokens=100)
    while miner.holds(held):
        miner.wait(LEAST_S / 4)
        miner.say(held, 50)
    assert 200 < held.tokens <= 250
