"""The bodies of messages: the JSON of aitbc.v1.WebhookEvent, small enough for every receiver."""

from __future__ import annotations

import orjson

from aitbc.v1 import webhooks_pb2
from aitbc.v1.receipts_pb2 import Receipt
from aitbc_server.api.convert import STATUS_TO_PROTO, job_message, timestamp
from aitbc_server.domain.jobs import JobRecord, JobStatus
from aitbc_server.domain.webhooks import TEST_EVENT, Delivery
from aitbc_server.rest.codec import response_encoder

# The specification asks for less than 20 kB.
MAX_BYTES = 20_000

# What was asked for: its owner knows it.
_LEFT_OUT = ("prompt", "messages", "params", "prompt_token_ids", "inputs", "prompt_options")
# Far more than fits, where it is there at all.
_LARGE = ("logprobs", "token_ids", "prompt_details", "outputs")
# What a receipt gets when its block is sealed, and what a miner says, which may be long.
_NOT_OF_RECEIPT = (
    *("status", "block_height", "proof"),
    *("miner_statement", "is_miner_statement_verified"),
)
# What is kept when even a job without its result is too large: what tells which it was and how it
# ended.
_CORE = (
    *("job_id", "status", "model", "miner_id", "created_at", "started_at", "completed_at"),
    *("attempt", "usage", "finish_reason", "receipt_id", "error"),
)

_encode = response_encoder(webhooks_pb2.WebhookEvent.DESCRIPTOR)


def job_payload(event: str, record: JobRecord, receipt: Receipt | None = None) -> bytes:
    """Returns the message about a job that is final: the same bytes at every attempt."""
    message = webhooks_pb2.WebhookEvent(
        type=event, timestamp=timestamp(record.finished_us or 0), data=job_message(record)
    )
    if receipt is not None:
        message.receipt.CopyFrom(receipt)
        for name in _NOT_OF_RECEIPT:
            message.receipt.ClearField(name)  # type: ignore[arg-type]  # fields of Receipt
    job = message.data
    for name in _LEFT_OUT:
        job.ClearField(name)  # type: ignore[arg-type]  # fields of Job
    if len(record.details or b"") >= MAX_BYTES:
        for name in _LARGE:
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


def forgotten_payload(delivery: Delivery) -> bytes:
    """Returns the message about a job of which nothing was to be kept: that it ended, and how."""
    message = webhooks_pb2.WebhookEvent(
        type=delivery.event, timestamp=timestamp(delivery.created_us)
    )
    message.data.job_id = delivery.job_id or ""
    message.data.status = STATUS_TO_PROTO[JobStatus(delivery.event.removeprefix("job."))]
    return orjson.dumps(_encode(message))


def test_payload(now_us: int) -> bytes:
    """Returns the message of a test."""
    message = webhooks_pb2.WebhookEvent(type=TEST_EVENT, timestamp=timestamp(now_us))
    message.data.SetInParent()
    return orjson.dumps(_encode(message))
