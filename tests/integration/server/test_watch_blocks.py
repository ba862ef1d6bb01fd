"""ExplorerService.WatchBlocks over gRPC."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from aitbc.v1 import explorer_pb2
from aitbc_server.api.errors import from_rpc_error
from tests.integration.server.harness import PATIENCE_S, Client, coordinator


async def next_block(call: Any) -> explorer_pb2.Block:
    async with asyncio.timeout(PATIENCE_S):
        block = await call.read()
    assert isinstance(block, explorer_pb2.Block)
    return block


async def answer_one(client: Client) -> None:
    async with client.miner() as miner:
        job_id = await client.submit()
        [assignment] = await miner.assignments()
        await miner.complete(assignment.lease_id)
        assert (await client.job(job_id, wait=PATIENCE_S)).receipt_id


async def test_each_new_block_is_told_once_and_in_order(tmp_path: Path) -> None:
    async with coordinator(tmp_path, ledger_block_seconds=0.1) as client:
        live = client.explorer.WatchBlocks(explorer_pb2.WatchBlocksRequest())
        # The stream has begun when its first metadata is there.
        await live.initial_metadata()
        blocks = []
        for _ in range(3):
            await answer_one(client)
            blocks.append(await next_block(live))
        assert [block.height for block in blocks] == [0, 1, 2]
        assert [block.tree_size for block in blocks] == [1, 2, 3]
        assert blocks[1].previous_hash == blocks[0].hash
        late = client.explorer.WatchBlocks(explorer_pb2.WatchBlocksRequest(after_height=0))
        assert [(await next_block(late)).height for _ in range(2)] == [1, 2]
        live.cancel()
        late.cancel()


async def test_watchers_are_told_when_the_coordinator_stops(tmp_path: Path) -> None:
    async with coordinator(tmp_path) as client:
        call = client.explorer.WatchBlocks(explorer_pb2.WatchBlocksRequest())
        await call.initial_metadata()
        stopping = asyncio.create_task(client.coordinator.stop())
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async with asyncio.timeout(PATIENCE_S):
                await call.read()
        assert from_rpc_error(ended.value).reason == "DRAINING"
        await stopping


async def test_no_receipt_is_left_unsealed_by_a_stop(tmp_path: Path) -> None:
    async with coordinator(tmp_path, ledger_block_seconds=3600) as client:
        # The first look is at the start.
        await answer_one(client)
    async with coordinator(tmp_path, ledger_block_seconds=3600) as client:
        stats = await client.explorer.GetExplorerStats(explorer_pb2.GetExplorerStatsRequest())
        assert (stats.receipts, stats.pending_receipts, stats.blocks) == (1, 0, 1)
