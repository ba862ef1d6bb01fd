"""What a job is, the states it goes through and what each change of state carries.

Times are integers: microseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from aitbc_server.domain.asks import PLAIN, Asks
from aitbc_server.domain.receipts import BatchSignature
from aitbc_server.domain.tasks import Task


class JobStatus(StrEnum):
    """Where a job is in its life. The last three are final."""

    #: Waits for a miner: new, or given back after an attempt that did not finish.
    PENDING = "pending"
    #: A miner holds a lease on it.
    RUNNING = "running"
    #: A miner delivered its result.
    COMPLETED = "completed"
    #: No attempts are left, the failure cannot be retried, or the deadline passed.
    FAILED = "failed"
    #: Its client cancelled it.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job can never change again."""
        return self in FINAL


FINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

# Every arrow, with what causes it. The SQL guards, the CHECK constraints and the diagram in
# docs/explanation/job-lifecycle.md say the same; tests compare them.
TRANSITIONS: Mapping[tuple[JobStatus, JobStatus], str] = {
    (JobStatus.PENDING, JobStatus.RUNNING): "a miner was given a lease",
    (JobStatus.PENDING, JobStatus.CANCELLED): "its client cancelled it",
    (JobStatus.PENDING, JobStatus.FAILED): "its deadline passed while it waited",
    (JobStatus.RUNNING, JobStatus.COMPLETED): "the holder of the lease delivered the result",
    (JobStatus.RUNNING, JobStatus.PENDING): "the lease was lost or the failure can be retried",
    (JobStatus.RUNNING, JobStatus.FAILED): "no attempts are left, or the failure is final",
    (JobStatus.RUNNING, JobStatus.CANCELLED): "its client cancelled it and the lease ended",
}

DEFAULT_MAX_ATTEMPTS = 3

# First delay before a job is tried again; doubled for each further attempt.
_FIRST_RETRY_DELAY_S = 0.25
_LONGEST_RETRY_DELAY_S = 30.0

# What a miner that polls may take: a base for loading and queueing, and time for each token asked
# at the pace of a slow CPU.
_CLAIM_BASE_S = 60.0
_CLAIM_PER_TOKEN_S = 0.5
_CLAIM_TOKENS_UNASKED = 1024


def retry_delay_s(attempt: int) -> float:
    """Returns how long a job waits after its attempt of that number was lost."""
    return min(_FIRST_RETRY_DELAY_S * 2.0 ** (attempt - 1), _LONGEST_RETRY_DELAY_S)


def claim_duration_s(max_tokens: int | None) -> float:
    """Returns how long a claim lasts: by what the job asks for, not by a constant."""
    tokens = _CLAIM_TOKENS_UNASKED if max_tokens is None else max_tokens
    return _CLAIM_BASE_S + _CLAIM_PER_TOKEN_S * tokens


class Fault(StrEnum):
    """Who is to blame for an attempt without an answer."""

    #: Nobody says.
    UNSPECIFIED = "unspecified"
    #: The job: no miner can answer it.
    JOB = "job"
    #: The miner: it cannot serve the model at present.
    MINER = "miner"
    #: Nobody: it passes.
    PASSING = "passing"


# What a job takes beside its texts, as it counts against what may be stored.
JOB_BYTES = 1024


class NewJob(NamedTuple):
    """A job as it is submitted."""

    job_id: str
    owner: str
    model: str
    priority: int
    max_attempts: int
    # Tokens asked for, where the client said so: the size of the work. 0 of a task that generates
    # nothing.
    max_tokens: int | None
    created_us: int
    # When it fails unless final.
    deadline_us: int | None
    # What was submitted, as a serialised aitbc.v1.Job: opaque here and in the store, and what the
    # miner gets.
    spec: bytes
    # Keys that jobs share which begin alike, the closest first.
    affinity: tuple[bytes, ...] = ()
    # How its receipt shows what was asked: the salt, and the hashes of the prompt and of all of it.
    # Made when the job completes where they are not made before.
    prompt_salt: bytes | None = None
    prompt_hash: bytes | None = None
    request_hash: bytes | None = None
    # What it asks of its model.
    task: Task = Task.GENERATE
    # What bounds its answer, and whether what was asked and answered is kept after its end.
    asks: Asks = PLAIN
    is_kept: bool = True

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return JOB_BYTES + len(self.spec)


