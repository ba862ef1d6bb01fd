"""The bodies of messages: the JSON of aitbc.v1.WebhookEvent, small enough for every receiver."""

from __future__ import annotations

import orjson

from aitbc.v1 import webhooks_pb2
from aitbc.v1.receipts_pb2 import Receipt
from aitbc_server.api.convert import job_message, timestamp
from aitbc_server.domain.jobs import JobRecord
from aitbc_server.domain.webhooks import TEST_EVENT
from aitbc_server.rest.codec import encoder

# The specification asks for less than 20 kB.
MAX_BYTES = 20_000

# What was asked for: its owner knows it.
_LEFT_OUT = ("prompt", "messages", "params")
# What a receipt gets when its block is sealed.
_LATER = ("status", "block_height", "proof")
# What is kept when even a job without its result is too large: what tells which it was and how it
# ended.
_CORE = (
    *("job_id", "status", "model", "miner_id", "created_at", "started_at", "completed_at"),
    *("attempt", "usage", "finish_reason", "receipt_id", "error"),
)

_encode = encoder(webhooks_pb2.WebhookEvent.DESCRIPTOR)


def job_payload(event: str, record: JobRecord, receipt: Receipt | None = None) -> bytes:
    """Returns the message about a job that is final: the same bytes at every attempt."""
    message = webhooks_pb2.WebhookEvent(
        type=event, timestamp=timestamp(record.finished_us or 0), data=job_message(record)
    )
    if receipt is not None:
        message.receipt.CopyFrom(receipt)
        for name in _LATER:
            message.receipt.ClearField(name)  # type: ignore[arg-type]  # fields of Receipt
    job = message.data
    for name in _LEFT_OUT:
        job.ClearField(name)  # type: ignore[arg-type]  # fields of Job
    body = orjson.dumps(_encode(message))
    if len(body) >= MAX_BYTES:
        job.ClearField("result")
        body = orjson.dumps(_encode(message))
    if len(body) >= MAX_BYTES:
        for field, _ in job.ListFields():
            if field.name not in _CORE:
                job.ClearField(field.name)  # type: ignore[arg-type]
        body = orjson.dumps(_encode(message))
    return body


def test_payload(now_us: int) -> bytes:
    """Returns the message of a test."""
    message = webhooks_pb2.WebhookEvent(type=TEST_EVENT, timestamp=timestamp(now_us))
    message.data.SetInParent()
    return orjson.dumps(_encode(message))
