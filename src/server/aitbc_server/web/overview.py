"""The first page: the network now, and in the last hour."""

from __future__ import annotations

import asyncio
import time

import structlog

from aitbc.v1 import explorer_pb2
from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.web.charts import bar_chart, curve
from aitbc_server.web.page import Page, Read, Visit
from aitbc_server.web.waits import Waits

_LOOKED_AT_EVERY_S = 5.0
_MODELS = 6
_NEWEST = 7

_log = structlog.get_logger(__name__)


class Overview:
    """The page, and the watch over the queue that one of its charts comes from."""

    def __init__(self) -> None:
        self._waits = Waits(time.monotonic())

    async def watch(self, read: Read) -> None:
        """Looks at the queue for ever."""
        while True:
            try:
                self._take(await read(explorer_pb2.GetExplorerStatsRequest()))
            except CoordinatorError as error:
                # Shown as no wait; the next look may succeed.
                _log.warning("explorer.look_failed", error=type(error).__name__)
            await asyncio.sleep(_LOOKED_AT_EVERY_S)

    async def show(self, read: Read, visit: Visit) -> Page:
        """Shows figures, charts, and the newest of the ledger."""
        stats = await read(explorer_pb2.GetExplorerStatsRequest())
        blocks = await read(explorer_pb2.ListBlocksRequest(limit=_NEWEST))
        transactions = await read(explorer_pb2.ListTransactionsRequest(limit=_NEWEST))
        self._take(stats)
        models = sorted(stats.models, key=lambda one: (-one.miners, one.model))[:_MODELS]
        return Page(
            template="overview.html",
            values={
                "stats": stats,
                "jobs": bar_chart([minute.jobs for minute in stats.minutes]),
                "tokens": bar_chart([minute.tokens for minute in stats.minutes]),
                "waits": curve(self._waits.longest_s()),
                "models": models,
                "most_miners": max((one.miners for one in models), default=0),
                "blocks": blocks.blocks,
                "transactions": transactions.transactions,
            },
        )

    def _take(self, stats: explorer_pb2.ExplorerStats) -> None:
        self._waits.take(stats.queue_age_seconds, time.monotonic())
