"""The first page: the network now, and in the last hour."""

from __future__ import annotations

import asyncio
import time

import structlog

from aitbc.v1 import network_pb2
from aitbc_server.web.charts import bar_chart
from aitbc_server.web.page import Page, Read, Visit
from aitbc_server.web.pulse import Counts, Pulse

_SAMPLED_EVERY_S = 2.0
_MODELS = 8

_log = structlog.get_logger(__name__)


class Overview:
    """The page, and the watch that its charts come from."""

    def __init__(self) -> None:
        self._pulse = Pulse(time.monotonic())

    async def watch(self, read: Read) -> None:
        """Looks at the counts for ever."""
        while True:
            try:
                self._take(await read(network_pb2.GetStatsRequest()))
            except Exception as error:
                _log.warning("explorer.sample_failed", error=type(error).__name__)
            await asyncio.sleep(_SAMPLED_EVERY_S)

    async def show(self, read: Read, visit: Visit) -> Page:
        """Shows figures, charts, and the newest of the ledger."""
        stats = await read(network_pb2.GetStatsRequest())
        self._take(stats)
        minutes = self._pulse.minutes()
        models = sorted(stats.models, key=lambda one: (-one.miners, one.model))[:_MODELS]
        return Page(
            template="overview.html",
            values={
                "stats": stats,
                "jobs": bar_chart([minute.jobs for minute in minutes]),
                "tokens": bar_chart([minute.tokens for minute in minutes]),
                "models": models,
                "most_miners": max((one.miners for one in models), default=0),
            },
        )

    def _take(self, stats: network_pb2.GetStatsResponse) -> None:
        counts = Counts(
            jobs=stats.jobs.completed,
            tokens=stats.tokens.prompt + stats.tokens.completion,
        )
        self._pulse.take(counts, time.monotonic())
