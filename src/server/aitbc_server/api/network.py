"""NetworkService: the health and the counts of the whole network."""

from __future__ import annotations

from aitbc.v1 import network_pb2
from aitbc_server import __version__
from aitbc_server.api.convert import TASK_TO_PROTO
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.miners import MinerStatus
from aitbc_server.lifecycle import Lifecycle
from aitbc_server.store.seam import Store


class NetworkService:
    """Implements aitbc.v1.NetworkService."""

    descriptor = network_pb2.DESCRIPTOR.services_by_name["NetworkService"]

    def __init__(self, store: Store, dispatcher: Dispatcher, lifecycle: Lifecycle) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle

    async def get_health(
        self, request: network_pb2.GetHealthRequest, caller: Caller
    ) -> network_pb2.GetHealthResponse:
        """Says that the coordinator serves; raises Starting or Draining."""
        self._lifecycle.check_serving()
        return network_pb2.GetHealthResponse(status="ok", version=__version__)

    async def get_stats(
        self, request: network_pb2.GetStatsRequest, caller: Caller
    ) -> network_pb2.GetStatsResponse:
        """Counts jobs, miners and tokens: from memory, and from totals kept as jobs end."""
        core = self._dispatcher.core
        running = core.leases.by_model
        totals = await self._store.totals()
        miners = self._dispatcher.registry.counts(self._dispatcher.now())
        census = core.sessions.census
        return network_pb2.GetStatsResponse(
            jobs=network_pb2.JobCounts(
                pending=len(core.jobs) - len(core.leases.by_id),
                running=len(core.leases.by_id),
                completed=totals.completed,
                failed=totals.failed,
                cancelled=totals.cancelled,
            ),
            miners=network_pb2.MinerCounts(
                online=miners[MinerStatus.ONLINE],
                draining=miners[MinerStatus.DRAINING],
                offline=miners[MinerStatus.OFFLINE],
            ),
            tokens=network_pb2.TokenCounts(
                prompt=totals.prompt_tokens, completion=totals.completion_tokens
            ),
            models=[
                network_pb2.ModelStats(
                    model=model,
                    pending=core.live_by_model[model] - running[model],
                    running=running[model],
                    miners=miners_of_model,
                    parent=census.parent(model),
                    max_model_len=census.max_model_len(model),
                    tasks=[TASK_TO_PROTO[task] for task in census.tasks(model)],
                )
                # No others: what clients type is nobody else's to read.
                for model, miners_of_model in census.models(self._dispatcher.now()).items()
            ],
        )
