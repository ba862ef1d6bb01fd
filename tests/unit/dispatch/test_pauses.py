"""A miner that cannot serve a model is spared its jobs for a while, and does not eat the queue."""

from __future__ import annotations

import pytest

from aitbc_server.dispatch.live import Pause
from aitbc_server.dispatch.pauses import ToldPause
from aitbc_server.dispatch.registry import Registry
from aitbc_server.dispatch.waiting import MinerState, WaitReason, explain
from aitbc_server.domain.jobs import Fault, JobStatus
from aitbc_server.domain.miners import MinerRecord
from tests.unit.dispatch.simulation import Simulation


@pytest.fixture(name="run")
def _run() -> Simulation:
    return Simulation()


def fail(
    run: Simulation,
    miner_id: str,
    *,
    fault: Fault,
    retry_after_s: float = 0.0,
    only: str = "",
) -> int:
    """Has a miner fail all that it holds, as if it knew no pauses; returns how many jobs."""
    session = run.sessions[miner_id]
    failed = [one for one in run.held[miner_id] if only in ("", job_of(run, one))]
    session.heard_at = run.now.mono
    for lease_id in failed:
        run.core.sessions.fail(
            session,
            lease_id,
            0,
            code="ENGINE_UNUSABLE",
            message="no key",
            retryable=False,
            fault=fault,
            retry_after_s=retry_after_s,
            now=run.now,
        )
    run.turn()
    return len(failed)


def job_of(run: Simulation, lease_id: str) -> str:
    return run.core.leases.by_id[lease_id].job.job_id


def wait(run: Simulation, seconds: float) -> None:
    run.pass_time(seconds, beating=True)
    run.turn()


def pause(run: Simulation, miner_id: str) -> Pause:
    return run.sessions[miner_id].pauses["m"]


def test_jobs_of_a_miner_that_cannot_serve_them_go_to_another_and_none_fails(
    run: Simulation,
) -> None:
    run.connect("broken", window=8)
    ids = [run.submit(max_attempts=1) for _ in range(40)]
    run.turn()
    assert fail(run, "broken", fault=Fault.MINER) == 8
    run.connect("healthy", window=2)
    run.turn()
    while any(run.rows[job_id].status is not JobStatus.COMPLETED for job_id in ids):
        wait(run, 0.3)
        fail(run, "broken", fault=Fault.MINER)
        for lease_id in list(run.held["healthy"]):
            run.say("healthy", lease_id, "result")
            run.arrive(run.wire[-1])
        run.turn()
        assert run.seconds < 200
    assert not any(run.rows[job_id].error_code for job_id in ids)


def test_each_fault_makes_the_pause_longer_and_one_job_tries(run: Simulation) -> None:
    run.connect("broken", window=8)
    for _ in range(40):
        run.submit()
    run.turn()
    assert fail(run, "broken", fault=Fault.MINER) == 8
    for faults in range(1, 12):
        seconds = min(300.0, 2.0 ** (faults - 1))
        assert pause(run, "broken").until - run.now.mono == pytest.approx(seconds)
        assert run.held["broken"] == {}
        wait(run, seconds + 0.1)
        assert len(run.held["broken"]) == 1
        assert fail(run, "broken", fault=Fault.MINER) == 1


@pytest.mark.parametrize("window", [1, 2, 8])
def test_a_job_that_always_fails_does_not_hold_up_the_others(run: Simulation, window: int) -> None:
    run.connect("only", window=window)
    bad = run.submit(max_attempts=2)
    run.turn()
    fail(run, "only", fault=Fault.MINER)
    healthy = [run.submit() for _ in range(8)]
    while (end := run.rows[bad]).status is not JobStatus.FAILED:
        wait(run, 0.2)
        for lease_id in list(run.held["only"]):
            if job_of(run, lease_id) != bad:
                run.say("only", lease_id, "result")
                run.arrive(run.wire[-1])
        run.turn()
        fail(run, "only", fault=Fault.MINER, only=bad)
        if run.seconds >= 15:
            assert {run.rows[job_id].status for job_id in healthy} == {JobStatus.COMPLETED}
        assert run.seconds < 4000
    assert (end.error_code, end.counted) == ("ENGINE_UNUSABLE", 2)


def test_a_trial_takes_a_job_that_failed_there_when_no_other_waits(run: Simulation) -> None:
    run.connect("only")
    bad = run.submit()
    run.turn()
    fail(run, "only", fault=Fault.MINER)
    fresh = run.submit()
    wait(run, 1.1)
    [lease_id] = run.held["only"]
    assert job_of(run, lease_id) == fresh
    run.cancel(fresh)
    run.say("only", lease_id, "final")
    run.arrive(run.wire[-1])
    run.turn()
    [lease_id] = run.held["only"]
    assert job_of(run, lease_id) == bad


