"""A valid request of every method, about what client A and miner A own.

Whatever a call uses up is made anew for each, by its owner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from google.protobuf.message import Message

from aitbc.v1 import (
    batches_pb2,
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
    witnesses_pb2,
    work_pb2,
)
from tests.integration.server.harness import Client

MINER = "miner-a"
# No miner serves it: its jobs wait.
MODEL = "unserved"
_NO_RECEIPT = "rcpt-01kfr0000000000000000000aa"


class World:
    """What the two owners have, and makes more of it."""

    def __init__(self, client: Client, client_key: str, miner_key: str) -> None:
        self._client = client
        self._as_client = (("x-api-key", client_key),)
        self._as_miner = (("x-api-key", miner_key),)

    async def registered(self, miner_id: str) -> None:
        """Registers a miner of miner A's key."""
        request = miners_pb2.RegisterMinerRequest(miner_id=miner_id, capabilities=[MODEL])
        await self._client.miners.RegisterMiner(request, metadata=self._as_miner)

    async def job(self) -> str:
        """Returns a new pending job of client A."""
        request = jobs_pb2.SubmitJobRequest(prompt="hello", model=MODEL)
        return (await self._client.jobs.SubmitJob(request, metadata=self._as_client)).job_id

    async def final(self) -> str:
        """Returns a new job of client A that was cancelled."""
        request = jobs_pb2.CancelJobRequest(job_id=await self.job())
        return (await self._client.jobs.CancelJob(request, metadata=self._as_client)).job_id

    async def claimed(self) -> str:
        """Returns a new job of client A that miner A runs."""
        request = jobs_pb2.ClaimJobRequest(job_id=await self.job(), miner_id=MINER)
        return (await self._client.jobs.ClaimJob(request, metadata=self._as_miner)).job_id

    async def webhook(self) -> str:
        """Returns a new webhook of client A, whose receiver is not there."""
        request = webhooks_pb2.CreateWebhookRequest(
            url="http://127.0.0.1:9/", events=["job.completed"]
        )
        made = await self._client.webhooks.CreateWebhook(request, metadata=self._as_client)
        return str(made.webhook_id)

    async def file(self) -> str:
        """Returns a new file of client A that is not finished, and has one byte."""
        request = batches_pb2.CreateFileRequest(
            filename="f", purpose=batches_pb2.FILE_PURPOSE_BATCH
        )
        made = await self._client.files.CreateFile(request, metadata=self._as_client)
        part = batches_pb2.AppendFileRequest(file_id=made.file_id, content=b"x")
        await self._client.files.AppendFile(part, metadata=self._as_client)
        return str(made.file_id)

    async def finished(self) -> str:
        """Returns a new file of client A."""
        request = batches_pb2.FinishFileRequest(file_id=await self.file(), bytes=1)
        made = await self._client.files.FinishFile(request, metadata=self._as_client)
        return str(made.file_id)

    async def batch(self) -> str:
        """Returns a new batch of client A, which does not end: nobody answers its line."""
        line = {"custom_id": "1", "method": "POST", "url": "/v1/completions"}
        content = orjson.dumps({**line, "body": {"model": MODEL, "prompt": "hello"}})
        file = await self._client.files.CreateFile(
            batches_pb2.CreateFileRequest(filename="f", purpose=batches_pb2.FILE_PURPOSE_BATCH),
            metadata=self._as_client,
        )
        part = batches_pb2.AppendFileRequest(file_id=file.file_id, content=content)
        await self._client.files.AppendFile(part, metadata=self._as_client)
        finish = batches_pb2.FinishFileRequest(file_id=file.file_id, bytes=len(content))
        await self._client.files.FinishFile(finish, metadata=self._as_client)
        request = batches_pb2.CreateBatchRequest(
            input_file_id=file.file_id, endpoint="/v1/completions", completion_window="24h"
        )
        made = await self._client.batches.CreateBatch(request, metadata=self._as_client)
        return str(made.batch_id)

    async def delivery(self) -> tuple[str, str]:
        """Returns a new webhook of client A and a delivery to it."""
        webhook_id = await self.webhook()
        request = webhooks_pb2.TestWebhookRequest(webhook_id=webhook_id)
        made = await self._client.webhooks.TestWebhook(request, metadata=self._as_client)
        return webhook_id, made.delivery_id


Build = Callable[[World], Awaitable[Message]]


