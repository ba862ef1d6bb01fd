"""The composition root: builds the coordinator, and starts, drains and stops its parts in order."""

from __future__ import annotations

import asyncio
import gc
import secrets
import sys

import structlog

from aitbc_server.api.claims import ClaimService
from aitbc_server.api.convert import prompt_of_spec
from aitbc_server.api.endpoint import Service, endpoints
from aitbc_server.api.explorer import ExplorerService
from aitbc_server.api.grpc_server import GrpcServer
from aitbc_server.api.jobs import JobService
from aitbc_server.api.miners import MinerService
from aitbc_server.api.network import NetworkService
from aitbc_server.api.receipts import ReceiptService
from aitbc_server.api.usage import UsageService
from aitbc_server.api.webhooks import WebhookService
from aitbc_server.api.work import WorkStreams
from aitbc_server.auth.allowance import Allowance
from aitbc_server.auth.gate import Gate
from aitbc_server.auth.keyring import Keyring
from aitbc_server.auth.mode import AuthMode
from aitbc_server.auth.peers import Peers
from aitbc_server.clock import SystemClock
from aitbc_server.config import Settings
from aitbc_server.dispatch.live import CloseReason
from aitbc_server.dispatch.sessions import Patience
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.ids import IdSource
from aitbc_server.domain.prices import PriceTable, load_prices
from aitbc_server.ledger.sealer import Sealer
from aitbc_server.lifecycle import Lifecycle, Phase
from aitbc_server.loading import uncollected
from aitbc_server.openai.app import openai_mounts
from aitbc_server.rest.app import RestApp
from aitbc_server.rest.asgi import AsgiApp
from aitbc_server.rest.backend import LocalBackend
from aitbc_server.rest.cors import Cors
from aitbc_server.rest.ledger import ledger_mounts
from aitbc_server.rest.openapi.site import openapi_mounts
from aitbc_server.rest.server import RestServer
from aitbc_server.rest.site import Mount, Site
from aitbc_server.retention import Retention
from aitbc_server.store.ledger_writes import LedgerOptions
from aitbc_server.store.sqlite import SqliteStore
from aitbc_server.telemetry.build import Telemetry
from aitbc_server.telemetry.health import Health
from aitbc_server.telemetry.metrics import Metrics
from aitbc_server.web.explorer import Explorer
from aitbc_server.webhooks.build import build_courier, build_guard
from aitbc_server.webhooks.guard import Guard

_log = structlog.get_logger(__name__)

# A thread that waits for the interpreter's lock gets it after this long at most. The default, 5 ms,
# is what a commit would wait each time the event loop is busy.
_SWITCH_INTERVAL_S = 0.0005
# Waiting jobs are many small objects that live long and form no cycles: at the default thresholds,
# looking through them again and again took a tenth of the throughput of POST /v1/jobs.
_GC_THRESHOLDS = (50_000, 20, 50)
# How long a server waits for calls that are still being answered when everything else has ended.
_CALL_GRACE_S = 2.0


