"""What clients and miners saw, as one history of events.

Each process appends its events to a file of its own with one write for each message, before the
message is sent: what a killed process did is never missing. Times are CLOCK_MONOTONIC, which all
processes of a machine share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """A client is about to submit a job."""

    kind: ClassVar[str] = "attempted"
    at: float
    # Names the job over all repetitions of its submit; the first word of its prompt.
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A client was told that its job is stored."""

    kind: ClassVar[str] = "acknowledged"
    at: float
    key: str
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A client was told that one attempt stored nothing. (No answer at all leaves no event.)"""

    kind: ClassVar[str] = "refused"
    at: float
    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """A client is about to cancel a job."""

    kind: ClassVar[str] = "cancel_asked"
    at: float
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """A miner was given a lease."""

    kind: ClassVar[str] = "assigned"
    at: float
    miner_id: str
    job_id: str
    lease_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A Welcome said that a lease which the miner presented goes on."""

    kind: ClassVar[str] = "kept"
    at: float
    miner_id: str
    lease_id: str
    # When the Hello that presented it was sent: the coordinator decided after that.
    asked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A miner is about to send how a lease ended. The same may be sent often."""

    kind: ClassVar[str] = "sent"
    at: float
    miner_id: str
    lease_id: str
    # None for a failure.
    result: str | None
    is_retryable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked:
    """A miner was told that what it sent of a lease is stored."""

    kind: ClassVar[str] = "acked"
    at: float
    miner_id: str
    lease_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A job in a final state: met on the way, or listed when all was over (`is_last`)."""

    kind: ClassVar[str] = "seen"
    at: float
    key: str
    job_id: str
    status: str
    attempt: int
    miner_id: str = ""
    result: str = ""
    error_code: str = ""
    is_last: bool = False
    prompt: str = ""
    # Attempts that ended because their miner vanished; of jobs that were set aside for it alone.
    vanished: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipted:
    """A receipt was in the ledger, when all was over."""

    kind: ClassVar[str] = "receipted"
    at: float
    job_id: str
    leaf_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The coordinator's own count of final jobs, when all was over."""

    kind: ClassVar[str] = "counted"
    at: float
    completed: int
    failed: int
    cancelled: int


Event = (
    Attempted
    | Acknowledged
    | Refused
    | CancelAsked
    | Assigned
    | Kept
    | Sent
    | Acked
    | Seen
    | Receipted
    | Counted
)
_KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    for kind in (
        Attempted,
        Acknowledged,
        Refused,
        CancelAsked,
        Assigned,
        Kept,
        Sent,
        Acked,
        Seen,
        Receipted,
        Counted,
    )
}
_FIELDS = {kind: tuple(field.name for field in fields(cls)) for kind, cls in _KINDS.items()}

now = time.monotonic


class Recorder:
    """Appends events to a file that other processes may append to as well."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def record(self, *events: Event) -> None:
        """Appends the events with one write: all of them outlive this process, or none."""
        os.write(self._file, b"".join(orjson.dumps(_plain(event)) + b"\n" for event in events))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def read(paths: Iterable[Path]) -> Iterator[Event]:
    """Yields the events of these files, each file's in its order."""
    for path in paths:
        with path.open("rb") as lines:
            for line in lines:
                values: dict[str, Any] = orjson.loads(line)
                yield _KINDS[values.pop("kind")](**values)


def _plain(event: Event) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in _FIELDS[event.kind]}
    return {"kind": event.kind, **values}
