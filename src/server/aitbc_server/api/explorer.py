"""ExplorerService: the ledger as everybody may see it."""

from __future__ import annotations

import asyncio
from functools import partial

from aitbc.v1 import explorer_pb2, receipts_pb2
from aitbc_server.api.convert import place_token, timestamp, token_place
from aitbc_server.api.endpoint import Messages
from aitbc_server.api.ledger_convert import (
    block_message,
    key_message,
    receipt_message,
    transaction_message,
)
from aitbc_server.api.pages import page_of
from aitbc_server.api.receipts import check_address, read_receipt
from aitbc_server.auth.shares import Shares
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import (
    BlockNotFound,
    Draining,
    InvalidArgument,
    StreamOver,
    TransactionNotFound,
)
from aitbc_server.domain.miners import MinerStatus
from aitbc_server.domain.receipts import BlockRecord, ReceiptRecord
from aitbc_server.ledger.blocks import parse_block
from aitbc_server.ledger.note import parse
from aitbc_server.ledger.receipts import miner_address
from aitbc_server.ledger.sealer import Sealer
from aitbc_server.store.ledger import StoredLedger
from aitbc_server.store.ledger_reads import END, LedgerReads
from aitbc_server.store.seam import Store

_PAGE = 20
_MINUTES = 60
_MINUTE_US = 60_000_000
# Blocks that a watcher who begins long ago is told of at once.
_CATCH_UP = 100
# Watches of blocks, which anybody may open: of each caller, of all, and how long they last.
_WATCHES = 100
_ALL_WATCHES = 2000
_WATCH_S = 3600.0


