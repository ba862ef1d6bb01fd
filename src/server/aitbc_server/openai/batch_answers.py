"""What is answered about files and batches, for the document."""

from __future__ import annotations

from typing import Literal

from aitbc_server.openai.answers import Answer, ResponseUsage


class File(Answer):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    # Absent of one that is kept until it is deleted.
    expires_at: int | None = None
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["uploaded", "processed"]
    status_details: str | None


class FileList(Answer):
    """Files."""

    object: Literal["list"]
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(Answer):
    """What became of a file."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class BatchFault(Answer):
    """Why a batch failed."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchFaults(Answer):
    """Why a batch failed: all that is known."""

    object: Literal["list"]
    data: list[BatchFault]


class RequestCounts(Answer):
    """How far a batch is."""

    total: int
    completed: int
    failed: int


class Batch(Answer):
    """A batch."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: ResponseUsage
    metadata: dict[str, str] | None


class BatchList(Answer):
    """Batches."""

    object: Literal["list"]
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool
