"""Batches: `/v1/batches`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from aitbc.v1 import batches_pb2
from aitbc_server.api.validation import rules_of
from aitbc_server.openai.batch_endpoints import BatchEndpoints
from aitbc_server.openai.call import Call
from aitbc_server.openai.calls import Calls
from aitbc_server.openai.query import BatchesQuery
from aitbc_server.openai.ruled import counted, sized
from aitbc_server.openai.schema import FEW, Schema
from aitbc_server.openai.uploads import ExpiresAfter
from aitbc_server.rest.backend import Backend

_METHODS = batches_pb2.DESCRIPTOR.services_by_name["BatchService"].methods_by_name
_CREATE = batches_pb2.CreateBatchRequest.DESCRIPTOR
_WINDOW = rules_of(_CREATE.fields_by_name["completion_window"]).pattern
_TIMES = (
    *("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at"),
    *("cancelling_at", "cancelled_at"),
)
_Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Value = Annotated[str, sized(_CREATE, "metadata")]


class BatchRequest(Schema):
    """The body of a request."""

    input_file_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    # Which there are, the coordinator says: this may be a gateway of another version.
    endpoint: Annotated[
        str,
        StringConstraints(min_length=1, max_length=64),
        Field(json_schema_extra={"enum": list(BatchEndpoints.paths)}),
    ]
    completion_window: Annotated[str, StringConstraints(max_length=8, pattern=f"^(?:{_WINDOW})$")]
    metadata: Annotated[dict[_Key, _Value], counted(_CREATE, "metadata"), FEW] = Field(default={})
    output_expires_after: ExpiresAfter | None = None


class Batches:
    """Answers the requests about batches."""

    def __init__(self, backend: Backend) -> None:
        self._calls = Calls(backend)

    async def create(self, call: Call) -> None:
        """Begins a batch."""
        await self._calls.admit(_METHODS["CreateBatch"], call.client)
        asked = await call.read(BatchRequest, await call.body())
        expiry = asked.output_expires_after
        request = batches_pb2.CreateBatchRequest(
            input_file_id=asked.input_file_id,
            endpoint=asked.endpoint,
            completion_window=asked.completion_window,
            metadata=asked.metadata,
            output_expires_after_seconds=None if expiry is None else expiry.seconds,
        )
        await call.answer(
            _batch(await self._calls.call(_METHODS["CreateBatch"], request, call.client))
        )

    async def list(self, call: Call) -> None:
        """Answers with batches of the caller."""
        query: BatchesQuery = call.query
        request = batches_pb2.ListBatchesRequest(limit=query.limit, after=query.after)
        listed = await self._calls.call(_METHODS["ListBatches"], request, call.client)
        batches = [_batch(batch) for batch in listed.batches]
        await call.answer(
            {
                "object": "list",
                "data": batches,
                "first_id": batches[0]["id"] if batches else None,
                "last_id": batches[-1]["id"] if batches else None,
                "has_more": listed.has_more,
            }
        )

    async def get(self, call: Call, batch_id: str) -> None:
        """Answers with a batch."""
        request = batches_pb2.GetBatchRequest(batch_id=batch_id)
        await call.answer(
            _batch(await self._calls.call(_METHODS["GetBatch"], request, call.client))
        )

    async def cancel(self, call: Call, batch_id: str) -> None:
        """Cancels a batch."""
        request = batches_pb2.CancelBatchRequest(batch_id=batch_id)
        await call.answer(
            _batch(await self._calls.call(_METHODS["CancelBatch"], request, call.client))
        )


def _batch(batch: batches_pb2.Batch) -> dict[str, Any]:
    status = batches_pb2.BatchStatus.Name(batch.status).removeprefix("BATCH_STATUS_").lower()
    return {
        "id": batch.batch_id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": _errors(batch),
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": status,
        "output_file_id": batch.output_file_id or None,
        "error_file_id": batch.error_file_id or None,
        "created_at": batch.created_at.seconds,
        "expires_at": batch.expires_at.seconds,
        **{
            name: getattr(batch, name).seconds if batch.HasField(name) else None  # type: ignore[arg-type]  # a name of a time
            for name in _TIMES
        },
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
        "metadata": dict(batch.metadata) or None,
    }


def _errors(batch: batches_pb2.Batch) -> dict[str, Any] | None:
    if not batch.errors:
        return None
    told = [
        {
            "code": error.code,
            "message": error.message,
            "param": error.param or None,
            "line": error.line or None,
        }
        for error in batch.errors
    ]
    return {"object": "list", "data": told}
