"""A client of an AITBC coordinator: gRPC underneath, for threads and for asyncio.

with Client("127.0.0.1:50051") as client:
    print(client.run("Explain quantum computing", model="llama3.2").result)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        EventType,
        Failure,
        Job,
        JobEvent,
        JobStatus,
        Message,
        Miner,
        MinerStatus,
        Params,
        Submitted,
        Usage,
    )
    from aitbc_client.receipts import Check, Outcome, Receipt

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

# Where the names are, and last those that load gRPC.
_MODULES = ("models", "errors", "connection", "receipts", "client", "aio")


if not TYPE_CHECKING:  # where it would stand for any name

    def __getattr__(name: str) -> object:
        # Each is loaded when it is asked for, so that the command's help does not wait for gRPC.
        if name in __all__:
            for module in _MODULES:
                found = vars(import_module(f"{__name__}.{module}"))
                if name in found:
                    return found[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
