"""A job during whose leases two miner processes vanished is set aside; no other job is."""

from __future__ import annotations

import pytest

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.live import LiveJob
from aitbc_server.domain.jobs import JobStatus
from tests.unit.dispatch.memory_store import Row
from tests.unit.dispatch.simulation import LEASE_S, PATIENCE, Simulation

PENDING, FAILED, COMPLETED = JobStatus.PENDING, JobStatus.FAILED, JobStatus.COMPLETED


@pytest.fixture(name="run")
def _run() -> Simulation:
    return Simulation()


def holder(run: Simulation, job_id: str) -> str:
    """Returns the miner that was told of a job."""
    lease = run.core.jobs[job_id].lease
    assert lease is not None
    assert lease.lease_id in run.held[lease.miner_id]
    return lease.miner_id


def expire(run: Simulation) -> None:
    """Lets leases of those who are away expire, and what follows happen."""
    run.turn()
    run.pass_time(LEASE_S + 1, beating=True)
    run.turn()
    run.pass_time(2.0, beating=True)
    run.turn()


def job(run: Simulation, job_id: str) -> LiveJob:
    return run.core.jobs[job_id]


def row(run: Simulation, job_id: str) -> Row:
    return run.rows[job_id]


def finish_all(run: Simulation, *miners: str) -> list[str]:
    """Has miners deliver what they hold, until they get nothing more; returns the jobs in order."""
    done = []
    while held := [(m, lease_id) for m in miners for lease_id in run.held[m]]:
        for miner_id, lease_id in held:
            done.append(run.core.leases.by_id[lease_id].job.job_id)
            run.say(miner_id, lease_id, "result")
            run.arrive(run.wire[-1])
        run.turn()
    return done


def test_a_job_with_which_two_processes_died_visits_no_third_miner(run: Simulation) -> None:
    for miner_id in ("a", "b", "c"):
        run.connect(miner_id)
    job_id = run.submit(max_attempts=10)
    run.turn()
    run.die(holder(run, job_id))
    expire(run)
    assert row(run, job_id).status is JobStatus.RUNNING
    run.die(holder(run, job_id))
    expire(run)
    ended = row(run, job_id)
    assert (ended.status, ended.error_code) == (FAILED, "POISON")
    assert list(ended.ends.values()) == ["LEASE_EXPIRED"] * 2
    assert job_id not in run.core.jobs


def test_a_process_that_is_started_anew_at_once_has_vanished_too(run: Simulation) -> None:
    run.connect("only")
    job_id = run.submit(max_attempts=10)
    run.turn()
    for _ in range(2):
        assert holder(run, job_id) == "only"
        run.die("only")
        run.connect("only")
        expire(run)
    ended = row(run, job_id)
    assert (ended.status, ended.error_code) == (FAILED, "POISON")
    assert list(ended.ends.values()) == ["MINER_RESTARTED"] * 2


def test_a_miner_without_a_process_id_that_comes_back_without_the_job_has_vanished(
    run: Simulation,
) -> None:
    run.connect("only")
    job_id = run.submit(max_attempts=10)
    run.turn()
    for _ in range(2):
        lease = job(run, job_id).lease
        assert lease is not None
        assert lease.session is not None
        lease.session.process_id = ""
        lease.holder = lease.session.holder
        run.die("only")
        run.connect("only")
        expire(run)
    assert row(run, job_id).error_code == "POISON"


@pytest.mark.parametrize("names_its_process", [True, False])
def test_a_process_that_a_newer_one_takes_over_from_has_not_vanished(
    run: Simulation, names_its_process: bool
) -> None:
    run.connect("only")
    job_id = run.submit(max_attempts=10)
    run.turn()
    for _ in range(4):
        assert holder(run, job_id) == "only"
        if not names_its_process:
            run.sessions["only"].process_id = ""
        run.pass_time(PATIENCE.silence_s)
        run.take_over("only")
        run.turn()
        run.pass_time(31, beating=True)
        run.turn()
    assert set(row(run, job_id).ends.values()) == {"MINER_RESTARTED"}
    assert row(run, job_id).vanishes == 0
    assert finish_all(run, "only") == [job_id]


