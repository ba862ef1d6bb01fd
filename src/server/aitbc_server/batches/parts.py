"""What running a batch needs of the rest of the coordinator."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from aitbc.v1 import jobs_pb2
from aitbc_server.domain.batches import (
    Advance,
    BatchFault,
    BatchRecord,
    BatchStatus,
    OpenLine,
)
from aitbc_server.domain.caller import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchBounds:
    """How batches are run."""

    # Lines of a file, and bytes of a line.
    most_lines: int
    most_line_bytes: int
    # Jobs of one batch that are under way at once.
    jobs_at_once: int
    # Of its jobs: live calls go first.
    priority: int
    # How long output files are kept, unless their owner says so; None: for ever.
    keep_s: float | None


class BatchStore(Protocol):
    """What is needed of storage. Each method raises StorageUnavailable."""

    def begin(self, batch_id: str, total: int, now_us: int) -> Future[bool]:
        """Notes that a batch's file is right, and has so many lines."""
        ...

    def fail(self, batch_id: str, faults: Sequence[BatchFault], now_us: int) -> Future[bool]:
        """Ends a batch whose file is wrong."""
        ...

    def cancel(self, batch_id: str, now_us: int, faults: Sequence[BatchFault] = ()) -> Future[bool]:
        """Notes that a batch is to be cancelled."""
        ...

    def advance(self, advance: Advance) -> Future[None]:
        """Stores a step of a batch."""
        ...

    def end(
        self, batch_id: str, status: BatchStatus, now_us: int, expires_us: int | None
    ) -> Future[bool]:
        """Ends a batch, and the files that it wrote."""
        ...

    def batch(self, batch_id: str) -> Future[BatchRecord | None]:
        """Returns a batch."""
        ...

    def active(self) -> Future[list[BatchRecord]]:
        """Returns all batches that have not ended."""
        ...

    def lines(self, batch_id: str) -> Future[list[OpenLine]]:
        """Returns the lines of a batch that are being run."""
        ...


class FileContents(Protocol):
    """Where files are read."""

    def content(self, file_id: str, start: int) -> Future[bytes]:
        """Returns some of the content from a place on; nothing at its end."""
        ...


class Told(NamedTuple):
    """What an endpoint answers."""

    status: int
    body: dict[str, Any]
    # Those of its headers that say something of the request.
    headers: Mapping[str, str] = MappingProxyType({})


class Endpoints(Protocol):
    """What lines may ask: the same that clients ask live."""

    # Their paths.
    paths: tuple[str, ...]

    async def jobs_of(self, path: str, body: bytes) -> Sequence[jobs_pb2.SubmitJobRequest]:
        """Returns the jobs that a request asks for. Raises what `failure` can tell."""
        ...

    async def answer(self, path: str, body: bytes, jobs: Sequence[jobs_pb2.Job]) -> Told:
        """Returns what the endpoint answers once its jobs are final."""
        ...

    async def failure(
        self, path: str, body: bytes, error: Exception, job_ids: Sequence[str]
    ) -> Told:
        """Returns what the endpoint answers to a request when it fails so."""
        ...


class Jobs(Protocol):
    """The jobs behind lines."""

    def caller(self, batch: BatchRecord) -> Caller:
        """Returns for whom the jobs are. Raises InvalidApiKey when its key is no longer valid."""
        ...

    async def submit(
        self, name: str, requests: Sequence[jobs_pb2.SubmitJobRequest], caller: Caller
    ) -> Sequence[str]:
        """Stores jobs under a name, or finds them; returns their ids. Raises CoordinatorError."""
        ...

    def is_final(self, job_id: str) -> bool:
        """Says whether a job that is stored has ended."""
        ...

    def cancel(self, job_id: str) -> None:
        """Asks for the cancellation of a job."""
        ...

    async def read(self, job_id: str, owner: str) -> jobs_pb2.Job | None:
        """Returns a job; None when it was deleted."""
        ...

    async def forget(self, job_ids: Sequence[str]) -> None:
        """Deletes jobs that are final."""
        ...
