"""A dispatcher core with a store, miners and the network between them, driven step by step.

The store applies a proposal only when the test says so, or refuses it. Miners see only what reached
their outbox, and what they say reaches the core when the test says so: late, twice, in any order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.effects import Effects
from aitbc_server.dispatch.live import CancelReason, CloseReason, LiveJob, Now, Session
from aitbc_server.dispatch.sessions import Patience
from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.domain.ids import job_of_lease
from aitbc_server.domain.tasks import ModelInfo, Task
from tests.factories import completion, instant, new_job, session
from tests.unit.dispatch.memory_store import MemoryStore, Row

LEASE_S = 15.0
PATIENCE = Patience(factor=10.0, least_s=60.0)
POLLER = "poller"
# Looks at the timers while time passes.
_STEPS = 8


@dataclass
class Held:
    """A lease, as its miner knows it."""

    next_sequence: int = 0
    # What the miner is to say as soon as it can.
    must_stop: bool = False


@dataclass(frozen=True)
class Message:
    """News of a lease on its way to the core."""

    miner_id: str
    lease_id: str
    sequence: int
    # `delta`, `result`, `retryable` or `final`: the last two are failures.
    kind: str


class Simulation:
    """The core, its store, its miners, and the messages on their way."""

    def __init__(self) -> None:
        self.core = Core(lease_s=LEASE_S, patience=PATIENCE)
        self.store = MemoryStore()
        self.seconds = 0.0
        # What the miners hold, by miner id; a miner keeps it while its stream is down.
        self.held: dict[str, dict[str, Held]] = {}
        self.wire: list[Message] = []
        # Proposals on their way to the store.
        self.in_flight: list[Effects] = []
        self.drained: set[str] = set()
        # What miners say of their models.
        self.infos: dict[str, dict[str, ModelInfo]] = {}
        # How often each miner was started anew.
        self.starts: Counter[str] = Counter()
        # Leases that ever reached their miner.
        self.delivered: set[str] = set()
        # Jobs whose cancellation was asked for, with the leases that they had had by then.
        self.cancelled: dict[str, int] = {}

    @property
    def now(self) -> Now:
        """The present instant."""
        return instant(self.seconds)

    @property
    def rows(self) -> dict[str, Row]:
        """The stored jobs."""
        return self.store.rows

    @property
    def sessions(self) -> dict[str, Session]:
        """The open sessions by miner."""
        return self.core.sessions.by_miner

    # Clients

    def submit(self, **fields: object) -> str:
        """Submits a job; returns its id."""
        new = new_job(created_us=self.now.wall_us, **fields)
        self.store.submit(new)
        job = LiveJob(
            job_id=new.job_id,
            owner=new.owner,
            model=new.model,
            priority=new.priority,
            created_us=new.created_us,
            max_attempts=new.max_attempts,
            max_tokens=new.max_tokens,
            deadline_us=new.deadline_us,
            task=new.task,
        )
        self.core.submit(job, self.now)
        return new.job_id

    def cancel(self, job_id: str) -> None:
        """Asks for the cancellation of a job that is not final."""
        job = self.core.jobs[job_id]
        # A lease that is being stored is one that it has.
        self.cancelled.setdefault(job_id, job.attempt)
        self.core.cancel(job, self.now)

    # Miners

    def connect(self, miner_id: str, window: int = 4) -> None:
        """Opens a session with everything that the miner holds."""
        process_id = f"{miner_id}/{self.starts[miner_id]}"
        opened = session(
            miner_id,
            window=window,
            heard_at=self.now.mono,
            process_id=process_id,
            infos=self.infos.get(miner_id, {}),
        )
        opened.is_drained = miner_id in self.drained
        held = self.held.setdefault(miner_id, {})
        lost, _ = self.core.sessions.open(opened, list(held), self.now)
        for lease_id in lost:
            del held[lease_id]

    def disconnect(self, miner_id: str) -> None:
        """Breaks the miner's stream."""
        if miner_id in self.sessions:
            self.core.sessions.close(self.sessions[miner_id], CloseReason.GONE, self.now)

    def die(self, miner_id: str) -> None:
        """Ends the miner's process, which forgets what it held."""
        self.disconnect(miner_id)
        self.held[miner_id] = {}
        self.starts[miner_id] += 1

    def take_over(self, miner_id: str) -> None:
        """Starts a newer process of the miner while the older one lives."""
        self.held[miner_id] = {}
        self.starts[miner_id] += 1
        self.connect(miner_id)

    def leave(self, miner_id: str) -> None:
        """Has a miner drain and say goodbye, dropping whatever it was given last."""
        if miner_id in self.sessions:
            opened = self.sessions[miner_id]
            self.core.sessions.set_window(opened, 0, self.now)
            self.core.sessions.close(opened, CloseReason.LEFT, self.now)
            self.held[miner_id] = {}

    def drain(self, miner_id: str, *, drains: bool) -> None:
        """Has an administrator drain a miner, or resume it."""
        (self.drained.add if drains else self.drained.discard)(miner_id)
        if miner_id in self.sessions:
            self.core.sessions.drain(self.sessions[miner_id], drains, self.now)

    def say(self, miner_id: str, lease_id: str, kind: str) -> None:
        """Has a miner say something of a lease; it is on its way then."""
        held = self.held[miner_id][lease_id]
        self.wire.append(Message(miner_id, lease_id, held.next_sequence, kind))
        if kind == "delta":
            held.next_sequence += 1

    def arrive(self, message: Message) -> None:
        """Has a message reach the core by its miner's present session, or get lost."""
        opened = self.sessions.get(message.miner_id)
        if opened is None:
            return
        opened.heard_at = self.now.mono
        lease_id, sequence = message.lease_id, message.sequence
        if message.kind == "delta":
            self.core.sessions.progress(opened, lease_id, sequence, 1)
        elif message.kind == "result":
            done = completion(job_of_lease(lease_id) or "", lease_id=lease_id, result=lease_id)
            self.core.sessions.deliver(opened, sequence, done)
        else:
            self.core.sessions.fail(
                opened,
                lease_id,
                sequence,
                code="X",
                message="x",
                retryable=message.kind == "retryable",
                now=self.now,
            )

    def poll(self, job_id: str, action: str) -> None:
        """Has the miner that polls claim a job, or do something with its claim."""
        job = self.core.jobs[job_id]
        try:
            if action == "claim":
                self.core.claim(job, POLLER, ["m"], self.now)
                assert job.task is Task.GENERATE, "a miner that polls got a job that it does not do"
                return
            lease = job.lease_of(POLLER)
            if action == "extend":
                self.core.extend(lease, self.now)
            elif action == "complete" and lease.is_held:
                done = completion(job_id, lease_id=lease.lease_id, result=lease.lease_id)
                self.core.complete(lease, done)
            elif action == "fail" and lease.is_held:
                self.core.give_up(lease, code="X", message="x", retryable=True, now=self.now)
        except CoordinatorError:
            pass

    # Time and the process

    def pass_time(self, seconds: float, beating: bool = False) -> None:
        """Lets time pass; miners that are `beating` are heard all the time."""
        for _ in range(_STEPS):
            self.seconds += seconds / _STEPS
            for opened in self.sessions.values():
                if beating:
                    opened.heard_at = self.now.mono
            self.core.tick(self.now)

    def restart(self) -> None:
        """Loses the process: proposals that were not stored are gone, and all streams."""
        self.in_flight = []
        self.core = Core(lease_s=LEASE_S, patience=PATIENCE)
        self.core.restore(self.store.live(), self.now)
        # A cancellation that was asked for and not stored is forgotten; it was not promised.
        for job_id in list(self.cancelled):
            row = self.rows[job_id]
            if not row.status.is_final and not row.cancel_requested:
                del self.cancelled[job_id]

    def propose(self) -> None:
        """Takes a turn of the core: what it proposes is on its way to the store."""
        self.core.tick(self.now)
        self.core.match(self.now)
        self.in_flight.append(self.core.effects.take())

    def store_all(self, *, is_lost: bool = False) -> None:
        """Stores what is on its way, and answers, unless the process dies before it does."""
        in_flight, self.in_flight = self.in_flight, []
        answers = [self.store.apply(effects) for effects in in_flight]
        if is_lost:
            self.restart()
            return
        for effects, (begun, done, ended) in zip(in_flight, answers, strict=True):
            self.core.begun(effects.begins, begun, self.now)
            self.core.completed(effects.completions, done)
            self.core.ended(effects.endings, ended, self.now)
        self._read_outboxes()

    def refuse_all(self) -> None:
        """Has the store refuse what is on its way; the shell tries all but the begins again."""
        in_flight, self.in_flight = self.in_flight, []
        again = Effects()
        for effects in in_flight:
            self.core.begin_failed(effects.begins, 1.0, self.now)
            again.completions += effects.completions
            again.endings += effects.endings
            again.flags += effects.flags
        self.in_flight = [again]

    def turn(self) -> None:
        """Matches, stores and answers, until nothing is proposed any more."""
        while True:
            self.propose()
            is_quiet = not any(e.begins or e.completions or e.endings for e in self.in_flight)
            self.store_all()
            if is_quiet:
                return

    def _read_outboxes(self) -> None:
        for miner_id, opened in self.sessions.items():
            outbox, held = opened.outbox, self.held[miner_id]
            for lease_id in outbox.acks:
                held.pop(lease_id, None)
            for lease_id, reason in outbox.cancellations.items():
                if reason is not CancelReason.REQUESTED:
                    held.pop(lease_id, None)
                elif lease_id in held:
                    held[lease_id].must_stop = True
            outbox.cancellations.clear()
            outbox.acks.clear()
            for lease in outbox.assignments:
                if lease.is_held:
                    assert miner_id not in self.drained, "a drained miner got a job"
                    assert opened.takes(lease.job), "a miner got a job that it does not do"
                    self.core.sessions.told(lease, 100, self.now)
                    held[lease.lease_id] = Held()
                    self.delivered.add(lease.lease_id)
                    assert len(held) <= opened.window, "a miner holds more than its window"
            outbox.assignments.clear()
