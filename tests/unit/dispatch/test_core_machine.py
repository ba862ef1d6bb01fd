"""Random lives of jobs, miners and coordinators: the invariants hold after every step."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aitbc_server.dispatch.core import Core
from aitbc_server.domain.jobs import JobStatus
from tests.unit.dispatch.simulation import LEASE_S, Simulation

MINERS = st.sampled_from(["miner-1", "miner-2", "miner-3"])


class CoreMachine(RuleBasedStateMachine):
    """Interleaves everything that can happen around the core."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation()

    @property
    def core(self) -> Core:
        return self.simulation.core

    def _leases(self) -> list[tuple[str, str]]:
        return [
            (miner_id, lease_id)
            for miner_id, held in sorted(self.simulation.held.items())
            for lease_id in sorted(held)
            if miner_id in self.core.sessions.by_miner
        ]

    @rule(
        priority=st.integers(-1, 1),
        owner=st.sampled_from("ab"),
        timeout=st.sampled_from([None, None, 5, 60]),
    )
    def submit(self, priority: int, owner: str, timeout: int | None) -> None:
        deadline = None if timeout is None else self.simulation.now.wall_us + timeout * 1_000_000
        self.simulation.submit(priority=priority, owner=owner, deadline_us=deadline)

    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        if self.core.jobs:
            job_id = data.draw(st.sampled_from(sorted(self.core.jobs)))
            self.core.cancel(self.core.jobs[job_id], self.simulation.now)

    @rule(miner_id=MINERS)
    def connect(self, miner_id: str) -> None:
        self.simulation.connect(miner_id)

    @rule(miner_id=MINERS)
    def disconnect(self, miner_id: str) -> None:
        self.simulation.disconnect(miner_id)

    @rule(miner_id=MINERS)
    def miner_restarts(self, miner_id: str) -> None:
        self.simulation.disconnect(miner_id)
        self.simulation.held[miner_id] = {}
        self.simulation.connect(miner_id)

    @rule(miner_id=MINERS, window=st.integers(0, 5))
    def miner_changes_its_window(self, miner_id: str, window: int) -> None:
        if miner_id in self.core.sessions.by_miner:
            self.core.sessions.set_window(
                self.core.sessions.by_miner[miner_id], window, self.simulation.now
            )

    @rule(miner_id=MINERS)
    def miner_leaves(self, miner_id: str) -> None:
        self.simulation.leave(miner_id)

    @precondition(lambda self: self._leases())
    @rule(data=st.data(), twice=st.booleans())
    def deliver(self, data: Any, twice: bool) -> None:
        miner_id, lease_id = data.draw(st.sampled_from(self._leases()))
        for _ in range(1 + twice):
            self.simulation.deliver(miner_id, lease_id)

    @precondition(lambda self: self._leases())
    @rule(data=st.data(), thief=MINERS)
    def deliver_anothers(self, data: Any, thief: str) -> None:
        owner, lease_id = data.draw(st.sampled_from(self._leases()))
        if thief != owner and thief in self.core.sessions.by_miner:
            self.simulation.deliver(thief, lease_id)
            row = next(r for r in self.simulation.rows.values() if lease_id in r.leases)
            assert row.miner_id == owner or row.lease_id != lease_id

    @precondition(lambda self: self._leases())
    @rule(data=st.data(), retryable=st.booleans())
    def fail(self, data: Any, retryable: bool) -> None:
        miner_id, lease_id = data.draw(st.sampled_from(self._leases()))
        self.simulation.fail(miner_id, lease_id, retryable=retryable)

    @rule(seconds=st.sampled_from([0.1, 1.0, LEASE_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self.simulation.pass_time(seconds)

    @rule()
    def turn(self) -> None:
        self.simulation.turn()

    @rule()
    def storage_refuses(self) -> None:
        self.simulation.turn(store_works=False)

    @rule()
    def dies_after_the_commit(self) -> None:
        self.simulation.turn(is_lost=True)

    @rule()
    def dies_before_the_commit(self) -> None:
        self.simulation.restart()

    @invariant()
    def the_core_knows_every_live_job_and_no_other(self) -> None:
        live = {j for j, row in self.simulation.rows.items() if not row.status.is_final}
        assert live == set(self.core.jobs)

    @invariant()
    def a_lease_is_on_its_job_and_in_one_place(self) -> None:
        for lease_id, lease in self.core.leases.by_id.items():
            assert lease.job.lease is lease
            assert self.core.jobs[lease.job.job_id] is lease.job
            assert lease.session is None or lease.session.leases[lease_id] is lease
        for opened in self.core.sessions.by_miner.values():
            assert opened.closed is None

    @invariant()
    def a_result_is_what_the_holder_of_the_last_lease_sent(self) -> None:
        for row in self.simulation.rows.values():
            if row.status is JobStatus.COMPLETED:
                assert row.result == row.lease_id == row.leases[-1]

    def teardown(self) -> None:
        """With a miner that works and time that passes, every job becomes final."""
        for miner_id in list(self.core.sessions.by_miner):
            self.simulation.disconnect(miner_id)
        for _ in range(60):
            self.simulation.connect("miner-9", window=1000)
            self.simulation.turn()
            for lease_id in list(self.simulation.held["miner-9"]):
                self.simulation.deliver("miner-9", lease_id)
            self.simulation.turn()
            self.simulation.pass_time(LEASE_S + 1)
        assert not self.core.jobs


TestCoreMachine = CoreMachine.TestCase
TestCoreMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
