"""ReceiptService: receipts and what proves them."""

from __future__ import annotations

from aitbc.v1 import receipts_pb2
from aitbc_server.api.convert import place_token, token_place
from aitbc_server.api.ledger_convert import (
    check_messages,
    claim_of,
    proof_message,
    receipt_message,
)
from aitbc_server.domain.addresses import is_address, is_shortened
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument, ReceiptNotFound, ReceiptNotSealed
from aitbc_server.domain.receipts import BatchSignature, ReceiptRecord, job_of_receipt
from aitbc_server.ledger.check import Known, check_receipt, is_valid
from aitbc_server.ledger.receipts import miner_address
from aitbc_server.store.ledger import StoredLedger
from aitbc_server.store.ledger_reads import END, LedgerReads

_PAGE = 20


class ReceiptService:
    """Implements aitbc.v1.ReceiptService."""

    descriptor = receipts_pb2.DESCRIPTOR.services_by_name["ReceiptService"]

    def __init__(self, ledger: StoredLedger, *, seal_s: float) -> None:
        """`seal_s`: how long a receipt waits for its block at most."""
        self._ledger = ledger
        self._seal_s = seal_s

    async def get_receipt(
        self, request: receipts_pb2.GetReceiptRequest, caller: Caller
    ) -> receipts_pb2.Receipt:
        """Returns a receipt, with its proof once it is sealed."""
        return await read_receipt(self._ledger, request.receipt_id, owner=caller.owner)

    async def list_receipts(
        self, request: receipts_pb2.ListReceiptsRequest, caller: Caller
    ) -> receipts_pb2.ListReceiptsResponse:
        """Returns a page of receipts."""
        check_address("client", request.client)
        before = token_place(request.page_token)
        limit = request.limit if request.HasField("limit") else _PAGE
        if request.job_id:
            return await self._of_job(request)
        since = request.since.ToMicroseconds() if request.HasField("since") else None
        until = request.until.ToMicroseconds() if request.HasField("until") else None

        def query(reads: LedgerReads) -> list[ReceiptRecord]:
            return reads.receipts(
                first=reads.first_since(since) if since is not None else 0,
                before=min(before, reads.first_since(until) if until is not None else END),
                limit=limit + 1,
                client=request.client or None,
                miner=miner_address(request.miner_id) if request.miner_id else None,
            )

        records = await self._ledger.read(query)
        page = records[:limit]
        return receipts_pb2.ListReceiptsResponse(
            receipts=[receipt_message(record) for record in page],
            next_page_token=place_token(page[-1].leaf_index) if len(records) > limit else "",
        )

    async def get_receipt_proof(
        self, request: receipts_pb2.GetReceiptProofRequest, caller: Caller
    ) -> receipts_pb2.InclusionProof:
        """Returns the proof that a receipt is in the ledger."""
        receipt = await read_receipt(self._ledger, request.receipt_id)
        if not receipt.HasField("proof"):
            raise ReceiptNotSealed(retry_after_s=self._seal_s)
        return receipt.proof

    async def verify_receipt(
        self, request: receipts_pb2.VerifyReceiptRequest, caller: Caller
    ) -> receipts_pb2.VerifyReceiptResponse:
        """Checks a receipt as its holder gives it."""
        claim = claim_of(request)

        def query(reads: LedgerReads) -> Known:
            return Known(
                origin=self._ledger.origin,
                keys={key.public_key for key in reads.signing_keys()},
                has_leaf=reads.receipt_by_hash(claim.leaf) is not None,
            )

        checks = check_receipt(claim, await self._ledger.read(query))
        return receipts_pb2.VerifyReceiptResponse(
            valid=is_valid(checks), checks=check_messages(checks)
        )

    async def _of_job(
        self, request: receipts_pb2.ListReceiptsRequest
    ) -> receipts_pb2.ListReceiptsResponse:
        record = await self._ledger.read(lambda reads: reads.receipt(request.job_id))
        receipt = receipt_message(record) if record else None
        is_asked = receipt is not None and (
            request.client in ("", receipt.client) and request.miner_id in ("", receipt.miner_id)
        )
        return receipts_pb2.ListReceiptsResponse(receipts=[receipt] if receipt and is_asked else [])


async def read_receipt(
    ledger: StoredLedger, receipt_id: str, *, owner: str | None = None
) -> receipts_pb2.Receipt:
    """Returns a receipt with its signature and proof; with its salts if the owner is its client's.

    Raises ReceiptNotFound.
    """
    job_id = job_of_receipt(receipt_id)
    if job_id is None:
        raise ReceiptNotFound

    def query(
        reads: LedgerReads,
    ) -> tuple[ReceiptRecord, BatchSignature, receipts_pb2.InclusionProof | None] | None:
        record = reads.receipt(job_id)
        if record is None:
            return None
        block = reads.block_of(record.leaf_index)
        proof = None
        if block is not None:
            path = reads.inclusion(record.leaf_index, block.tree_size)
            proof = proof_message(record, block, path)
        return record, reads.signature(record.leaf_index), proof

    found = await ledger.read(query)
    if found is None:
        raise ReceiptNotFound
    record, signature, proof = found
    receipt = receipt_message(record, signature=signature, proof=proof, is_owner=True)
    if receipt.client != owner:
        receipt.ClearField("disclosure")
    return receipt


def check_address(field: str, text: str) -> None:
    """Raises InvalidArgument when a text that is given is no address, whole or shortened."""
    if text and not is_address(text) and not is_shortened(text):
        raise InvalidArgument(field, "is not an address (ait1...), or has a typing error")
