"""What each call asks and how its answer reads: the part that both clients share.

An operation knows no channel. Those that make something carry a `request_id`, so that every one of
them may be sent again after a failure that leaves open whether it arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import uuid4

from google.protobuf.message import Message as ProtoMessage
from google.protobuf.timestamp_pb2 import Timestamp

from aitbc.v1 import explorer_pb2, jobs_pb2, miners_pb2, receipts_pb2, witnesses_pb2
from aitbc_client.answers import job_of, miner_of, submitted_of
from aitbc_client.documents import document_of
from aitbc_client.fields import message_of
from aitbc_client.ledger import LedgerKey, ledger_key
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
    store: bool | None = None,
) -> jobs_pb2.SubmitJobRequest:
    """Returns the request for a prompt, or for a conversation.

    With `store=False` the job is forgotten a minute after its end.

    Raises WrongField, a ValueError that names the field.
    """
    fields = {
        "prompt" if isinstance(prompt, str) else "messages": prompt,
        "model": model,
        "params": params,
        "priority": priority,
        "timeout_seconds": timeout_seconds,
        "max_attempts": max_attempts,
        "request_id": request_id,
        "store": store,
    }
    return message_of(jobs_pb2.SubmitJobRequest, fields)


def submit(request: jobs_pb2.SubmitJobRequest) -> Operation[Submitted]:
    """Stores a job."""
    request.request_id = request.request_id or str(uuid4())
    return Operation(
        "/aitbc.v1.JobService/SubmitJob", request, jobs_pb2.SubmitJobResponse, submitted_of
    )


def get(job_id: str, wait_s: float = 0.0) -> Operation[Job]:
    """Gets a job, after up to `wait_s` seconds as soon as it is final."""
    wait_s = min(max(wait_s, 0.0), MAX_WAIT_S)
    request = jobs_pb2.GetJobRequest(job_id=job_id, wait=wait_s or None)
    return Operation("/aitbc.v1.JobService/GetJob", request, jobs_pb2.Job, job_of, wait_s)


def job_document(job_id: str) -> Operation[dict[str, Any]]:
    """Gets a job whole, as the REST API would show it."""
    request = jobs_pb2.GetJobRequest(job_id=job_id)
    return Operation("/aitbc.v1.JobService/GetJob", request, jobs_pb2.Job, document_of)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list has, and how much of them. A time without a zone is UTC."""

    status: JobStatus | str | None = None
    model: str | None = None
    # Stored at this time or after, and before that one.
    created_after: datetime | None = None
    created_before: datetime | None = None
    # Without what was asked and answered, which makes long lists fast.
    brief: bool = False


def jobs(which: JobFilter, token: str | None = None) -> Operation[Page[Job]]:
    """Lists a page of the caller's jobs, the newest first. Raises ValueError for the status."""
    status = which.status
    name = f"JOB_STATUS_{JobStatus(status).name}" if status else "JOB_STATUS_UNSPECIFIED"
    request = jobs_pb2.ListJobsRequest(
        status=jobs_pb2.JobStatus.Value(name),
        model=which.model or "",
        limit=_PAGE,
        page_token=token or "",
        view=jobs_pb2.JOB_VIEW_BASIC if which.brief else jobs_pb2.JOB_VIEW_FULL,
        created_after=_timestamp(which.created_after),
        created_before=_timestamp(which.created_before),
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


def ledger_chain() -> Operation[tuple[LedgerKey, ...]]:
    """Lists the ledger's keys with their endorsements, the oldest first."""
    return Operation(
        "/aitbc.v1.ExplorerService/ListLedgerKeys",
        explorer_pb2.ListLedgerKeysRequest(),
        explorer_pb2.ListLedgerKeysResponse,
        lambda response: tuple(map(ledger_key, response.keys)),
    )


def newest_checkpoint() -> Operation[str | None]:
    """Gets the newest block's checkpoint; None while there is no block."""
    return Operation(
        "/aitbc.v1.ExplorerService/ListBlocks",
        explorer_pb2.ListBlocksRequest(limit=1),
        explorer_pb2.ListBlocksResponse,
        lambda response: response.blocks[0].checkpoint if response.blocks else None,
    )


def consistency(from_height: int, to_height: int) -> Operation[tuple[bytes, ...]]:
    """Gets the proof that the ledger only grew from one block to another."""
    return Operation(
        "/aitbc.v1.ExplorerService/GetConsistencyProof",
        explorer_pb2.GetConsistencyProofRequest(from_height=from_height, to_height=to_height),
        explorer_pb2.ConsistencyProof,
        lambda response: tuple(map(bytes.fromhex, response.path)),
    )


def cosigned_checkpoints() -> Operation[tuple[str, ...]]:
    """Lists the checkpoints that witnesses cosigned."""
    return Operation(
        "/aitbc.v1.WitnessService/ListCosignatures",
        witnesses_pb2.ListCosignaturesRequest(),
        witnesses_pb2.ListCosignaturesResponse,
        lambda response: tuple(one.checkpoint for one in response.cosignatures),
    )


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def _receipt_of(message: receipts_pb2.Receipt) -> Receipt:
    return Receipt(document_of(message))