def _plain(message: Message) -> Build:
    async def build(_: World) -> Message:
        return message

    return build


def _of_job(kind: Callable[..., Message], **fields: Any) -> Build:
    async def build(world: World) -> Message:
        return kind(job_id=await world.job(), **fields)

    return build


def _of_final(kind: Callable[..., Message]) -> Build:
    async def build(world: World) -> Message:
        return kind(job_id=await world.final())

    return build


def _of_claim(kind: Callable[..., Message], **fields: Any) -> Build:
    async def build(world: World) -> Message:
        return kind(job_id=await world.claimed(), miner_id=MINER, **fields)

    return build


async def _of_gone_miner(world: World) -> Message:
    await world.registered("miner-gone")
    return miners_pb2.DeleteMinerRequest(miner_id="miner-gone")


def _of_webhook(kind: Callable[..., Message], **fields: Any) -> Build:
    async def build(world: World) -> Message:
        return kind(webhook_id=await world.webhook(), **fields)

    return build


def _of_file(kind: Callable[..., Message], **fields: Any) -> Build:
    async def build(world: World) -> Message:
        return kind(file_id=await world.file(), **fields)

    return build


def _of_finished(kind: Callable[..., Message], name: str = "file_id", **fields: Any) -> Build:
    async def build(world: World) -> Message:
        return kind(**{name: await world.finished()}, **fields)

    return build


def _of_batch(kind: Callable[..., Message]) -> Build:
    async def build(world: World) -> Message:
        return kind(batch_id=await world.batch())

    return build


def _of_delivery(kind: Callable[..., Message]) -> Build:
    async def build(world: World) -> Message:
        webhook_id, delivery_id = await world.delivery()
        return kind(webhook_id=webhook_id, delivery_id=delivery_id)

    return build


_JOB = jobs_pb2.SubmitJobRequest(prompt="hello", model=MODEL)
_HELLO = work_pb2.Hello(
    miner_id=MINER, models=[MODEL], capacity=work_pb2.Capacity(max_outstanding_jobs=0)
)

