"""What each call asks and how its answer reads: the part that both clients share.

An operation knows no channel. Those that make something carry a `request_id`, so that every one of
them may be sent again after a failure that leaves open whether it arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import uuid4

from google.protobuf.message import Message as ProtoMessage

from aitbc.v1 import explorer_pb2, jobs_pb2, miners_pb2, receipts_pb2
from aitbc_client.answers import job_of, miner_of, submitted_of
from aitbc_client.documents import document_of
from aitbc_client.models import (
    Job,
    JobStatus,
    Message,
    Miner,
    Params,
    Submitted,
)
from aitbc_client.receipts import Receipt

T = TypeVar("T")

# Jobs that one call submits at most.
MAX_BATCH = 1000
# Longest that the coordinator holds a call that waits for a job's end.
MAX_WAIT_S = 60.0
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One unary call."""

    # Such as `/aitbc.v1.JobService/GetJob`.
    path: str
    request: ProtoMessage
    response_class: type[Any]
    read: Callable[[Any], T]
    # How long the coordinator may take before it answers at all.
    patience_s: float = 0.0

    @staticmethod
    def serialize(request: ProtoMessage) -> bytes:
        """Returns the request as it travels."""
        return request.SerializeToString()


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list."""

    items: tuple[T, ...]
    # None on the last page.
    next_token: str | None


def job_request(
    prompt: str | Sequence[Message],
    *,
    model: str,
    params: Params | None = None,
    priority: int = 0,
    timeout_seconds: int | None = None,
    max_attempts: int | None = None,
    request_id: str = "",
) -> jobs_pb2.SubmitJobRequest:
    """Returns the request for a prompt, or for a conversation. Raises ValueError, TypeError."""
    messages = () if isinstance(prompt, str) else prompt
    return jobs_pb2.SubmitJobRequest(
        prompt=prompt if isinstance(prompt, str) else None,
        messages=[jobs_pb2.ChatMessage(**message) for message in messages],
        model=model,
        params=jobs_pb2.GenerationParams(**params) if params else None,
        priority=priority,
        timeout_seconds=timeout_seconds,
        max_attempts=max_attempts,
        request_id=request_id,
    )


def submit(request: jobs_pb2.SubmitJobRequest) -> Operation[Submitted]:
    """Stores a job."""
    request.request_id = request.request_id or str(uuid4())
    return Operation(
        "/aitbc.v1.JobService/SubmitJob", request, jobs_pb2.SubmitJobResponse, submitted_of
    )


def submit_batch(
    requests: Sequence[jobs_pb2.SubmitJobRequest], request_id: str = ""
) -> Operation[tuple[Submitted, ...]]:
    """Stores up to MAX_BATCH jobs: all or none."""
    return Operation(
        "/aitbc.v1.JobService/BatchSubmitJobs",
        jobs_pb2.BatchSubmitJobsRequest(jobs=requests, request_id=request_id or str(uuid4())),
        jobs_pb2.BatchSubmitJobsResponse,
        lambda response: tuple(submitted_of(job) for job in response.jobs),
    )


def get(job_id: str, wait_s: float = 0.0) -> Operation[Job]:
    """Gets a job, after up to `wait_s` seconds as soon as it is final."""
    wait_s = min(max(wait_s, 0.0), MAX_WAIT_S)
    request = jobs_pb2.GetJobRequest(job_id=job_id, wait=wait_s or None)
    return Operation("/aitbc.v1.JobService/GetJob", request, jobs_pb2.Job, job_of, wait_s)


def cancel(job_id: str) -> Operation[Job]:
    """Cancels a job."""
    request = jobs_pb2.CancelJobRequest(job_id=job_id)
    return Operation("/aitbc.v1.JobService/CancelJob", request, jobs_pb2.Job, job_of)


def delete(job_id: str) -> Operation[None]:
    """Deletes a job that is final."""
    request = jobs_pb2.DeleteJobRequest(job_id=job_id)
    return Operation(
        "/aitbc.v1.JobService/DeleteJob", request, jobs_pb2.DeleteJobResponse, lambda _: None
    )


def jobs(
    status: JobStatus | str | None = None, model: str | None = None, token: str | None = None
) -> Operation[Page[Job]]:
    """Lists a page of the caller's jobs, the newest first. Raises ValueError for the status."""
    name = f"JOB_STATUS_{JobStatus(status).name}" if status else "JOB_STATUS_UNSPECIFIED"
    request = jobs_pb2.ListJobsRequest(
        status=jobs_pb2.JobStatus.Value(name),
        model=model or "",
        limit=_PAGE,
        page_token=token or "",
    )
    return Operation(
        "/aitbc.v1.JobService/ListJobs",
        request,
        jobs_pb2.ListJobsResponse,
        lambda page: Page(tuple(job_of(job) for job in page.jobs), page.next_page_token or None),
    )


def miners(model: str | None = None, token: str | None = None) -> Operation[Page[Miner]]:
    """Lists a page of the miners."""
    request = miners_pb2.ListMinersRequest(model=model or "", limit=_PAGE, page_token=token or "")
    return Operation(
        "/aitbc.v1.MinerService/ListMiners",
        request,
        miners_pb2.ListMinersResponse,
        lambda page: Page(
            tuple(miner_of(miner) for miner in page.miners), page.next_page_token or None
        ),
    )


def receipt(receipt_id: str) -> Operation[Receipt]:
    """Gets a receipt, with its proof once its block is sealed."""
    return Operation(
        "/aitbc.v1.ReceiptService/GetReceipt",
        receipts_pb2.GetReceiptRequest(receipt_id=receipt_id),
        receipts_pb2.Receipt,
        _receipt_of,
    )


def receipts(
    client: str = "", miner_id: str = "", job_id: str = "", token: str | None = None
) -> Operation[Page[Receipt]]:
    """Lists a page of receipts, the newest first, without their proofs."""
    request = receipts_pb2.ListReceiptsRequest(
        client=client, miner_id=miner_id, job_id=job_id, limit=_PAGE, page_token=token or ""
    )
    return Operation(
        "/aitbc.v1.ReceiptService/ListReceipts",
        request,
        receipts_pb2.ListReceiptsResponse,
        lambda page: Page(tuple(map(_receipt_of, page.receipts)), page.next_page_token or None),
    )


def ledger_keys() -> Operation[tuple[str, ...]]:
    """Lists the ledger's public keys, as verifier keys, the oldest first."""
    return Operation(
        "/aitbc.v1.ExplorerService/ListLedgerKeys",
        explorer_pb2.ListLedgerKeysRequest(),
        explorer_pb2.ListLedgerKeysResponse,
        lambda response: tuple(key.verifier_key for key in response.keys),
    )


def _receipt_of(message: receipts_pb2.Receipt) -> Receipt:
    return Receipt(document_of(message))
