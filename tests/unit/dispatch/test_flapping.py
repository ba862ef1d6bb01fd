"""A miner that takes jobs and goes, again and again, gets them ever more seldom."""

from __future__ import annotations

import pytest

from tests.unit.dispatch.simulation import LEASE_S, Simulation


@pytest.fixture(name="run")
def _run() -> Simulation:
    return Simulation()


def flap(run: Simulation, how: str) -> None:
    """Ends the miner's session as one ends that did nothing."""
    if how == "leaves":
        run.leave("flaps")
    elif how == "dies":
        run.die("flaps")
    else:
        run.disconnect("flaps")
        run.held["flaps"].clear()
    run.turn()


@pytest.mark.parametrize("how", ["leaves", "dies", "disconnects"])
def test_a_miner_that_takes_jobs_and_goes_burns_few_of_them(run: Simulation, how: str) -> None:
    jobs = [run.submit(max_attempts=10) for _ in range(500)]
    for _ in range(40):
        run.connect("flaps", window=10_000)
        run.turn()
        flap(run, how)
        run.pass_time(0.5)
        run.turn()
    # In 20 s: at 0 s, at once again, after 1 s, 2 s, 4 s and 8 s.
    assert max(run.rows[job_id].attempt for job_id in jobs) <= 6
    run.connect("honest", window=1_000)
    run.pass_time(2 * LEASE_S, beating=True)
    run.turn()
    assert run.held["honest"]


def test_it_is_given_jobs_again_when_its_time_is_over(run: Simulation) -> None:
    job_id = run.submit(max_attempts=10)
    for _ in range(3):
        run.connect("flaps")
        run.turn()
        run.pass_time(1.01, beating=True)
        run.turn()
        assert job_id in run.core.jobs
        assert run.held["flaps"]
        run.leave("flaps")
        run.turn()
    run.connect("flaps")
    run.turn()
    assert not run.held["flaps"]
    run.pass_time(2.1, beating=True)
    run.turn()
    assert run.held["flaps"]


def test_a_miner_that_works_between_its_cuts_is_not_held_back(run: Simulation) -> None:
    for _ in range(20):
        run.submit(max_attempts=10)
        run.connect("cut", window=2)
        run.turn()
        lease_id = next(iter(run.held["cut"]))
        run.say("cut", lease_id, "delta")
        run.arrive(run.wire[-1])
        run.disconnect("cut")
        run.connect("cut", window=2)
        run.turn()
        assert run.sessions["cut"].limit == 2
        run.say("cut", lease_id, "result")
        run.arrive(run.wire[-1])
        run.turn()


def test_a_miner_whose_jobs_are_long_keeps_them_while_it_is_held_back(run: Simulation) -> None:
    job_id = run.submit(max_attempts=10)
    run.connect("cut")
    run.turn()
    for _ in range(4):
        run.disconnect("cut")
        run.connect("cut")
    assert run.sessions["cut"].is_held_back
    assert len(run.held["cut"]) == 1
    [lease_id] = run.held["cut"]
    run.say("cut", lease_id, "result")
    run.arrive(run.wire[-1])
    run.turn()
    assert job_id not in run.core.jobs
    run.pass_time(60, beating=True)
    assert run.sessions["cut"].limit == 4
