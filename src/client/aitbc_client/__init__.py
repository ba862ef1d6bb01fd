"""A client of an AITBC coordinator: gRPC underneath, for threads and for asyncio.

with Client("127.0.0.1:50051") as client:
    print(client.run("Explain quantum computing", model="llama3.2").result)
"""

from aitbc_client.aio import AsyncClient
from aitbc_client.client import Client
from aitbc_client.connection import Connection
from aitbc_client.errors import (
    AitbcError,
    Conflict,
    DeadlineExceeded,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    JobUnsuccessful,
    LimitExceeded,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    ReceiptInvalid,
    Unavailable,
    UnexpectedAnswer,
)
from aitbc_client.models import (
    Failure,
    Job,
    JobStatus,
    Message,
    Miner,
    MinerStatus,
    Params,
    Submitted,
    Usage,
)
from aitbc_client.receipts import Check, Outcome, Receipt
from aitbc_client.streams import EventType, JobEvent

__all__ = [
    "AitbcError",
    "AsyncClient",
    "Check",
    "Client",
    "Conflict",
    "Connection",
    "DeadlineExceeded",
    "EventType",
    "Failure",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobStatus",
    "JobUnsuccessful",
    "LimitExceeded",
    "Message",
    "Miner",
    "MinerStatus",
    "NotAuthenticated",
    "NotFound",
    "NotPermitted",
    "Outcome",
    "Params",
    "Receipt",
    "ReceiptInvalid",
    "Submitted",
    "Unavailable",
    "UnexpectedAnswer",
    "Usage",
]
