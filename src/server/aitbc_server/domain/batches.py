"""What a batch is: a file of requests that are run one by one, and where it is in its life.

Times are integers: microseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

_PREFIX = "batch_"


class BatchStatus(StrEnum):
    """Where a batch is."""

    #: Its file is being checked.
    VALIDATING = "validating"
    #: Its file cannot be run.
    FAILED = "failed"
    #: Its lines are being run.
    IN_PROGRESS = "in_progress"
    #: Its lines have all ended. Nobody sees it stored: a batch is final in the same commit.
    FINALIZING = "finalizing"
    #: Its lines have all ended by themselves.
    COMPLETED = "completed"
    #: Its time was over before.
    EXPIRED = "expired"
    #: It is to be cancelled.
    CANCELLING = "cancelling"
    #: It was cancelled.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the batch can never change again."""
        return self in _FINAL


_FINAL = frozenset(
    {BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
)


class BatchFault(NamedTuple):
    """Why a batch failed."""

    code: str
    message: str
    param: str | None = None
    # From 1; None for the whole file.
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A stored batch."""

    batch_id: str
    owner: str
    # Whom its jobs are counted for, and the public part of the key that made it, if one did.
    account: str
    key_id: str | None
    endpoint: str
    input_file_id: str
    completion_window: str
    created_us: int
    # When its time is over.
    expires_us: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    # How long its output files are kept; None: for ever.
    keep_output_s: int | None = None
    status: BatchStatus = BatchStatus.VALIDATING
    faults: tuple[BatchFault, ...] = ()
    # What is written while it runs; shown once it has ended.
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    # Up to where its file was read: bytes, and lines.
    read_bytes: int = 0
    read_lines: int = 0
    in_progress_us: int | None = None
    cancelling_us: int | None = None
    ended_us: int | None = None


class OpenLine(NamedTuple):
    """A line that is being run: where it is in the file, and its number from 1."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """What one step of a batch comes to. It is stored as a whole or not at all."""

    batch_id: str
    owner: str
    # Up to where the file is read now.
    read_bytes: int
    read_lines: int
    opened: tuple[OpenLine, ...] = ()
    # Numbers of lines that were open and are ended by this.
    closed: tuple[int, ...] = ()
    # What is added to the files, whose ids are given at the first time.
    output: bytes = b""
    errors: bytes = b""
    output_file_id: str = ""
    error_file_id: str = ""
    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    now_us: int = 0


class Refused(StrEnum):
    """Why a batch was not stored."""

    #: The file is not there, or is not one that a batch can read.
    NO_FILE = "no file"
    #: Its owner has as many batches under way as it may.
    TOO_MANY = "too many"


def batch_id_of(ulid: str) -> str:
    """Returns the id of a batch."""
    return _PREFIX + ulid
