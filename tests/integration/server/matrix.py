"""Who may call what: for every method, what each caller gets, as data.

Requests are about what client A and miner A own (see `requests.py`); an outcome is `OK`, or the
reason of the refusal. Beside the callers in a row, a key that is mistyped, revoked or expired is
`INVALID_API_KEY` for every method that is not public, and no key is `UNAUTHENTICATED` where keys
are required.
"""

from __future__ import annotations

from typing import NamedTuple

OK = "OK"
DENIED = "PERMISSION_DENIED"
UNAUTHENTICATED = "UNAUTHENTICATED"
INVALID = "INVALID_API_KEY"


class Row(NamedTuple):
    """The outcomes of one method."""

    client_a: str
    client_b: str
    miner_a: str
    miner_b: str
    admin: str
    # Without a key, in open mode on loopback.
    anonymous: str
    is_public: bool = False


def public(outcome: str = OK) -> Row:
    """Anybody, whatever key comes with the call."""
    return every_key(outcome)._replace(is_public=True)


def every_key(outcome: str = OK) -> Row:
    """Every key; what is asked for is nobody's secret."""
    return Row(outcome, outcome, outcome, outcome, outcome, outcome)


def client(others: str = OK) -> Row:
    """Clients; `others` is what those get whose object it is not."""
    return Row(OK, others, DENIED, DENIED, OK, others)


def miner(others: str) -> Row:
    """Miners; `others` is what those get whose miner it is not."""
    return Row(DENIED, DENIED, OK, others, OK, others)


def admin() -> Row:
    """Admins: nobody is one without a key."""
    return Row(DENIED, DENIED, DENIED, DENIED, OK, UNAUTHENTICATED)


_JOB, _MINER, _WEBHOOK = "JOB_NOT_FOUND", "MINER_NOT_OWNED", "WEBHOOK_NOT_FOUND"
_FILE, _BATCH = "FILE_NOT_FOUND", "BATCH_NOT_FOUND"

MATRIX = {
    "JobService.SubmitJob": client(),
    "JobService.BatchSubmitJobs": client(),
    "JobService.RunJob": client(),
    "JobService.GetJob": client(_JOB),
    "JobService.StreamJob": client(_JOB),
    "JobService.ListJobs": client(),
    "JobService.CancelJob": client(_JOB),
    "JobService.DeleteJob": client(_JOB),
    "JobService.GetJobQueue": client(_JOB),
    "JobService.ListAvailableJobs": miner(_MINER),
    "JobService.ClaimJob": miner(_MINER),
    "JobService.CompleteJob": miner(_MINER),
    "JobService.FailJob": miner(_MINER),
    "JobService.ExtendLease": miner(_MINER),
    "MinerService.RegisterMiner": miner(_MINER),
    "MinerService.Work": miner(_MINER),
    "MinerService.GetMiner": every_key(),
    "MinerService.ListMiners": every_key(),
    "MinerService.DeleteMiner": miner(_MINER),
    "MinerService.DrainMiner": admin(),
    "MinerService.ResumeMiner": admin(),
    "NetworkService.GetHealth": public(),
    "NetworkService.GetStats": public(),
    "WebhookService.CreateWebhook": client(),
    "WebhookService.ListWebhooks": client(),
    "WebhookService.GetWebhook": client(_WEBHOOK),
    "WebhookService.UpdateWebhook": client(_WEBHOOK),
    "WebhookService.DeleteWebhook": client(_WEBHOOK),
    "WebhookService.RotateWebhookSecret": client(_WEBHOOK),
    "WebhookService.TestWebhook": client(_WEBHOOK),
    "WebhookService.ListDeliveries": client(_WEBHOOK),
    "WebhookService.GetDelivery": client(_WEBHOOK),
    "WebhookService.RedeliverDelivery": client(_WEBHOOK),
    "FileService.CreateFile": client(),
    "FileService.AppendFile": client(_FILE),
    "FileService.FinishFile": client(_FILE),
    "FileService.GetFile": client(_FILE),
    "FileService.ListFiles": client(),
    "FileService.ReadFile": client(_FILE),
    "FileService.DeleteFile": client(_FILE),
    "BatchService.CreateBatch": client(_FILE)._replace(admin=_FILE),
    "BatchService.GetBatch": client(_BATCH),
    "BatchService.ListBatches": client(),
    "BatchService.CancelBatch": client(_BATCH),
    "UsageService.GetUsage": every_key(),
    "ReceiptService.GetReceipt": every_key("RECEIPT_NOT_FOUND"),
    "ReceiptService.ListReceipts": every_key(),
    "ReceiptService.GetReceiptProof": every_key("RECEIPT_NOT_FOUND"),
    "ReceiptService.VerifyReceipt": every_key("INVALID_ARGUMENT"),
    "ExplorerService.ListBlocks": public(),
    "ExplorerService.GetBlock": public("BLOCK_NOT_FOUND"),
    "ExplorerService.WatchBlocks": public(),
    "ExplorerService.ListTransactions": public(),
    "ExplorerService.GetTransaction": public("TRANSACTION_NOT_FOUND"),
    "ExplorerService.ListPublicReceipts": public(),
    "ExplorerService.GetPublicReceipt": public("RECEIPT_NOT_FOUND"),
    "ExplorerService.GetConsistencyProof": public("BLOCK_NOT_FOUND"),
    "ExplorerService.ListLedgerKeys": public(),
    "ExplorerService.GetExplorerStats": public(),
    "WitnessService.ListCosignatures": public(),
    "WitnessService.AddCosignature": public("INVALID_ARGUMENT"),
}
