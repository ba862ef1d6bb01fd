"""BatchService: batches of requests, which their runner runs."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from typing import Protocol

from aitbc.v1 import batches_pb2
from aitbc_server.api.convert import timestamp
from aitbc_server.api.pages import page_of
from aitbc_server.domain.batches import (
    BatchFault,
    BatchRecord,
    BatchStatus,
    Refused,
    batch_id_of,
)
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    BatchAlreadyFinal,
    BatchNotFound,
    FileNotFound,
    InvalidArgument,
    TooManyBatches,
)
from aitbc_server.domain.ids import IdSource
from aitbc_server.lifecycle import Lifecycle

_PAGE = 20
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_KEY_LENGTH = 64

_STATUS_TO_PROTO = {
    status: batches_pb2.BatchStatus.Value(f"BATCH_STATUS_{status.name}") for status in BatchStatus
}


class BatchStore(Protocol):
    """What the service needs of storage. Each method raises StorageUnavailable."""

    def add(self, batch: BatchRecord, most: int) -> Future[Refused | None]:
        """Stores a batch whose owner may have so many under way; says why not."""
        ...

    def batch(self, batch_id: str) -> Future[BatchRecord | None]:
        """Returns a batch."""
        ...

    def batches(
        self, owner: str, *, limit: int, after: str | None = None
    ) -> Future[list[BatchRecord]]:
        """Returns a page of an owner's batches, the newest first."""
        ...

    def cancel(self, batch_id: str, now_us: int, faults: Sequence[BatchFault] = ()) -> Future[bool]:
        """Notes that a batch is to be cancelled; False when it is, or has ended."""
        ...


class BatchService:
    """Implements aitbc.v1.BatchService."""

    descriptor = batches_pb2.DESCRIPTOR.services_by_name["BatchService"]

    def __init__(
        self,
        store: BatchStore,
        clock: Clock,
        ids: IdSource,
        lifecycle: Lifecycle,
        *,
        endpoints: Sequence[str],
        most_each: int,
    ) -> None:
        """`endpoints`: what lines may ask; `most_each`: batches under way of one owner."""
        self._store = store
        self._endpoints = endpoints
        self._clock = clock
        self._ids = ids
        self._lifecycle = lifecycle
        self._most_each = most_each

    async def create_batch(
        self, request: batches_pb2.CreateBatchRequest, caller: Caller
    ) -> batches_pb2.Batch:
        """Stores a batch and begins to run it."""
        self._lifecycle.check_serving()
        if request.endpoint not in self._endpoints:
            known = ", ".join(self._endpoints)
            raise InvalidArgument("endpoint", f"must be one of {known}")
        if any(len(key) > _KEY_LENGTH or not key for key in request.metadata):
            raise InvalidArgument("metadata", f"keys must have 1 to {_KEY_LENGTH} characters")
        now_us = self._clock.wall_us()
        keeps = request.HasField("output_expires_after_seconds")
        batch = BatchRecord(
            batch_id=batch_id_of(self._ids.ulid(now_us)),
            owner=caller.owner,
            account=caller.account,
            key_id=caller.key_id,
            endpoint=request.endpoint,
            input_file_id=request.input_file_id,
            completion_window=request.completion_window,
            created_us=now_us,
            expires_us=now_us + _window_s(request.completion_window) * 1_000_000,
            metadata=dict(request.metadata),
            keep_output_s=request.output_expires_after_seconds if keeps else None,
        )
        refused = await self._store.add(batch, self._most_each)
        if refused is Refused.NO_FILE:
            raise FileNotFound(f"there is no finished file {batch.input_file_id} of purpose batch")
        if refused is Refused.TOO_MANY:
            raise TooManyBatches(f"{self._most_each} of your batches have not ended")
        return batch_message(batch)

    async def get_batch(
        self, request: batches_pb2.GetBatchRequest, caller: Caller
    ) -> batches_pb2.Batch:
        """Returns a batch."""
        return batch_message(await self._own(request.batch_id, caller))

    async def list_batches(
        self, request: batches_pb2.ListBatchesRequest, caller: Caller
    ) -> batches_pb2.ListBatchesResponse:
        """Returns a page of the caller's batches."""
        limit = request.limit if request.HasField("limit") else _PAGE
        if request.after:
            await self._own(request.after, caller)
        found = await self._store.batches(
            caller.owner, limit=limit + 1, after=request.after or None
        )
        page = page_of(found, limit, batch_message)
        return batches_pb2.ListBatchesResponse(batches=page.items, has_more=page.last is not None)

    async def cancel_batch(
        self, request: batches_pb2.CancelBatchRequest, caller: Caller
    ) -> batches_pb2.Batch:
        """Cancels a batch."""
        self._lifecycle.check_serving()
        batch = await self._own(request.batch_id, caller)
        await self._store.cancel(batch.batch_id, self._clock.wall_us())
        batch = await self._own(request.batch_id, caller)
        # Asked for twice, it is cancelled once.
        if batch.status not in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
            raise BatchAlreadyFinal(f"the batch is {batch.status} already")
        return batch_message(batch)

    async def _own(self, batch_id: str, caller: Caller) -> BatchRecord:
        batch = await self._store.batch(batch_id)
        if batch is None or not caller.owns(batch.owner):
            raise BatchNotFound
        return batch


def _window_s(window: str) -> int:
    return int(window[:-1]) * _UNITS_S[window[-1]]


def batch_message(batch: BatchRecord) -> batches_pb2.Batch:
    """Returns a batch as its owner sees it."""
    message = batches_pb2.Batch(
        batch_id=batch.batch_id,
        endpoint=batch.endpoint,
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=_STATUS_TO_PROTO[batch.status],
        errors=[
            batches_pb2.BatchError(
                code=fault.code,
                message=fault.message,
                param=fault.param or "",
                line=fault.line or 0,
            )
            for fault in batch.faults
        ],
        total=batch.total,
        completed=batch.completed,
        failed=batch.failed,
        prompt_tokens=batch.prompt_tokens,
        completion_tokens=batch.completion_tokens,
        metadata=batch.metadata,
        created_at=timestamp(batch.created_us),
        expires_at=timestamp(batch.expires_us),
    )
    if batch.in_progress_us is not None:
        message.in_progress_at.CopyFrom(timestamp(batch.in_progress_us))
    if batch.cancelling_us is not None:
        message.cancelling_at.CopyFrom(timestamp(batch.cancelling_us))
    if batch.ended_us is not None:
        ended = timestamp(batch.ended_us)
        getattr(message, f"{batch.status}_at").CopyFrom(ended)
        if batch.status is BatchStatus.COMPLETED:
            message.finalizing_at.CopyFrom(ended)
        message.output_file_id = batch.output_file_id or ""
        message.error_file_id = batch.error_file_id or ""
    return message