def test_each_of_two_trials_takes_what_has_not_failed_there(run: Simulation) -> None:
    for miner_id in ("a", "b"):
        run.connect(miner_id)
    bad = run.submit(priority=5)
    run.turn()
    for _ in range(2):
        for miner_id in ("a", "b"):
            if run.held[miner_id]:
                fail(run, miner_id, fault=Fault.MINER)
        wait(run, 0.4)
    assert set(run.core.jobs[bad].failed_miners) == {"a", "b"}
    fresh = run.submit()
    wait(run, 2.0)
    given = {job_of(run, lease_id) for m in ("a", "b") for lease_id in run.held[m]}
    assert given == {bad, fresh}


@pytest.mark.parametrize("sign", ["delta", "result"])
def test_the_first_sign_that_it_serves_again_ends_the_trial(run: Simulation, sign: str) -> None:
    run.connect("broken", window=8)
    for _ in range(40):
        run.submit()
    run.turn()
    fail(run, "broken", fault=Fault.MINER)
    wait(run, 1.1)
    [lease_id] = run.held["broken"]
    run.say("broken", lease_id, sign)
    run.arrive(run.wire[-1])
    run.turn()
    assert run.sessions["broken"].pauses == {}
    assert len(run.held["broken"]) == 8


def test_a_job_does_not_wait_for_ever_for_miners_that_cannot_serve_it(run: Simulation) -> None:
    run.connect("broken")
    job_id = run.submit(max_attempts=3)
    run.turn()
    attempts = 0
    while run.rows[job_id].status is not JobStatus.FAILED:
        attempts += fail(run, "broken", fault=Fault.MINER)
        wait(run, 310.0)
        assert attempts < 40
    assert run.rows[job_id].error_code == "ENGINE_UNUSABLE"
    assert attempts == 18


def test_a_busy_engine_is_spared_as_long_as_it_says_and_the_attempt_counts(
    run: Simulation,
) -> None:
    run.connect("busy")
    job_id = run.submit(max_attempts=2)
    run.turn()
    session = run.sessions["busy"]
    [lease_id] = run.held["busy"]
    run.core.sessions.fail(
        session,
        lease_id,
        0,
        code="ENGINE_BUSY",
        message="slow down",
        retryable=True,
        fault=Fault.PASSING,
        retry_after_s=40.0,
        now=run.now,
    )
    run.turn()
    wait(run, 39.0)
    assert run.held["busy"] == {}
    wait(run, 1.5)
    assert len(run.held["busy"]) == 1
    assert run.rows[job_id].max_attempts == 2


def test_a_fault_of_the_job_pauses_nothing(run: Simulation) -> None:
    run.connect("a")
    job_id = run.submit()
    run.turn()
    fail(run, "a", fault=Fault.JOB)
    assert run.rows[job_id].status is JobStatus.FAILED
    assert run.sessions["a"].pauses == {}


def test_a_pause_that_a_miner_tells_holds_until_it_tells_its_end(run: Simulation) -> None:
    run.connect("a")
    told = [ToldPause("m", "X", "why", 1e9), ToldPause("unknown", "X", "", 5.0)]
    run.core.sessions.set_window(run.sessions["a"], 4, run.now, told)
    run.submit()
    run.turn()
    assert run.held["a"] == {}
    assert list(run.sessions["a"].pauses) == ["m"]
    assert pause(run, "a").until - run.now.mono == 3600.0
    run.core.sessions.set_window(run.sessions["a"], 4, run.now, [])
    run.turn()
    assert len(run.held["a"]) == 1


def test_a_pause_is_of_one_model_and_ends_with_its_session(run: Simulation) -> None:
    run.connect("a")
    session = run.sessions["a"]
    entries = run.core.timer_entries
    run.core.sessions.set_window(session, 4, run.now, [ToldPause("m", "X", "", 50.0)])
    assert (session.room, session.room_for("m"), session.room_for("n")) == (4, 0, 4)
    run.disconnect("a")
    run.connect("a")
    run.submit()
    run.turn()
    assert len(run.held["a"]) == 1
    wait(run, 60.0)
    assert run.sessions["a"].pauses == {}
    assert run.core.timer_entries <= entries + 2


def test_what_was_not_told_yet_goes_to_another_miner_at_once(run: Simulation) -> None:
    run.connect("a")
    job_id = run.submit()
    # Proposed, and on its way to the store.
    run.propose()
    run.core.sessions.set_window(run.sessions["a"], 4, run.now, [ToldPause("m", "X", "", 50.0)])
    run.connect("b")
    run.turn()
    assert run.held["a"] == {}
    [lease_id] = run.held["b"]
    assert run.core.leases.by_id[lease_id].job.job_id == job_id


def test_the_queue_says_that_the_miners_of_a_model_cannot_serve_it(run: Simulation) -> None:
    run.connect("a")
    record = MinerRecord(
        miner_id="a",
        models=("m",),
        gpu_info=None,
        public_key=b"",
        agent_version="",
        registered_us=run.now.wall_us,
    )
    registry = Registry([record], run.core.sessions)
    run.core.sessions.set_window(run.sessions["a"], 4, run.now, [ToldPause("m", "X", "", 50.0)])
    job_id = run.submit()
    run.turn()
    told = explain(run.core, registry, run.core.jobs[job_id], run.now)
    assert told.reason is WaitReason.MINERS_PAUSED
    assert told.named == {MinerState.PAUSED: ["a"]}
    assert told.expected_us is None