REQUESTS: dict[str, Build] = {
    "JobService.SubmitJob": _plain(_JOB),
    "JobService.BatchSubmitJobs": _plain(jobs_pb2.BatchSubmitJobsRequest(jobs=[_JOB])),
    "JobService.RunJob": _plain(_JOB),
    "JobService.GetJob": _of_job(jobs_pb2.GetJobRequest),
    "JobService.StreamJob": _of_job(jobs_pb2.StreamJobRequest),
    "JobService.ListJobs": _plain(jobs_pb2.ListJobsRequest()),
    "JobService.CancelJob": _of_job(jobs_pb2.CancelJobRequest),
    "JobService.DeleteJob": _of_final(jobs_pb2.DeleteJobRequest),
    "JobService.GetJobQueue": _of_job(jobs_pb2.GetJobQueueRequest),
    "JobService.ListAvailableJobs": _plain(jobs_pb2.ListAvailableJobsRequest(miner_id=MINER)),
    "JobService.ClaimJob": _of_job(jobs_pb2.ClaimJobRequest, miner_id=MINER),
    "JobService.CompleteJob": _of_claim(jobs_pb2.CompleteJobRequest, result="done"),
    "JobService.FailJob": _of_claim(jobs_pb2.FailJobRequest, error="it broke"),
    "JobService.ExtendLease": _of_claim(jobs_pb2.ExtendLeaseRequest),
    "MinerService.RegisterMiner": _plain(
        miners_pb2.RegisterMinerRequest(miner_id=MINER, capabilities=[MODEL])
    ),
    "MinerService.Work": _plain(work_pb2.MinerMessage(hello=_HELLO)),
    "MinerService.GetMiner": _plain(miners_pb2.GetMinerRequest(miner_id=MINER)),
    "MinerService.ListMiners": _plain(miners_pb2.ListMinersRequest()),
    "MinerService.DeleteMiner": _of_gone_miner,
    "MinerService.DrainMiner": _plain(miners_pb2.DrainMinerRequest(miner_id="miner-c")),
    "MinerService.ResumeMiner": _plain(miners_pb2.ResumeMinerRequest(miner_id="miner-c")),
    "NetworkService.GetHealth": _plain(network_pb2.GetHealthRequest()),
    "NetworkService.GetStats": _plain(network_pb2.GetStatsRequest()),
    "WebhookService.CreateWebhook": _plain(
        webhooks_pb2.CreateWebhookRequest(url="http://127.0.0.1:9/", events=["job.failed"])
    ),
    "WebhookService.ListWebhooks": _plain(webhooks_pb2.ListWebhooksRequest()),
    "WebhookService.GetWebhook": _of_webhook(webhooks_pb2.GetWebhookRequest),
    "WebhookService.UpdateWebhook": _of_webhook(webhooks_pb2.UpdateWebhookRequest, enabled=True),
    "WebhookService.DeleteWebhook": _of_webhook(webhooks_pb2.DeleteWebhookRequest),
    "WebhookService.RotateWebhookSecret": _of_webhook(webhooks_pb2.RotateWebhookSecretRequest),
    "WebhookService.TestWebhook": _of_webhook(webhooks_pb2.TestWebhookRequest),
    "WebhookService.ListDeliveries": _of_webhook(webhooks_pb2.ListDeliveriesRequest),
    "WebhookService.GetDelivery": _of_delivery(webhooks_pb2.GetDeliveryRequest),
    "WebhookService.RedeliverDelivery": _of_delivery(webhooks_pb2.RedeliverDeliveryRequest),
    "FileService.CreateFile": _plain(
        batches_pb2.CreateFileRequest(filename="f", purpose=batches_pb2.FILE_PURPOSE_BATCH)
    ),
    "FileService.AppendFile": _of_file(batches_pb2.AppendFileRequest, offset=1, content=b"y"),
    "FileService.FinishFile": _of_file(batches_pb2.FinishFileRequest, bytes=1),
    "FileService.GetFile": _of_file(batches_pb2.GetFileRequest),
    "FileService.ListFiles": _plain(batches_pb2.ListFilesRequest()),
    "FileService.ReadFile": _of_finished(batches_pb2.ReadFileRequest),
    "FileService.DeleteFile": _of_finished(batches_pb2.DeleteFileRequest),
    "BatchService.CreateBatch": _of_finished(
        batches_pb2.CreateBatchRequest,
        "input_file_id",
        endpoint="/v1/completions",
        completion_window="24h",
    ),
    "BatchService.GetBatch": _of_batch(batches_pb2.GetBatchRequest),
    "BatchService.ListBatches": _plain(batches_pb2.ListBatchesRequest()),
    "BatchService.CancelBatch": _of_batch(batches_pb2.CancelBatchRequest),
    "UsageService.GetUsage": _plain(usage_pb2.GetUsageRequest()),
    "ReceiptService.GetReceipt": _plain(receipts_pb2.GetReceiptRequest(receipt_id=_NO_RECEIPT)),
    "ReceiptService.ListReceipts": _plain(receipts_pb2.ListReceiptsRequest()),
    "ReceiptService.GetReceiptProof": _plain(
        receipts_pb2.GetReceiptProofRequest(receipt_id=_NO_RECEIPT)
    ),
    "ReceiptService.VerifyReceipt": _plain(receipts_pb2.VerifyReceiptRequest()),
    "ExplorerService.ListBlocks": _plain(explorer_pb2.ListBlocksRequest()),
    "ExplorerService.GetBlock": _plain(explorer_pb2.GetBlockRequest(height=1_000_000)),
    "ExplorerService.WatchBlocks": _plain(explorer_pb2.WatchBlocksRequest()),
    "ExplorerService.ListTransactions": _plain(explorer_pb2.ListTransactionsRequest()),
    "ExplorerService.GetTransaction": _plain(explorer_pb2.GetTransactionRequest(hash="0" * 64)),
    "ExplorerService.ListPublicReceipts": _plain(explorer_pb2.ListPublicReceiptsRequest()),
    "ExplorerService.GetPublicReceipt": _plain(
        explorer_pb2.GetPublicReceiptRequest(receipt_id=_NO_RECEIPT)
    ),
    "ExplorerService.GetConsistencyProof": _plain(
        explorer_pb2.GetConsistencyProofRequest(from_height=1_000_000)
    ),
    "ExplorerService.ListLedgerKeys": _plain(explorer_pb2.ListLedgerKeysRequest()),
    "WitnessService.ListCosignatures": _plain(witnesses_pb2.ListCosignaturesRequest()),
    "WitnessService.AddCosignature": _plain(witnesses_pb2.AddCosignatureRequest(checkpoint="x")),
    "ExplorerService.GetExplorerStats": _plain(explorer_pb2.GetExplorerStatsRequest()),
}