def test_a_process_that_was_silent_when_a_newer_one_came_has_vanished(run: Simulation) -> None:
    run.connect("only")
    job_id = run.submit(max_attempts=10)
    run.turn()
    for _ in range(2):
        assert holder(run, job_id) == "only"
        # Its stream is half open.
        run.pass_time(PATIENCE.silence_s + 0.1)
        run.take_over("only")
        expire(run)
    assert row(run, job_id).error_code == "POISON"


def test_what_an_older_process_lost_is_counted_though_a_later_one_gives_way(
    run: Simulation,
) -> None:
    run.connect("only")
    job_id = run.submit(max_attempts=10)
    run.turn()
    run.die("only")
    run.connect("only")
    expire(run)
    assert holder(run, job_id) == "only"
    run.take_over("only")
    run.turn()
    assert row(run, job_id).vanishes == 1


def test_miners_that_were_only_disconnected_set_nothing_aside(run: Simulation) -> None:
    run.connect("only")
    job_id = run.submit(max_attempts=10)
    run.turn()
    for _ in range(5):
        run.disconnect("only")
        run.pass_time(LEASE_S / 2)
        run.connect("only")
        run.turn()
    assert finish_all(run, "only") == [job_id]
    assert (row(run, job_id).attempt, row(run, job_id).vanishes) == (1, 0)


def test_what_the_same_process_was_never_told_of_is_no_vanishing(run: Simulation) -> None:
    run.connect("only")
    job_id = run.submit(max_attempts=10)
    for _ in range(3):
        run.turn()
        # Lost on its way.
        run.held["only"].clear()
        run.disconnect("only")
        run.connect("only")
        run.turn()
        run.pass_time(3.0, beating=True)
    assert set(row(run, job_id).ends.values()) == {"MINER_RESTARTED"}
    assert row(run, job_id).vanishes == 0


def test_a_process_that_comes_back_late_is_not_counted_any_more(run: Simulation) -> None:
    run.connect("slow")
    job_id = run.submit(max_attempts=10)
    run.turn()
    run.disconnect("slow")
    expire(run)
    assert row(run, job_id).vanishes == 1
    run.connect("slow")
    run.connect("other")
    run.turn()
    run.pass_time(31, beating=True)
    run.turn()
    assert holder(run, job_id) == "other"
    run.die("other")
    expire(run)
    assert (row(run, job_id).status, row(run, job_id).vanishes) == (JobStatus.RUNNING, 1)


def test_a_drain_and_a_failure_are_no_vanishing(run: Simulation) -> None:
    run.connect("a")
    job_id = run.submit(max_attempts=10)
    for _ in range(3):
        run.turn()
        run.leave("a")
        run.turn()
        run.connect("a")
    # A miner that comes and goes is held back for a while.
    run.pass_time(5, beating=True)
    run.turn()
    for _ in range(3):
        [lease_id] = run.held["a"]
        run.say("a", lease_id, "retryable")
        run.arrive(run.wire[-1])
        run.turn()
        run.pass_time(31, beating=True)
        run.turn()
    assert (row(run, job_id).status, row(run, job_id).vanishes) == (JobStatus.RUNNING, 0)


def test_a_restart_of_the_coordinator_is_no_vanishing(run: Simulation) -> None:
    run.connect("a")
    job_id = run.submit(max_attempts=10)
    run.turn()
    for _ in range(3):
        run.restart()
        run.die("a")
        expire(run)
        run.connect("a")
        run.turn()
        run.pass_time(31, beating=True)
        run.turn()
    assert (row(run, job_id).vanishes, row(run, job_id).status) == (0, JobStatus.RUNNING)


def test_the_count_outlasts_a_restart_of_the_coordinator(run: Simulation) -> None:
    run.connect("a")
    job_id = run.submit(max_attempts=10)
    run.turn()
    run.die("a")
    expire(run)
    run.restart()
    run.connect("b")
    run.turn()
    assert holder(run, job_id) == "b"
    run.die("b")
    expire(run)
    assert row(run, job_id).error_code == "POISON"


