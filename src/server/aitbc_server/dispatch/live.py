"""What the dispatcher remembers of jobs, leases and sessions that are not over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import NamedTuple

from aitbc_server.domain.asks import PLAIN, Asks
from aitbc_server.domain.errors import LeaseLost
from aitbc_server.domain.jobs import LiveRecord
from aitbc_server.domain.tasks import ModelInfo, Task, lane_of, lanes_of


class Now(NamedTuple):
    """One instant on both clocks."""

    # Seconds that only go forward: all timers.
    mono: float
    # Microseconds since the Unix epoch: what is stored.
    wall_us: int


class CancelReason(Enum):
    """Why a miner is told to stop."""

    REQUESTED = 1
    DEADLINE_PASSED = 2
    LEASE_LOST = 3
    SIGNATURE_REFUSED = 4
    NO_PROGRESS = 5
    ANSWER_REFUSED = 6


class CloseReason(StrEnum):
    """Why a session ended."""

    #: The stream broke: its miner may come back.
    GONE = "gone"
    #: The miner drained and said goodbye: it holds nothing any more.
    LEFT = "left"
    #: A newer session of the miner began.
    SUPERSEDED = "superseded"
    #: Nothing was heard for as long as a lease lasts.
    SILENT = "silent"
    #: The coordinator is about to stop.
    DRAINING = "draining"


class Holder(NamedTuple):
    """A miner's process that was told of a lease; "" where neither is known."""

    miner_id: str = ""
    process_id: str = ""


class Phase(Enum):
    """Where a lease is between the coordinator and the disk."""

    # Being stored: nobody holds it yet.
    BEGINNING = 1
    # Stored: its miner may work.
    HELD = 2
    # Its end is being stored: nothing that arrives now changes it.
    ENDING = 3


@dataclass(slots=True, eq=False, kw_only=True)
class LiveJob:
    """A job that is not final."""

    job_id: str
    owner: str
    model: str
    priority: int
    created_us: int
    max_attempts: int
    max_tokens: int | None
    # What it asks of its model.
    task: Task = Task.GENERATE
    # What bounds its answer beside.
    asks: Asks = PLAIN
    # Keys of its beginning, the closest first: see `NewJob.affinity`.
    affinity: tuple[bytes, ...] = ()
    # Whom it is counted for: its owner or, where nobody is, the network it came from.
    account: str = ""
    # When it fails unless final.
    deadline_us: int | None = None
    # When it may be tried again.
    not_before_us: int | None = None
    attempt: int = 0
    # Miners that had it and did not finish it: others are preferred until then (monotonic).
    failed_miners: tuple[str, ...] = ()
    prefers_until: float = 0.0
    # Processes that vanished with it: none of them came back.
    vanished: tuple[Holder, ...] = ()
    # Miners that said that no other attempt can succeed.
    final_words: frozenset[str] = frozenset()
    # Leases that miners never began on, and that did not count as attempts.
    free_returns: int = 0
    # Whether others may come that are not there: the coordinator has just started.
    awaits_miners: bool = False
    # Its place in its owner's line; None while it stands in none.
    ticket: int | None = None
    lease: Lease | None = None
    cancel_requested: bool = False
    # Whether that was because nobody waits for its answer.
    is_abandoned: bool = False
    # Requests that made or found it, and have not said that they wait no longer. After a restart
    # nobody waits: all who did were told so.
    wanted: int = 1
    # Calls that wait for its end or follow it now.
    readers: int = 0
    # Whether the last request that wanted it has said so: it ends with the last reader that leaves.
    is_forsaken: bool = False
    # Its end as a pending job is being stored.
    is_ending: bool = False
    # What was submitted, while it waits and memory allows.
    spec: bytes | None = None

    @property
    def lane(self) -> str:
        """Where it waits: with those that the same miners may take."""
        return lane_of(self.model, self.task)

    def is_overdue(self, now: Now) -> bool:
        """Says whether its deadline has passed."""
        return self.deadline_us is not None and self.deadline_us <= now.wall_us

    def lease_of(self, miner_id: str, lease_id: str = "") -> Lease:
        """Returns the lease if the miner holds it, and it is the one named. Raises LeaseLost."""
        lease = self.lease
        if (
            lease is None
            or lease.phase is Phase.BEGINNING
            or lease.miner_id != miner_id
            or (lease_id and lease.lease_id != lease_id)
        ):
            raise LeaseLost(f"{miner_id} does not hold the lease on this job")
        return lease

    @classmethod
    def of(cls, record: LiveRecord) -> LiveJob:
        """Returns the job as it was stored, without its lease."""
        return cls(
            job_id=record.job_id,
            owner=record.owner,
            account=record.owner,
            model=record.model,
            priority=record.priority,
            created_us=record.created_us,
            max_attempts=record.max_attempts,
            max_tokens=record.max_tokens,
            task=record.task,
            asks=record.asks,
            deadline_us=record.deadline_us,
            attempt=record.attempt,
            failed_miners=record.failed_miners,
            vanished=(Holder(),) * record.vanishes,
            free_returns=record.free_returns,
            cancel_requested=record.cancel_requested,
            is_abandoned=record.is_abandoned,
            wanted=0,
        )


