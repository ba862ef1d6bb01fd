"""Why a job waits: each reason, the miners, and the cost of asking in a long queue."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.live import CloseReason, LiveJob, Session
from aitbc_server.dispatch.registry import Registry
from aitbc_server.dispatch.waiting import MinerState, Wait, WaitReason, explain, names_of
from aitbc_server.domain.jobs import JobStatus
from aitbc_server.domain.miners import MinerRecord
from tests.factories import completion, instant, live_job, session


class Network:
    """A core whose store stores everything, and the miners around it."""

    def __init__(self) -> None:
        self.core = Core(lease_s=15)
        self.registry = Registry((), self.core.sessions)
        self.seconds = 0.0

    def submit(self, **fields: object) -> LiveJob:
        job = live_job(**fields)
        self.core.submit(job, instant(self.seconds))
        return job

    def register(self, miner_id: str, model: str = "m") -> None:
        record = MinerRecord(
            miner_id=miner_id,
            models=(model,),
            gpu_info=None,
            public_key=b"",
            agent_version="",
            registered_us=1,
        )
        self.registry.put(record)

    def connect(self, miner_id: str, window: int = 1, model: str = "m") -> Session:
        self.register(miner_id, model)
        now = instant(self.seconds)
        opened = session(miner_id, window=window, models=(model,), heard_at=now.mono)
        self.core.sessions.open(opened, [], now)
        self.turn()
        return opened

    def turn(self) -> None:
        now = instant(self.seconds)
        self.core.tick(now)
        self.core.match(now)
        effects = self.core.effects.take()
        self.core.begun(effects.begins, frozenset(b.job_id for b in effects.begins), now)
        self.core.completed(effects.completions, frozenset(c.job_id for c in effects.completions))
        self.core.ended(effects.endings, frozenset(e.job_id for e in effects.endings), now)

    def fail(self, opened: Session, job: LiveJob) -> None:
        assert job.lease is not None
        self.core.sessions.fail(
            opened,
            job.lease.lease_id,
            0,
            code="X",
            message="x",
            retryable=True,
            now=instant(self.seconds),
        )

    def wait_of(self, job: LiveJob) -> Wait:
        return explain(self.core, self.registry, job, instant(self.seconds))


def test_a_model_that_nobody_serves() -> None:
    network = Network()
    network.connect("other", model="another")
    network.register("gone")
    drained = network.connect("drained")
    network.registry.drain("drained", 1)
    network.core.sessions.drain(drained, True, instant())
    network.connect("closed", window=0)
    wait = network.wait_of(network.submit())
    assert (wait.status, wait.reason) == (JobStatus.PENDING, WaitReason.NO_MINER)
    assert wait.explanation == "no miner that takes work serves the model m"
    assert (wait.able, wait.expected_us) == (0, None)
    assert names_of(wait, able=False) == [
        ("other", MinerState.MODEL_NOT_SERVED),
        ("drained", MinerState.DRAINING),
        ("closed", MinerState.DRAINING),
        ("gone", MinerState.OFFLINE),
    ]


def test_jobs_ahead_and_the_next_one() -> None:
    network = Network()
    network.connect("busy")
    running, first, second = network.submit(), network.submit(), network.submit()
    network.turn()
    assert network.wait_of(running).status is JobStatus.RUNNING
    assert network.wait_of(running).explanation == "the job runs on the miner busy"
    wait = network.wait_of(first)
    assert (wait.reason, wait.jobs_ahead) == (WaitReason.MINERS_BUSY, 0)
    assert names_of(wait, able=True) == [("busy", MinerState.BUSY)]
    wait = network.wait_of(second)
    assert (wait.reason, wait.jobs_ahead) == (WaitReason.JOBS_AHEAD, 1)
    assert "number 2" in wait.explanation
    # Nothing was measured yet.
    assert wait.expected_us is None


def test_the_expected_start_follows_from_how_long_jobs_took() -> None:
    network = Network()
    miner = network.connect("miner", window=2)
    for _ in range(2):
        job = network.submit()
        network.turn()
        assert job.lease is not None
        network.core.sessions.told(job.lease, 100, instant(network.seconds))
        network.seconds += 10
        miner.heard_at = instant(network.seconds).mono
        network.core.sessions.deliver(miner, 0, completion(job.job_id))
        network.turn()
    jobs = [network.submit() for _ in range(6)]
    network.turn()
    now_us = instant(network.seconds).wall_us
    waits = [network.wait_of(job).expected_us for job in jobs[2:]]
    assert [(us or 0) - now_us for us in waits] == [5_000_000, 10_000_000, 15_000_000, 20_000_000]


def test_a_retry_waits_for_its_time_and_then_for_another_miner() -> None:
    network = Network()
    bad = network.connect("bad")
    job = network.submit()
    network.turn()
    network.connect("good")
    blocker = network.submit()
    network.turn()
    assert blocker.lease is not None
    network.fail(bad, job)
    network.turn()
    wait = network.wait_of(job)
    assert wait.reason is WaitReason.RETRY_DELAY
    assert wait.not_before_us == instant().wall_us + 250_000
    network.seconds = 1
    network.turn()
    wait = network.wait_of(job)
    assert (wait.reason, wait.jobs_ahead) == (WaitReason.OTHER_MINER, None)
    assert names_of(wait, able=True) == [
        ("good", MinerState.BUSY),
        ("bad", MinerState.FAILED_BEFORE),
    ]


@pytest.mark.parametrize("by_claim", [True, False])
def test_a_lease_that_is_being_stored(by_claim: bool) -> None:
    network = Network()
    job = network.submit()
    if by_claim:
        network.core.claim(job, "poller", ["m"], instant())
    else:
        network.core.cancel(job, instant())
    assert network.wait_of(job).reason is WaitReason.BEING_STORED


def test_a_coordinator_that_drains() -> None:
    network = Network()
    network.connect("miner")
    network.core.is_draining = True
    wait = network.wait_of(network.submit())
    assert (wait.reason, wait.expected_us) == (WaitReason.COORDINATOR_DRAINING, None)


def test_a_miner_that_polls_can_take_a_job_while_it_polls() -> None:
    network = Network()
    network.register("poller")
    network.registry.seen("poller", instant())
    job = network.submit()
    assert names_of(network.wait_of(job), able=True) == [("poller", MinerState.READY)]
    network.seconds = 61
    assert network.wait_of(job).reason is WaitReason.NO_MINER


def test_a_miner_that_leaves_is_offline_and_one_that_registers_stays_drained() -> None:
    network = Network()
    miner = network.connect("miner")
    network.registry.drain("miner", 5)
    network.register("miner")
    assert network.registry.get("miner").drained_us == 5
    network.registry.put(replace(network.registry.get("miner"), drained_us=None))
    assert network.registry.is_drained("miner")
    network.core.sessions.close(miner, CloseReason.GONE, instant())
    wait = network.wait_of(network.submit())
    assert names_of(wait, able=False) == [("miner", MinerState.OFFLINE)]


def test_asking_costs_little_with_a_hundred_thousand_jobs_and_a_thousand_miners() -> None:
    network = Network()
    for number in range(1000):
        network.register(f"miner-{number}")
    flood = [network.submit(owner="flood") for _ in range(100_000)]
    single = network.submit(owner="single")
    began = time.perf_counter()
    waits = [network.wait_of(job) for job in (single, flood[-1])]
    took_s = time.perf_counter() - began
    assert [wait.jobs_ahead for wait in waits] == [1, 100_000]
    assert len(names_of(waits[0], able=False)) == 100
    # Some 2 ms; walking the whole queue and building a list of it would be far above.
    assert took_s < 0.1