class Submission(NamedTuple):
    """Jobs that are stored together or not at all."""

    jobs: tuple[NewJob, ...]
    # Name that makes a repetition return the same jobs, and the digest that tells a repetition from
    # another request under the same name.
    request_id: str | None = None
    fingerprint: bytes = b""
    # Whom the jobs are counted for; kept in memory only.
    account: str = ""
    # Bytes that all jobs of their owner may take; 0 for no limit.
    most_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes that its jobs take."""
        return JOB_BYTES * len(self.jobs) + sum([len(job.spec) for job in self.jobs])


class Submitted(NamedTuple):
    """What a submission became."""

    # (job_id, status, created_us) of each job, in the order submitted.
    jobs: tuple[tuple[str, JobStatus, int], ...]
    # False when an earlier submission of the same name made them.
    is_new: bool


class Begin(NamedTuple):
    """A lease that begins: pending -> running."""

    job_id: str
    lease_id: str
    attempt: int
    miner_id: str
    started_us: int
    # Seconds that a claim lasts; None for a lease that its session renews.
    claim_s: float | None = None


class Completion(NamedTuple):
    """A result: running -> completed."""

    job_id: str
    lease_id: str
    result: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str
    completed_us: int
    # What the answer has beside its text, as a serialised aitbc.v1.Job: opaque as a spec.
    details: bytes = b""
    # What the miner signed: the salt that comes before the result, the hash of both, that of the
    # whole answer, and its signature. None of a miner without a key; the hash of the whole answer
    # is None too where it did not sign that.
    result_salt: bytes | None = None
    result_hash: bytes | None = None
    answer_hash: bytes | None = None
    miner_signature: BatchSignature | None = None
    # Characters of its beginning that other miners said, in order, by their ids.
    resumed: tuple[tuple[str, int], ...] = ()
    # What the miner said of its work, as a serialised aitbc.v1.MinerStatement: opaque, too.
    statement: bytes = b""
    # What a receipt covers of the answer beside its text; read from its details where it is empty.
    answered: bytes = b""


class Ending(NamedTuple):
    """Any other end of a wait or of an attempt: to pending, failed or cancelled."""

    job_id: str
    # Lease that ends; None when the job was pending.
    lease_id: str | None
    status: JobStatus
    error_code: str
    error_message: str
    ended_us: int
    # When a job that goes back to pending may be tried again.
    not_before_us: int | None = None
    # Whether the lease does not count as an attempt: its miner never began on it.
    is_free: bool = False
    # Miner processes that have vanished with the job.
    vanishes: int = 0
    # Why the job failed, where its attempts together say more than the last one.
    job_code: str | None = None
    job_message: str | None = None

    @property
    def told_code(self) -> str:
        """Why the job failed, or else its attempt."""
        return self.job_code or self.error_code


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """A lease that a job had, and how it ended."""

    attempt: int
    miner_id: str
    started_us: int
    ended_us: int
    # What became of the job with it: pending when it was to be tried again.
    outcome: JobStatus
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A stored job."""

    job_id: str
    owner: str
    model: str
    status: JobStatus
    created_us: int
    attempt: int
    spec: bytes
    miner_id: str | None = None
    lease_id: str | None = None
    started_us: int | None = None
    cancel_requested_us: int | None = None
    finished_us: int | None = None
    result: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    details: bytes | None = None
    # Whether it has a receipt: each job that was completed since there is a ledger.
    has_receipt: bool = False
    # Attempts that ended, the first one first; empty unless they were asked for.
    attempts: tuple[AttemptRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """A part of a list of jobs, the newest first."""

    records: tuple[JobRecord, ...]
    # Id of the job that the next page comes after; None on the last page.
    next_before: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OldJobs:
    """Jobs that became final before some time: a part of them, the oldest first."""

    # Bytes of their texts, by job id.
    sizes: Mapping[str, int]
    # Id of the job that the next part comes after; None on the last one.
    next_after: str | None


class LiveRecord(NamedTuple):
    """What the dispatcher needs of a stored job that is not final.

    A tuple, because a start makes as many as there are jobs that wait.
    """

    job_id: str
    owner: str
    model: str
    priority: int
    attempt: int
    max_attempts: int
    max_tokens: int | None
    created_us: int
    deadline_us: int | None
    not_before_us: int | None
    # Last miner, and the lease when the job is running.
    miner_id: str | None
    lease_id: str | None
    started_us: int | None
    claim_s: float | None
    cancel_requested: bool
    # Whether that was because nobody waits for its answer.
    is_abandoned: bool
    # Miners that had it and did not finish it.
    failed_miners: tuple[str, ...]
    # Bytes of what was submitted, when it is running.
    spec_bytes: int
    # Miner processes that have vanished with it.
    vanishes: int
    # Leases that did not count as attempts.
    free_returns: int
    task: Task = Task.GENERATE
    asks: Asks = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Final jobs since the beginning, and the tokens of the completed ones."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    # How many of them were forgotten.
    forgotten: int = 0