@dataclass(slots=True, eq=False, kw_only=True)
class Lease:
    """The right of one miner to finish one job."""

    lease_id: str
    job: LiveJob
    miner_id: str
    attempt: int
    started_us: int
    phase: Phase = Phase.BEGINNING
    # Session that holds and renews it; None for a claim, and while its miner is away.
    session: Session | None = None
    # Process that was told of it; None while none was, for a claim, and after a restart of the
    # coordinator until its miner is back.
    holder: Holder | None = None
    # Seconds a claim lasts; None for a lease that belongs to a stream.
    claim_s: float | None = None
    # When it ends (monotonic); None while its session renews it.
    expires_at: float | None = None
    # First update that the coordinator has not seen.
    next_sequence: int = 0
    # Bytes of what was submitted.
    spec_bytes: int = 0
    # When its miner was given it, and when it first and last reported progress (monotonic).
    told_at: float | None = None
    first_at: float | None = None
    progress_at: float = 0.0
    # Tokens reported so far, and at first.
    tokens: int = 0
    first_tokens: int = 0
    # Of these, those of deltas that told only reasoning.
    thought_tokens: int = 0
    # Bytes of the answer told so far.
    said_bytes: int = 0
    # Whether its miner's pace may be taken from it: the whole of it was one session's.
    is_measured: bool = True
    # Its miner said how it ended, and is owed an acknowledgement.
    is_reported: bool = False

    @property
    def max_model_len(self) -> int:
        """Tokens that a prompt and its answer may have together; 0 when its miner does not say."""
        info = None if self.session is None else self.session.infos.get(self.job.model)
        return (info.max_model_len or 0) if info is not None else 0

    @property
    def is_held(self) -> bool:
        """Whether its miner may work: it is stored, and no end of it is on its way."""
        return self.phase is Phase.HELD


@dataclass(slots=True, eq=False)
class Outbox:
    """What a session's miner is to be told, merged until the stream takes it."""

    assignments: list[Lease] = field(default_factory=list)
    acks: dict[str, int] = field(default_factory=dict)
    cancellations: dict[str, CancelReason] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.assignments) + len(self.acks) + len(self.cancellations)


@dataclass(slots=True, eq=False, kw_only=True)
class Pause:
    """A model of which a session gets no jobs for a while, because its miner cannot serve it."""

    code: str
    message: str
    # Until when it gets none (monotonic).
    until: float
    # How often in a row it could not.
    faults: int
    # Whether the miner tells of it, and so of its end.
    is_told: bool
    # Whether the while is over: it gets one job at a time, to try.
    is_trial: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Session:
    """One Work stream."""

    miner_id: str
    models: tuple[str, ...]
    # Leases the miner takes at once.
    window: int
    # When the last message came (monotonic).
    heard_at: float
    # Called when there is something to write, or the session was closed.
    wake: Callable[[], None]
    # Of models that are adapters: the model that each changes.
    parents: Mapping[str, str] = field(default_factory=dict)
    # What its miner said of its models.
    infos: Mapping[str, ModelInfo] = field(default_factory=dict)
    # Of each model, the lanes from which it takes jobs.
    lanes: Mapping[str, tuple[str, ...]] = field(init=False)
    # Name of the process behind it; empty when it gave none.
    process_id: str = ""
    # Largest message that its miner takes.
    max_message_bytes: int = 4 * 1024 * 1024
    leases: dict[str, Lease] = field(default_factory=dict)
    outbox: Outbox = field(default_factory=Outbox)
    # Why it was ended; None while it is open.
    closed: CloseReason | None = None
    # Whether it lost a lease for want of progress, and has shown none since: it gets one job at a
    # time.
    is_suspect: bool = False
    # Lease on a job with which processes vanished, until it shows progress or some seconds passed:
    # the session gets no other such job meanwhile, so that one that ends processes ends alone.
    probation: Lease | None = None
    # Whether it brought news of any lease.
    has_worked: bool = False
    # Whether its miner flaps, and is given nothing for a while.
    is_held_back: bool = False
    # By model.
    pauses: dict[str, Pause] = field(default_factory=dict)
    # Whether an administrator drains its miner.
    is_drained: bool = False
    # How busy its miner last said it is: a serialised aitbc.v1.Load, opaque here.
    load: bytes | None = None

    def __post_init__(self) -> None:
        self.lanes = lanes_of(self.models, self.infos)

    @property
    def holder(self) -> Holder:
        """The process that it tells of leases."""
        return Holder(self.miner_id, self.process_id)

    def takes(self, job: LiveJob) -> bool:
        """Says whether its miner serves a job's model, and what the job asks of it."""
        return job.lane in self.lanes.get(job.model, ())

    @property
    def limit(self) -> int:
        """How many leases it may hold."""
        if self.closed or self.is_drained or self.is_held_back:
            return 0
        return min(self.window, 1) if self.is_suspect else self.window

    @property
    def room(self) -> int:
        """How many more leases it takes now; negative when it holds more than it may."""
        return 0 if self.closed else self.limit - len(self.leases)

    def is_on_trial(self, model: str) -> bool:
        """Whether the next job of a model tries if its miner can serve it again."""
        pause = self.pauses.get(model)
        return pause is not None and pause.is_trial

    def limit_for(self, model: str) -> int:
        """How many leases on jobs of a model it may hold."""
        pause = self.pauses.get(model)
        return self.limit if pause is None else min(self.limit, int(pause.is_trial))

    def room_for(self, model: str) -> int:
        """How many more leases on jobs of a model it takes now."""
        if model not in self.pauses:
            return self.room
        held = sum(lease.job.model == model for lease in self.leases.values())
        return min(self.room, self.limit_for(model) - held)
