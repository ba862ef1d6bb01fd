"""Why a job waits, and until when: from memory, whatever the length of the queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.live import LiveJob, Now, Phase
from aitbc_server.dispatch.registry import Registry
from aitbc_server.domain.jobs import JobStatus
from aitbc_server.domain.miners import MinerStatus
from aitbc_server.domain.tasks import Task

# Miners named of each kind.
_NAMED = 100


class WaitReason(Enum):
    """What a job waits for; its value says it to people."""

    BEING_STORED = "a change of the job is being stored"
    COORDINATOR_DRAINING = "the coordinator is about to stop, and gives out nothing new"
    RETRY_DELAY = "the job waits a little before it is tried again"
    NO_MINER = "no miner that takes work serves the model {model}{task}"
    OTHER_MINER = "the job waits for another miner than those that failed it before"
    JOBS_AHEAD = "the job is number {position} among those for the model {model}{task}"
    MINERS_PAUSED = (
        "no miner of the model {model} can serve it at present; each is tried again after a while"
    )
    MINERS_BUSY = "the job is next, and waits until a miner of the model {model} has room"


class MinerState(Enum):
    """Whether a miner could take a job, and why not."""

    # It has room.
    READY = 1
    # It holds as many jobs as it takes.
    BUSY = 2
    # It failed the job before: others are preferred.
    FAILED_BEFORE = 3
    # The others cannot.
    MODEL_NOT_SERVED = 4
    DRAINING = 5
    OFFLINE = 6
    # It said that it cannot serve the model at present, or failed at it.
    PAUSED = 7

    @property
    def is_able(self) -> bool:
        """Whether it could take the job, now or when it has room."""
        return self in {MinerState.READY, MinerState.BUSY, MinerState.FAILED_BEFORE}


@dataclass(slots=True, kw_only=True)
class Wait:
    """Where a job that is not final stands."""

    status: JobStatus
    # None for a job that runs.
    reason: WaitReason | None
    explanation: str
    # How many jobs for its model go before it; None when it does not stand in the queue.
    jobs_ahead: int | None = None
    not_before_us: int | None = None
    # None when nothing tells.
    expected_us: int | None = None
    # How many miners there are in each state, and the ids of some.
    counts: dict[MinerState, int] = field(default_factory=dict)
    named: dict[MinerState, list[str]] = field(default_factory=dict)

    @property
    def able(self) -> int:
        """How many miners could take the job."""
        return sum(count for state, count in self.counts.items() if state.is_able)


def explain(core: Core, registry: Registry, job: LiveJob, now: Now) -> Wait:
    """Returns why a job waits."""
    if job.lease is not None and job.lease.phase is not Phase.BEGINNING:
        text = f"the job runs on the miner {job.lease.miner_id}"
        return Wait(status=JobStatus.RUNNING, reason=None, explanation=text)
    wait = Wait(status=JobStatus.PENDING, reason=None, explanation="")
    _look_at_miners(wait, core, registry, job, now)
    if job.ticket is not None:
        wait.jobs_ahead = core.ahead_of(job)
    if job.not_before_us is not None and job.not_before_us > now.wall_us:
        wait.not_before_us = job.not_before_us
    wait.reason = reason = _reason(wait, core, job)
    position = None if wait.jobs_ahead is None else wait.jobs_ahead + 1
    task = "" if job.task is Task.GENERATE else f", to {job.task}"
    wait.explanation = reason.value.format(model=job.model, task=task, position=position)
    wait.expected_us = _expected_us(wait, core, job, now)
    return wait


def _look_at_miners(wait: Wait, core: Core, registry: Registry, job: LiveJob, now: Now) -> None:
    serving = registry.having(job.model)
    for miner_id in serving:
        state = _state(core, registry, miner_id, job, now)
        wait.counts[state] = wait.counts.get(state, 0) + 1
        if wait.counts[state] <= _NAMED:
            wait.named.setdefault(state, []).append(miner_id)
    others = len(registry) - len(serving)
    if others:
        not_served = wait.counts.get(MinerState.MODEL_NOT_SERVED, 0)
        wait.counts[MinerState.MODEL_NOT_SERVED] = not_served + others
        named = wait.named.setdefault(MinerState.MODEL_NOT_SERVED, [])
        named += islice(registry.lacking(job.model), _NAMED - len(named))


def _state(core: Core, registry: Registry, miner_id: str, job: LiveJob, now: Now) -> MinerState:
    session = core.sessions.by_miner.get(miner_id)
    status = registry.status(miner_id, now)
    if status is not MinerStatus.ONLINE:
        return MinerState.DRAINING if status is MinerStatus.DRAINING else MinerState.OFFLINE
    if not (session.takes(job) if session else job.task is Task.GENERATE):
        return MinerState.MODEL_NOT_SERVED
    if session and session.limit > 0 and session.limit_for(job.model) == 0:
        return MinerState.PAUSED
    if miner_id in job.failed_miners:
        return MinerState.FAILED_BEFORE
    if session is None:
        return MinerState.READY
    has_room = session.room_for(job.model) > 0 and not (job.vanished and session.probation)
    return MinerState.READY if has_room else MinerState.BUSY


def _reason(wait: Wait, core: Core, job: LiveJob) -> WaitReason:
    if job.lease is not None or job.is_ending:
        return WaitReason.BEING_STORED
    if core.is_draining:
        return WaitReason.COORDINATOR_DRAINING
    if wait.not_before_us is not None:
        return WaitReason.RETRY_DELAY
    if not wait.able:
        is_paused = MinerState.PAUSED in wait.counts
        return WaitReason.MINERS_PAUSED if is_paused else WaitReason.NO_MINER
    if core.is_parked(job):
        return WaitReason.OTHER_MINER
    return WaitReason.JOBS_AHEAD if wait.jobs_ahead else WaitReason.MINERS_BUSY


def _expected_us(wait: Wait, core: Core, job: LiveJob, now: Now) -> int | None:
    """Guesses by how long the model's jobs have taken, and how many its miners run at once."""
    sessions = core.sessions.by_miner.values()
    serving = [s for s in sessions if s.takes(job) and s.limit_for(job.model) > 0]
    if core.is_draining or not serving or job.is_ending:
        return None
    free = sum(max(0, session.room_for(job.model)) for session in serving)
    before = (wait.jobs_ahead or 0) + 1 - free
    start_us = max(now.wall_us, wait.not_before_us or 0)
    if before <= 0:
        return start_us
    mean_s = core.sessions.paces.mean_s(job.lane)
    if mean_s is None:
        return None
    slots = sum(session.limit_for(job.model) for session in serving)
    return max(start_us, now.wall_us + int(1e6 * before * mean_s / slots))


def names_of(wait: Wait, *, able: bool) -> list[tuple[str, MinerState]]:
    """Returns miners that could take the job, or that could not, in the order of their states."""
    named = (
        (miner_id, state)
        for state in MinerState
        if state.is_able is able
        for miner_id in wait.named.get(state, ())
    )
    return list(islice(named, _NAMED))
