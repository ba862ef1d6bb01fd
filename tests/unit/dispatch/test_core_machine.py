"""Random lives of jobs, miners and coordinators: the invariants hold after every step."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.sessions import _PROBATION_S
from aitbc_server.domain.jobs import JobStatus
from aitbc_server.domain.tasks import ModelInfo, Task
from tests.unit.dispatch.simulation import LEASE_S, PATIENCE, Simulation

POISON_AFTER = 2
VANISHED = {"LEASE_EXPIRED", "MINER_RESTARTED"}
BOTH = {"m": ModelInfo(tasks=(Task.GENERATE, Task.EMBED))}
EMBEDS = {"m": ModelInfo(tasks=(Task.EMBED,))}
MINERS = st.sampled_from(["miner-1", "miner-2", "miner-3"])


class CoreMachine(RuleBasedStateMachine):
    """Interleaves everything that can happen around the core."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation()
        # The first one says nothing, and so generates.
        self.simulation.infos = {"miner-2": BOTH, "miner-3": EMBEDS, "miner-9": BOTH}

    @property
    def core(self) -> Core:
        return self.simulation.core

    def _held(self) -> list[tuple[str, str]]:
        return [
            (miner_id, lease_id)
            for miner_id, held in sorted(self.simulation.held.items())
            for lease_id in sorted(held)
        ]

    @initialize(jobs=st.integers(0, 6))
    def somebody_works(self, jobs: int) -> None:
        for miner_id in ("miner-1", "miner-2"):
            self.simulation.connect(miner_id, window=2)
        for _ in range(jobs):
            self.simulation.submit(owner="a", max_attempts=2)
        self.simulation.turn()

    # Clients

    @rule(
        priority=st.integers(-1, 1),
        owner=st.sampled_from("ab"),
        timeout=st.sampled_from([None, None, 5, 60]),
        attempts=st.integers(1, 3),
        task=st.sampled_from([Task.GENERATE, Task.GENERATE, Task.EMBED]),
    )
    def submit(
        self, priority: int, owner: str, timeout: int | None, attempts: int, task: Task
    ) -> None:
        deadline = None if timeout is None else self.simulation.now.wall_us + timeout * 1_000_000
        self.simulation.submit(
            priority=priority, owner=owner, deadline_us=deadline, max_attempts=attempts, task=task
        )

    @precondition(lambda self: self.core.jobs)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        self.simulation.cancel(data.draw(st.sampled_from(sorted(self.core.jobs))))

    # Miners

    @rule(miner_id=MINERS)
    def connect(self, miner_id: str) -> None:
        self.simulation.connect(miner_id)

    @rule(
        miner_id=MINERS,
        how=st.sampled_from(["disconnects", "leaves", "dies", "restarts", "yields"]),
    )
    def miner_goes(self, miner_id: str, how: str) -> None:
        if how == "leaves":
            self.simulation.leave(miner_id)
            return
        if how == "disconnects":
            self.simulation.disconnect(miner_id)
            return
        if how == "yields":
            self.simulation.take_over(miner_id)
            return
        self.simulation.die(miner_id)
        if how == "restarts":
            self.simulation.connect(miner_id)

    @rule(miner_id=MINERS, window=st.integers(0, 5))
    def miner_changes_its_window(self, miner_id: str, window: int) -> None:
        if miner_id in self.simulation.sessions:
            opened = self.simulation.sessions[miner_id]
            self.core.sessions.set_window(opened, window, self.simulation.now)

    @rule(miner_id=MINERS, drains=st.booleans())
    def administrator_drains(self, miner_id: str, drains: bool) -> None:
        self.simulation.drain(miner_id, drains=drains)

    @precondition(lambda self: self.core.jobs)
    @rule(data=st.data(), action=st.sampled_from(["claim", "claim", "extend", "complete", "fail"]))
    def poll(self, data: Any, action: str) -> None:
        self.simulation.poll(data.draw(st.sampled_from(sorted(self.core.jobs))), action)

    # Messages: late, twice, in any order, or never

    @precondition(lambda self: self._held())
    @rule(
        data=st.data(),
        kind=st.sampled_from(["delta", "result", "result", "retryable", "final"]),
        arrives=st.sampled_from([0, 1, 1, 2]),
    )
    def miner_says(self, data: Any, kind: str, arrives: int) -> None:
        miner_id, lease_id = data.draw(st.sampled_from(self._held()))
        if self.simulation.held[miner_id][lease_id].must_stop:
            kind = "final"
        self.simulation.say(miner_id, lease_id, kind)
        for _ in range(arrives):
            self.simulation.arrive(self.simulation.wire[-1])

    @precondition(lambda self: self.simulation.wire)
    @rule(data=st.data(), comes_again=st.booleans())
    def message_arrives(self, data: Any, comes_again: bool) -> None:
        wire = self.simulation.wire
        place = data.draw(st.integers(0, len(wire) - 1))
        message = wire[place] if comes_again else wire.pop(place)
        self.simulation.arrive(message)

    @precondition(lambda self: self._held())
    @rule(data=st.data(), thief=MINERS)
    def another_delivers(self, data: Any, thief: str) -> None:
        owner, lease_id = data.draw(st.sampled_from(self._held()))
        if thief != owner and thief in self.simulation.sessions:
            ending = list(self.core.effects.completions)
            self.simulation.say(owner, lease_id, "result")
            stolen = self.simulation.wire.pop()
            self.simulation.arrive(type(stolen)(thief, lease_id, stolen.sequence, "result"))
            assert self.core.effects.completions == ending

    # Time, the store and the process

    @rule(
        seconds=st.sampled_from([0.1, 1.0, LEASE_S + 1, 1.5 * PATIENCE.least_s]),
        beating=st.booleans(),
    )
    def time_passes(self, seconds: float, beating: bool) -> None:
        self.simulation.pass_time(seconds, beating)

    @rule()
    def hours_pass_without_progress(self) -> None:
        """Whatever the pace, it is too long, though the miners live."""
        self.simulation.turn()
        stuck = {i for opened in self.simulation.sessions.values() for i in opened.leases}
        self.simulation.pass_time(100_000, beating=True)
        self.simulation.turn()
        assert not stuck & set(self.core.leases.by_id)

    @rule()
    def turn(self) -> None:
        self.simulation.turn()
        self._check_settled()

    @rule()
    def propose(self) -> None:
        self.simulation.propose()

    @rule()
    def storage_answers(self) -> None:
        self.simulation.store_all()

    @rule()
    def storage_refuses(self) -> None:
        self.simulation.refuse_all()

    @rule(is_stored=st.booleans())
    def process_dies(self, is_stored: bool) -> None:
        if is_stored:
            self.simulation.store_all(is_lost=True)
        else:
            self.simulation.restart()

    # What always holds

    @invariant()
    def the_core_knows_every_live_job_and_no_other(self) -> None:
        live = {j for j, row in self.simulation.rows.items() if not row.status.is_final}
        assert live == set(self.core.jobs)

    @invariant()
    def a_lease_is_on_its_job_and_in_one_place(self) -> None:
        for lease_id, lease in self.core.leases.by_id.items():
            assert lease.job.lease is lease
            assert self.core.jobs[lease.job.job_id] is lease.job
            assert lease.job.ticket is None
            assert lease.session is None or lease.session.leases[lease_id] is lease
        for opened in self.simulation.sessions.values():
            assert opened.closed is None

    @invariant()
    def a_result_is_what_the_holder_of_the_last_lease_sent(self) -> None:
        for row in self.simulation.rows.values():
            if row.status is JobStatus.COMPLETED:
                assert row.result == row.lease_id == row.leases[-1]
            else:
                assert row.result is None

    @invariant()
    def no_job_has_more_attempts_than_it_may(self) -> None:
        for row in self.simulation.rows.values():
            assert row.counted <= row.new.max_attempts

    @invariant()
    def a_job_whose_cancellation_was_asked_for_gets_no_further_lease(self) -> None:
        for job_id, attempts in self.simulation.cancelled.items():
            assert self.simulation.rows[job_id].attempt <= attempts

    @invariant()
    def a_job_with_which_two_processes_vanished_is_set_aside_and_no_other(self) -> None:
        for row in self.simulation.rows.values():
            assert (row.vanishes >= POISON_AFTER) is (row.error_code == "POISON")
            lost = {lease for lease, code in row.ends.items() if code in VANISHED}
            assert row.vanishes <= len(lost & self.simulation.delivered)

    @invariant()
    def suspected_jobs_are_on_probation_one_by_one(self) -> None:
        """A job passes by progress, or when its miner has lived with it for long enough."""
        told_after = self.simulation.now.mono - _PROBATION_S
        for opened in self.simulation.sessions.values():
            suspected = [
                lease
                for lease in opened.leases.values()
                if lease.job.vanished and lease.first_at is None and lease.is_measured
                if lease.told_at is None or lease.told_at > told_after
            ]
            assert len(suspected) <= 1
            assert opened.probation is None or opened.probation.session is opened

    def _check_settled(self) -> None:
        """When all that was proposed is stored, miners know, and nothing is left behind."""
        now_us = self.simulation.now.wall_us
        for miner_id, opened in self.simulation.sessions.items():
            assert set(self.simulation.held[miner_id]) == set(opened.leases)
        for job_id, job in self.core.jobs.items():
            row = self.simulation.rows[job_id]
            assert (row.status is JobStatus.RUNNING) is (job.lease is not None)
            assert job.lease is None or job.lease.is_held
            assert row.new.deadline_us is None or row.new.deadline_us > now_us
            if row.status is JobStatus.PENDING:
                assert job_id not in self.simulation.cancelled
        free = [job for job in self.core.jobs.values() if job.ticket is not None]
        room = [s for s in self.simulation.sessions.values() if s.room > 0]
        waits = [job for job in free if any(s.takes(job) for s in room)]
        assert not waits, "a job waits while a miner has room"
        for job in self.core.jobs.values():
            if job.vanished and self.core.is_parked(job):
                able = [s for s in room if s.takes(job)]
                unused = [s for s in able if s.miner_id not in job.failed_miners]
                assert all(s.probation for s in unused), "a suspected job waits for nothing"

    def teardown(self) -> None:
        """With a miner that works and time that passes, every job becomes final."""
        for miner_id in list(self.simulation.sessions):
            self.simulation.disconnect(miner_id)
        rounds = iter(range(60))
        while any(not (job.lease and job.lease.claim_s) for job in self.core.jobs.values()):
            # Claims last longer than all of that.
            next(rounds)
            self.simulation.connect("miner-9", window=1000)
            self.simulation.turn()
            for lease_id in list(self.simulation.held["miner-9"]):
                self.simulation.say("miner-9", lease_id, "result")
                self.simulation.arrive(self.simulation.wire[-1])
            self.simulation.turn()
            self.simulation.pass_time(10 * LEASE_S)


TestCoreMachine = CoreMachine.TestCase
TestCoreMachine.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
