"""What a file is: text that its owner sent, or that a batch wrote for its owner.

Times are integers: microseconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_PREFIX = "file-"


class FilePurpose(StrEnum):
    """What a file is for."""

    #: The requests of a batch.
    BATCH = "batch"
    #: What a batch wrote.
    BATCH_OUTPUT = "batch_output"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A stored file, without its content."""

    file_id: str
    owner: str
    filename: str
    purpose: FilePurpose
    created_us: int
    # When it is deleted; None for never.
    expires_us: int | None = None
    # Of its content so far.
    size: int = 0
    # Whether all of it is there.
    is_finished: bool = False


class Appended(StrEnum):
    """What became of a part of a file."""

    #: It is on disk, or was already.
    STORED = "stored"
    #: The file is finished, is no more, or has other bytes before.
    MISPLACED = "misplaced"
    #: The owner's files would have too many bytes.
    OVER = "over"


class Dropped(StrEnum):
    """What became of a file that was to be deleted."""

    GONE = "gone"
    #: There was no such file.
    UNKNOWN = "unknown"
    #: A batch that has not ended needs it.
    IN_USE = "in use"


def file_id_of(ulid: str) -> str:
    """Returns the id of a file."""
    return _PREFIX + ulid