class Coordinator:
    """One coordinator process: gRPC and REST over one dispatcher and one store."""

    def __init__(self, settings: Settings) -> None:
        """Opens the store; needs a running event loop.

        Raises OSError, UnusableDatabaseError, SqliteTooOldError, and ValueError when the price
        table is wrong.
        """
        if settings.tls is not None:
            # Before anything is opened: a start that cannot succeed leaves nothing behind.
            settings.tls.read()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._settings = settings
        self._lifecycle = Lifecycle()
        clock = SystemClock()
        prices = load_prices(settings.ledger_prices) if settings.ledger_prices else PriceTable()
        self._store = _open_store(settings, prices, clock)
        self._sealer = Sealer(self._store.ledger, every_s=settings.ledger_block_seconds)
        self._retention = Retention(self._store, clock, keep_s=settings.job_retention)
        self._store.on_jobs_forgotten = self._retention.forgotten
        self._dispatcher = _dispatcher(settings, self._store, clock)
        self._keyring = Keyring(self._store.keys, clock, settings.limits)
        gate = _gate(settings, self._keyring, clock)
        self._work = WorkStreams(
            self._dispatcher,
            self._lifecycle,
            gate,
            lease_s=settings.lease_seconds,
            heartbeat_s=settings.heartbeat_seconds,
        )
        guard = build_guard(settings)
        self._courier = build_courier(
            settings, guard, self._store.webhooks, self._store, self._store.ledger, clock
        )
        self._store.on_jobs_ended = self._courier.jobs_ended
        table = endpoints(self._services(guard, clock, prices.currency))
        self._grpc = GrpcServer(
            table,
            self._work,
            gate,
            max_message_bytes=settings.max_message_bytes,
            tls=settings.tls,
        )
        self._explorer = Explorer(table, gate)
        site = self._site(LocalBackend(table, gate), gate, clock)
        self._rest = RestServer(site, tls=settings.tls, limits=settings.http_limits)

    @property
    def http_port(self) -> int:
        """Port of the REST API, once started."""
        return self._rest.port

    @property
    def grpc_port(self) -> int:
        """Port of gRPC, once started."""
        return self._grpc.port

    @property
    def metrics_port(self) -> int:
        """Port of the metrics, once started; 0 where they have none of their own."""
        return self._telemetry.port

    async def start(self) -> None:
        """Listens, takes in what is stored and serves. Raises OSError when a port is taken."""
        await self._rest.start(self._settings.http.host, self._settings.http.port)
        await self._grpc.start(self._settings.grpc)
        await self._telemetry.start()
        with uncollected():
            await self._dispatcher.start()
        self._sealer.start()
        self._explorer.start()
        await self._courier.start()
        self._keyring.start()
        self._retention.start()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        self._lifecycle.phase = Phase.SERVING
        await self._grpc.set_serving(is_serving=True)
        _log.info("coordinator.ready", jobs=len(self._dispatcher.core.jobs))

    async def drain(self) -> None:
        """Takes nothing new, and waits for running jobs as long as the settings say."""
        self._lifecycle.phase = Phase.DRAINING
        core = self._dispatcher.core
        core.is_draining = True
        await self._grpc.set_serving(is_serving=False)
        self._work.drain(self._settings.drain_seconds)
        _log.info("coordinator.draining", running=len(core.leases.by_id))
        await self._dispatcher.wait_idle(self._settings.drain_seconds)

    async def stop(self) -> None:
        """Ends the streams, whose miners keep their jobs, then the servers, then the store."""
        for session in list(self._dispatcher.core.sessions.by_miner.values()):
            self._dispatcher.close_session(session, CloseReason.DRAINING)
        self._dispatcher.release_waiters()
        self._sealer.release()
        await asyncio.gather(self._grpc.stop(_CALL_GRACE_S), self._rest.stop(_CALL_GRACE_S))
        self._explorer.stop()
        self._dispatcher.stop()
        await self._sealer.stop()
        await self._retention.stop()
        await self._courier.stop(_CALL_GRACE_S)
        await self._keyring.stop()
        await self._telemetry.stop(_CALL_GRACE_S)
        await self._store.close()
        _log.info("coordinator.stopped")

    # How it is built

    def _services(self, guard: Guard, clock: Clock, currency: str) -> list[Service]:
        settings, store, dispatcher = self._settings, self._store, self._dispatcher
        ids = IdSource(secrets.token_bytes)
        allowance = Allowance(
            dispatcher.jobs_of,
            store.usage,
            clock,
            soft_percent=settings.limit_soft_budget_percent,
        )
        return [
            JobService(store, dispatcher, clock, ids, self._lifecycle, allowance),
            ClaimService(store, dispatcher, clock, self._lifecycle),
            MinerService(dispatcher, self._lifecycle),
            UsageService(store.usage, self._keyring, clock, currency),
            NetworkService(store, dispatcher, self._lifecycle),
            ReceiptService(store.ledger, seal_s=settings.ledger_block_seconds),
            ExplorerService(store.ledger, self._sealer, store, dispatcher),
            WebhookService(
                store.webhooks,
                self._courier,
                guard,
                clock,
                ids,
                self._lifecycle,
                most_each=settings.webhook_max_per_owner,
            ),
        ]

    def _site(self, backend: LocalBackend, gate: Gate, clock: Clock) -> AsgiApp:
        """Returns all that is served over HTTP, and begins to count what it does."""
        settings, store, dispatcher = self._settings, self._store, self._dispatcher
        rest = RestApp(
            backend,
            max_body_bytes=settings.max_message_bytes,
            call_timeout_s=settings.http_call_seconds,
        )
        metrics = Metrics(
            dispatcher, store, clock, http=rest, grpc=self._grpc, webhooks=self._courier
        )
        store.watch_commits(metrics.committed)
        health = Health(self._lifecycle, store, self._grpc)
        store.watch_commits(health.committed)
        self._telemetry = Telemetry(settings, dispatcher, clock, gate, metrics, health)
        mounts = [
            *self._telemetry.mounts,
            *openai_mounts(backend, max_body_bytes=settings.max_message_bytes),
            *ledger_mounts(store.ledger),
            *self._explorer.mounts,
        ]
        is_key_required = settings.auth_mode is AuthMode.REQUIRED
        mounts += openapi_mounts(backend, is_key_required=is_key_required, beside=mounts)
        # All of it but the methods: the document is held against this.
        self.mounts: list[Mount] = mounts
        site: AsgiApp = Site(mounts, rest, rest.calls)
        return Cors(site, settings.cors_origins) if settings.cors_origins else site


def _open_store(settings: Settings, prices: PriceTable, clock: Clock) -> SqliteStore:
    return SqliteStore(
        settings.data,
        LedgerOptions(
            name=settings.ledger_name,
            prices=prices,
            block_receipts=settings.ledger_block_receipts,
            prompt_of=prompt_of_spec,
            now_us=clock.wall_us,
        ),
    )


def _dispatcher(settings: Settings, store: SqliteStore, clock: Clock) -> Dispatcher:
    return Dispatcher(
        store,
        clock,
        lease_s=settings.lease_seconds,
        patience=Patience(factor=settings.progress_factor, least_s=settings.progress_seconds),
        max_jobs=settings.max_jobs,
        spec_budget=settings.queue_memory_bytes,
        text_budget=settings.stream_memory_bytes,
    )


def _gate(settings: Settings, keyring: Keyring, clock: Clock) -> Gate:
    return Gate(
        keyring,
        clock,
        Peers(settings.limit_trusted_proxies),
        settings.limits,
        is_open=settings.auth_mode is AuthMode.OPEN,
    )