class ExplorerService:
    """Implements aitbc.v1.ExplorerService."""

    descriptor = explorer_pb2.DESCRIPTOR.services_by_name["ExplorerService"]

    def __init__(
        self, ledger: StoredLedger, sealer: Sealer, store: Store, dispatcher: Dispatcher
    ) -> None:
        self._ledger = ledger
        self._sealer = sealer
        self._store = store
        self._dispatcher = dispatcher
        self._watches = Shares(
            "watches of blocks", each=_WATCHES, visitors=_ALL_WATCHES, total=_ALL_WATCHES
        )

    # Blocks

    async def list_blocks(
        self, request: explorer_pb2.ListBlocksRequest, caller: Caller
    ) -> explorer_pb2.ListBlocksResponse:
        """Returns a page of blocks."""
        before = token_place(request.page_token)
        limit = request.limit if request.HasField("limit") else _PAGE

        def query(reads: LedgerReads) -> list[explorer_pb2.Block]:
            if request.hash:
                block = reads.block_by_hash(bytes.fromhex(request.hash))
                return _block_messages(reads, [block] if block else [])
            # One more, from which the last one's number of receipts is counted.
            return _block_messages(reads, reads.blocks(before, limit + 1))

        blocks = await self._ledger.read(query)
        page = page_of(blocks, limit, lambda block: block)
        return explorer_pb2.ListBlocksResponse(
            blocks=page.items,
            next_page_token=place_token(page.last.height) if page.last else "",
        )

    async def get_block(
        self, request: explorer_pb2.GetBlockRequest, caller: Caller
    ) -> explorer_pb2.Block:
        """Returns a block."""

        def query(reads: LedgerReads) -> list[explorer_pb2.Block]:
            block = reads.block(request.height)
            return _block_messages(reads, [block] if block else [])

        blocks = await self._ledger.read(query)
        if not blocks:
            raise BlockNotFound
        return blocks[0]

    async def watch_blocks(
        self, request: explorer_pb2.WatchBlocksRequest, caller: Caller
    ) -> Messages:
        """Returns the blocks that are sealed from now on, or from a height on."""
        height = request.after_height if request.HasField("after_height") else None
        if height is None:
            last = await self._ledger.read(lambda reads: reads.last_block())
            height = last.height if last else -1
        self._watches.check(caller)
        return self._blocks_after(height, caller)

    async def _blocks_after(self, height: int, caller: Caller) -> Messages:
        with self._watches.held(caller):
            over = asyncio.get_running_loop().time() + _WATCH_S
            while not self._sealer.is_closed:
                blocks = await self._ledger.read(partial(_blocks_after, height=height))
                for block in blocks:
                    yield block
                    height = block.height
                if len(blocks) < _CATCH_UP:
                    await self._wait_beyond(height, over)
        raise Draining(retry_after_s=1)

    async def _wait_beyond(self, height: int, over: float) -> None:
        try:
            async with asyncio.timeout_at(over):
                await self._sealer.wait_beyond(height)
        except TimeoutError:
            raise StreamOver(retry_after_s=1) from None

    # Transactions and receipts

    async def list_transactions(
        self, request: explorer_pb2.ListTransactionsRequest, caller: Caller
    ) -> explorer_pb2.ListTransactionsResponse:
        """Returns a page of transactions."""
        check_address("address", request.address)
        limit = request.limit if request.HasField("limit") else _PAGE
        records = await self._receipts(
            address=request.address, page_token=request.page_token, limit=limit
        )
        page = page_of(records, limit, transaction_message)
        return explorer_pb2.ListTransactionsResponse(
            transactions=page.items,
            next_page_token=place_token(page.last.leaf_index) if page.last else "",
        )

    async def get_transaction(
        self, request: explorer_pb2.GetTransactionRequest, caller: Caller
    ) -> explorer_pb2.Transaction:
        """Returns a transaction."""
        leaf_hash = bytes.fromhex(request.hash)
        record = await self._ledger.read(lambda reads: reads.receipt_by_hash(leaf_hash))
        if record is None:
            raise TransactionNotFound
        return transaction_message(record)

    async def list_public_receipts(
        self, request: explorer_pb2.ListPublicReceiptsRequest, caller: Caller
    ) -> explorer_pb2.ListPublicReceiptsResponse:
        """Returns a page of receipts."""
        check_address("address", request.address)
        limit = request.limit if request.HasField("limit") else _PAGE
        records = await self._receipts(
            address=request.address,
            miner_id=request.miner_id,
            height=request.block_height if request.HasField("block_height") else None,
            page_token=request.page_token,
            limit=limit,
        )
        page = page_of(records, limit, receipt_message)
        return explorer_pb2.ListPublicReceiptsResponse(
            receipts=page.items,
            next_page_token=place_token(page.last.leaf_index) if page.last else "",
        )

    async def get_public_receipt(
        self, request: explorer_pb2.GetPublicReceiptRequest, caller: Caller
    ) -> receipts_pb2.Receipt:
        """Returns a receipt."""
        return await read_receipt(self._ledger, request.receipt_id)

    async def _receipts(
        self,
        *,
        page_token: str,
        limit: int,
        address: str = "",
        miner_id: str = "",
        height: int | None = None,
    ) -> list[ReceiptRecord]:
        before = token_place(page_token)
        miner = miner_address(miner_id) if miner_id else None

        def query(reads: LedgerReads) -> list[ReceiptRecord]:
            first, end = (0, before) if height is None else _leaves_of(reads, height)
            end = min(before, end)
            if address and miner is None:
                return reads.receipts_of(address, first=first, before=end, limit=limit + 1)
            # Of a miner's receipts, its own address is paid by all, and any other one pays some.
            client = address if address and address != miner else None
            return reads.receipts(
                first=first, before=end, limit=limit + 1, client=client, miner=miner
            )

        return await self._ledger.read(query)

    # The whole

    async def get_consistency_proof(
        self, request: explorer_pb2.GetConsistencyProofRequest, caller: Caller
    ) -> explorer_pb2.ConsistencyProof:
        """Returns the proof that the ledger only grew from one block to another."""
        to_height = request.to_height if request.HasField("to_height") else None

        def query(reads: LedgerReads) -> explorer_pb2.ConsistencyProof | None:
            old = reads.block(request.from_height)
            new = reads.last_block() if to_height is None else reads.block(to_height)
            if old is None or new is None:
                return None
            if new.height < old.height:
                raise InvalidArgument("to_height", "must not be below from_height")
            return explorer_pb2.ConsistencyProof(
                from_size=old.tree_size,
                from_root=_root(old),
                to_size=new.tree_size,
                to_root=_root(new),
                path=[hash_.hex() for hash_ in reads.consistency(old.tree_size, new.tree_size)],
            )

        proof = await self._ledger.read(query)
        if proof is None:
            raise BlockNotFound
        return proof

    async def list_ledger_keys(
        self, request: explorer_pb2.ListLedgerKeysRequest, caller: Caller
    ) -> explorer_pb2.ListLedgerKeysResponse:
        """Returns the keys that signed the ledger."""
        origin = self._ledger.origin
        keys = await self._ledger.read(LedgerReads.signing_keys)
        return explorer_pb2.ListLedgerKeysResponse(
            origin=origin, keys=[key_message(key, origin) for key in keys]
        )

    async def get_explorer_stats(
        self, request: explorer_pb2.GetExplorerStatsRequest, caller: Caller
    ) -> explorer_pb2.ExplorerStats:
        """Counts what the ledger holds and what the network does."""
        core, registry, now = (
            self._dispatcher.core,
            self._dispatcher.registry,
            self._dispatcher.now(),
        )
        minute = now.wall_us // _MINUTE_US
        first = minute - _MINUTES + 1

        def query(
            reads: LedgerReads,
        ) -> tuple[int, list[explorer_pb2.Block], dict[int, tuple[int, int]]]:
            counted = {at: (jobs, tokens) for at, jobs, tokens in reads.minutes(first)}
            return reads.size(), _block_messages(reads, reads.blocks(END, 2)), counted

        size, blocks, counted = await self._ledger.read(query)
        totals = await self._store.totals()
        last = blocks[0] if blocks else None
        running = core.leases.by_model
        # Jobs are kept in the order in which they came.
        waiting = next((job for job in core.jobs.values() if job.lease is None), None)
        return explorer_pb2.ExplorerStats(
            blocks=last.height + 1 if last else 0,
            receipts=size,
            pending_receipts=size - (last.tree_size if last else 0),
            latest_block=last,
            pending_jobs=len(core.jobs) - len(core.leases.by_id),
            running_jobs=len(core.leases.by_id),
            completed_jobs=totals.completed,
            tokens=totals.prompt_tokens + totals.completion_tokens,
            online_miners=registry.counts(now)[MinerStatus.ONLINE],
            queue_age_seconds=(
                max(0, now.wall_us - waiting.created_us) / 1e6 if waiting is not None else 0.0
            ),
            minutes=[_minute(at, *counted.get(at, (0, 0))) for at in range(first, minute + 1)],
            models=[
                explorer_pb2.ExplorerModelStats(
                    model=model,
                    pending_jobs=core.live_by_model[model] - running[model],
                    running_jobs=running[model],
                    miners=miners,
                )
                for model, miners in core.sessions.census.models(now).items()
            ],
        )


def _minute(minute: int, jobs: int, tokens: int) -> explorer_pb2.MinuteStats:
    return explorer_pb2.MinuteStats(time=timestamp(minute * _MINUTE_US), jobs=jobs, tokens=tokens)


def _block_messages(reads: LedgerReads, records: list[BlockRecord]) -> list[explorer_pb2.Block]:
    """Returns blocks of which each is the one before of the one ahead of it."""
    keys = reads.signing_keys()
    blocks = []
    for at, record in enumerate(records):
        before = records[at + 1] if at + 1 < len(records) else reads.block(record.height - 1)
        blocks.append(block_message(record, before, keys))
    return blocks


def _blocks_after(reads: LedgerReads, height: int) -> list[explorer_pb2.Block]:
    records = reads.blocks_after(height, _CATCH_UP)
    return _block_messages(reads, records[::-1])[::-1]


def _leaves_of(reads: LedgerReads, height: int) -> tuple[int, int]:
    block = reads.block(height)
    if block is None:
        raise BlockNotFound
    before = reads.block(height - 1)
    return before.tree_size if before else 0, block.tree_size


def _root(block: BlockRecord) -> str:
    return parse_block(parse(block.note).text).root.hex()