def test_what_a_job_that_kills_takes_with_it_is_not_set_aside(run: Simulation) -> None:
    """However many jobs share the miner: they are tried one by one, and one is found."""
    for miner_id in ("a", "b"):
        run.connect(miner_id, window=64)
    run.drain("b", drains=True)
    jobs = [run.submit(max_attempts=10) for _ in range(64)]
    poison = jobs[40]
    run.turn()
    assert len(run.held["a"]) == 64
    run.die("a")
    run.drain("b", drains=False)
    expire(run)
    assert len(run.held["b"]) == 1
    done: list[str] = []
    while holder(run, poison) != "b" if job(run, poison).lease else True:
        [lease_id] = run.held["b"]
        done.append(run.core.leases.by_id[lease_id].job.job_id)
        run.say("b", lease_id, "result")
        run.arrive(run.wire[-1])
        run.turn()
    run.die("b")
    run.connect("c", window=64)
    expire(run)
    done += finish_all(run, "c")
    assert row(run, poison).error_code == "POISON"
    assert sorted([*done, poison]) == sorted(jobs)
    assert {row(run, job_id).status for job_id in done} == {COMPLETED}


def test_a_suspected_job_that_shows_progress_lets_the_next_one_begin(run: Simulation) -> None:
    run.connect("a", window=8)
    run.submit(max_attempts=10)
    run.submit(max_attempts=10)
    run.turn()
    run.die("a")
    run.connect("b", window=8)
    expire(run)
    [lease_id] = run.held["b"]
    fresh = run.submit()
    run.turn()
    assert len(run.held["b"]) == 2, "only suspected jobs wait for one another"
    run.say("b", lease_id, "delta")
    run.arrive(run.wire[-1])
    run.turn()
    assert len(run.held["b"]) == 3
    assert holder(run, fresh) == "b"


def test_a_suspected_job_that_answers_all_at_once_holds_the_next_one_up_for_two_seconds(
    run: Simulation,
) -> None:
    run.connect("a", window=8)
    for _ in range(3):
        run.submit(max_attempts=10)
    run.turn()
    run.die("a")
    run.turn()
    run.connect("b", window=8)
    run.pass_time(LEASE_S, beating=True)
    for count in (1, 1, 2, 2, 3):
        run.pass_time(1.01, beating=True)
        run.turn()
        assert len(run.held["b"]) == count


def test_a_suspected_job_goes_to_the_miner_that_has_none(run: Simulation) -> None:
    run.connect("a", window=8)
    jobs = [run.submit(max_attempts=10) for _ in range(3)]
    run.turn()
    run.die("a")
    for miner_id in ("b", "c"):
        run.connect(miner_id, window=8)
    expire(run)
    assert {m: len(run.held[m]) for m in ("b", "c")} == {"b": 1, "c": 1}
    assert sum(run.core.is_parked(job(run, job_id)) for job_id in jobs) == 1
    done = finish_all(run, "b")
    assert len(done) == 2


@pytest.mark.parametrize("poison_after", [1, 3])
def test_how_many_may_vanish_is_a_setting(run: Simulation, poison_after: int) -> None:
    run.core = Core(lease_s=LEASE_S, patience=PATIENCE, poison_after=poison_after)
    job_id = run.submit(max_attempts=10)
    for number in range(poison_after):
        assert row(run, job_id).status is PENDING
        run.connect(f"miner-{number}")
        run.turn()
        run.die(holder(run, job_id))
        expire(run)
    assert (row(run, job_id).error_code, row(run, job_id).attempt) == ("POISON", poison_after)


def test_a_client_that_cancels_a_job_gets_it_cancelled_whatever_vanished(run: Simulation) -> None:
    run.connect("a")
    job_id = run.submit(max_attempts=10)
    run.turn()
    run.die("a")
    run.connect("b")
    expire(run)
    run.die(holder(run, job_id))
    run.cancel(job_id)
    expire(run)
    assert row(run, job_id).status is JobStatus.CANCELLED


def test_a_job_that_no_miner_begins_on_is_given_back_free_of_charge_three_times(
    run: Simulation,
) -> None:
    job_id = run.submit(max_attempts=1)
    for number in range(4):
        assert row(run, job_id).status is PENDING
        run.connect(f"flaps-{number}")
        run.turn()
        run.leave(f"flaps-{number}")
        run.turn()
        if number == 1:
            run.restart()
    assert (row(run, job_id).status, row(run, job_id).error_code) == (FAILED, "NOT_DELIVERED")
    assert row(run, job_id).counted == 1
