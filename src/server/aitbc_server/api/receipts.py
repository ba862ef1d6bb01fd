"""ReceiptService: receipts and what proves them."""

from __future__ import annotations

from collections.abc import Callable

from aitbc.v1 import jobs_pb2, receipts_pb2
from aitbc_server.api.convert import place_token, token_place
from aitbc_server.api.ledger_convert import (
    add_statement,
    check_messages,
    claim_of,
    disclose,
    proof_message,
    receipt_message,
)
from aitbc_server.api.pages import page_of
from aitbc_server.aside import by_size
from aitbc_server.domain.addresses import is_address, is_shortened
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import InvalidArgument, ReceiptNotFound, ReceiptNotSealed
from aitbc_server.domain.receipts import BatchSignature, ReceiptRecord, job_of_receipt
from aitbc_server.ledger.check import Claim, Known, check_receipt, is_valid
from aitbc_server.ledger.receipts import miner_address
from aitbc_server.store.ledger import StoredLedger
from aitbc_server.store.ledger_reads import END, LedgerReads

_PAGE = 20


class ReceiptService:
    """Implements aitbc.v1.ReceiptService."""

    descriptor = receipts_pb2.DESCRIPTOR.services_by_name["ReceiptService"]

    def __init__(
        self, ledger: StoredLedger, read_job: Callable[[str], jobs_pb2.Job], *, seal_s: float
    ) -> None:
        """`seal_s`: how long a receipt waits for its block at most.

        `read_job` reads the JSON of a job, and raises InvalidArgument for any other text.
        """
        self._ledger = ledger
        self._read_job = read_job
        self._seal_s = seal_s

    async def get_receipt(
        self, request: receipts_pb2.GetReceiptRequest, caller: Caller
    ) -> receipts_pb2.Receipt:
        """Returns a receipt, with its proof once it is sealed."""
        return await read_receipt(self._ledger, request.receipt_id, reader=caller)

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
        page = page_of(records, limit, receipt_message)
        return receipts_pb2.ListReceiptsResponse(
            receipts=page.items,
            next_page_token=place_token(page.last.leaf_index) if page.last else "",
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
        size = request.ByteSize()
        claim = await by_size(size, self._claim, request)

        def query(reads: LedgerReads) -> Known:
            return Known(
                origin=self._ledger.origin,
                keys={key.public_key for key in reads.signing_keys()},
                record=reads.receipt_by_hash(claim.leaf),
            )

        checks = await by_size(size, check_receipt, claim, await self._ledger.read(query))
        return receipts_pb2.VerifyReceiptResponse(
            valid=is_valid(checks), checks=check_messages(checks)
        )

    def _claim(self, request: receipts_pb2.VerifyReceiptRequest) -> Claim:
        job = self._read_job(request.job) if request.HasField("job") else None
        return claim_of(request, job)

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
    ledger: StoredLedger, receipt_id: str, *, reader: Caller | None = None
) -> receipts_pb2.Receipt:
    """Returns a receipt with its signature and proof, and what its reader may see beside them.

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
    receipt = receipt_message(record, signature=signature, proof=proof)
    if reader is None:
        return receipt
    if receipt.client == reader.owner:
        disclose(receipt, record)
    # It may have the hash of the result without a salt, from which a short result is guessed.
    if reader.owns(receipt.client) or record.miner_owner == reader.owner:
        add_statement(receipt, record)
    return receipt


def check_address(field: str, text: str) -> None:
    """Raises InvalidArgument when a text that is given is no address, whole or shortened."""
    if text and not is_address(text) and not is_shortened(text):
        raise InvalidArgument(field, "is not an address (ait1...), or has a typing error")
