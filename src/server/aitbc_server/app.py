"""The composition root: builds the coordinator, and starts, drains and stops its parts in order."""

from __future__ import annotations

import asyncio
import gc
import secrets
import sys
from typing import Any

import structlog

from aitbc_server.anthropic.app import anthropic_absent, anthropic_mounts
from aitbc_server.api.batches import BatchService
from aitbc_server.api.claims import ClaimService
from aitbc_server.api.connections import Connections
from aitbc_server.api.contents import CONTENTS
from aitbc_server.api.endpoint import Service, endpoints
from aitbc_server.api.explorer import ExplorerService
from aitbc_server.api.files import FileService
from aitbc_server.api.grpc_server import GrpcServer, most_connections
from aitbc_server.api.jobs import JobService
from aitbc_server.api.miners import MinerService
from aitbc_server.api.network import NetworkService
from aitbc_server.api.receipts import ReceiptService
from aitbc_server.api.submissions import Submissions
from aitbc_server.api.unfinished import Unfinished
from aitbc_server.api.usage import UsageService
from aitbc_server.api.webhooks import WebhookService
from aitbc_server.api.witnesses import WitnessService
from aitbc_server.api.work import WorkStreams
from aitbc_server.auth.allowance import Allowance
from aitbc_server.auth.gate import Gate
from aitbc_server.auth.keyring import Keyring
from aitbc_server.auth.lasting import Lasting
from aitbc_server.auth.mode import AuthMode
from aitbc_server.auth.peers import Peers
from aitbc_server.auth.shares import Shares
from aitbc_server.auth.unread import Unread
from aitbc_server.batches.build import build_runner, build_sweep, file_bounds
from aitbc_server.clock import SystemClock
from aitbc_server.config import Settings
from aitbc_server.connect.app import connect_mounts
from aitbc_server.dispatch.expiry import MinerExpiry
from aitbc_server.dispatch.live import CloseReason
from aitbc_server.dispatch.sessions import Patience
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.cache_salts import CacheSaltOf, cache_salts
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.ids import IdSource
from aitbc_server.domain.prices import PriceTable, load_prices
from aitbc_server.files import secret_in
from aitbc_server.ledger.sealer import Sealer
from aitbc_server.lifecycle import Lifecycle, Phase
from aitbc_server.loading import uncollected
from aitbc_server.openai.absent import openai_absent
from aitbc_server.openai.app import openai_mounts
from aitbc_server.openai.batch_endpoints import BatchEndpoints
from aitbc_server.openai.jobs import Jobs
from aitbc_server.openai.unknown import Ignorance
from aitbc_server.rest.app import RestApp
from aitbc_server.rest.asgi import AsgiApp
from aitbc_server.rest.backend import LocalBackend
from aitbc_server.rest.compression import Compressed
from aitbc_server.rest.cors import Cors
from aitbc_server.rest.job_text import job_in
from aitbc_server.rest.ledger import ledger_mounts
from aitbc_server.rest.openapi.site import openapi_mounts
from aitbc_server.rest.server import RestServer
from aitbc_server.rest.site import Mount, Site
from aitbc_server.retention import Retention
from aitbc_server.store.ledger_writes import LedgerOptions
from aitbc_server.store.sqlite import SqliteStore
from aitbc_server.supervisor import Supervisor
from aitbc_server.telemetry.build import Telemetry
from aitbc_server.telemetry.health import Health
from aitbc_server.telemetry.metrics import Metrics
from aitbc_server.telemetry.watchdog import LoopWatch
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
# gRPC calls, and streams of both ports, under way at once: of all callers without a key, and of
# all with one.
_VISITORS_CALLS = 10_000
_KEYS_CALLS = 20_000
# Work streams open at once, of all callers without a key and of all with one.
_VISITORS_STREAMS = 5_000
_KEYS_STREAMS = 20_000
# Of the secret that keeps owners apart in the caches of engines. Without it they begin anew.
_SALT_FILE = "cache-salt.key"
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
        self._unread = Unread()
        self._watch = LoopWatch(settings.loop_warn_seconds)
        self._supervisor = Supervisor()
        self._ignorance = Ignorance(is_strict=settings.openai_strict)
        clock = SystemClock()
        prices = load_prices(settings.ledger_prices) if settings.ledger_prices else PriceTable()
        self._store = _open_store(settings, prices, clock)
        self._sealer = Sealer(self._store.ledger, every_s=settings.ledger_block_seconds)
        self._retention = Retention(self._store, clock, keep_s=settings.job_retention)
        self._store.on_jobs_forgotten = self._retention.forgotten
        self._files = build_sweep(settings, self._store, clock, self._retention)
        self._dispatcher = _dispatcher(settings, self._store, clock, self._supervisor)
        self._expiry = MinerExpiry(
            self._dispatcher.expire_miners, clock, keep_s=settings.miner_retention
        )
        self._keyring = Keyring(self._store.keys, clock, settings.limits)
        gate = _gate(settings, self._keyring, clock)
        self._lasting = Lasting(self._keyring.check_live)
        salt_of = cache_salts(secret_in(settings.data / _SALT_FILE))
        self._connections = Connections(
            most=most_connections(),
            each=settings.grpc_connections_each,
            trusted=settings.limit_trusted_proxies,
        )
        self._unfinished = Unfinished(
            self._connections.received,
            each=settings.limit_work_bytes,
            message_bytes=settings.max_message_bytes,
        )
        self._work = WorkStreams(
            self._dispatcher,
            self._lifecycle,
            gate,
            self._lasting,
            self._connections,
            self._unfinished,
            salt_of,
            lease_s=settings.lease_seconds,
            heartbeat_s=settings.heartbeat_seconds,
            max_message_bytes=settings.max_message_bytes,
            max_result_bytes=settings.result_bytes,
        )
        guard = build_guard(settings)
        self._courier = build_courier(
            settings,
            guard,
            self._store.webhooks,
            self._store,
            self._store.ledger,
            clock,
            self._supervisor,
        )
        self._store.on_jobs_ended = self._courier.jobs_ended
        self._store.webhooks.on_changed = self._courier.changed
        table = endpoints(self._services(guard, clock, salt_of, prices.currency), self._lasting)
        self._batches = build_runner(
            settings,
            table,
            self._store,
            self._dispatcher,
            self._keyring,
            clock,
            self._supervisor,
            self._ignorance,
        )
        shares = Shares(
            "calls",
            each=settings.limit_calls_in_flight,
            visitors=_VISITORS_CALLS,
            total=_KEYS_CALLS,
        )
        self._grpc = GrpcServer(
            table,
            self._work,
            gate,
            shares,
            Shares(
                "streams of miners",
                each=settings.limit_work_streams,
                visitors=_VISITORS_STREAMS,
                total=_KEYS_STREAMS,
            ),
            self._unread,
            max_message_bytes=settings.max_message_bytes,
            body_s=settings.http_body_seconds,
            noted=self._unfinished.note,
            tls=settings.tls,
        )
        self._explorer = Explorer(table, gate)
        site = self._site(LocalBackend(table, gate, shares), gate, clock)
        self._rest = RestServer(
            site, tls=settings.tls, limits=settings.http_limits, supervisor=self._supervisor
        )

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
        self._connections.start(self._grpc.port, self._supervisor)
        self._unfinished.start(self._supervisor)
        await self._telemetry.start()
        with uncollected():
            await self._dispatcher.start()
        self._sealer.start(self._supervisor)
        self._explorer.start(self._supervisor)
        await self._courier.start()
        self._keyring.start(self._supervisor)
        self._lasting.start(self._supervisor)
        self._retention.start(self._supervisor)
        self._expiry.start(self._supervisor)
        self._files.start(self._supervisor)
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        self._watch.start()
        self._lifecycle.phase = Phase.SERVING
        self._batches.start()
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
        await self._explorer.stop()
        self._dispatcher.stop()
        await self._sealer.stop()
        await self._batches.stop()
        await self._files.stop()
        await self._retention.stop()
        await self._expiry.stop()
        await self._courier.stop(_CALL_GRACE_S)
        await self._unfinished.stop()
        await self._connections.stop()
        await self._lasting.stop()
        await self._keyring.stop()
        self._watch.stop()
        await self._telemetry.stop(_CALL_GRACE_S)
        await self._store.close()
        _log.info("coordinator.stopped")

    # How it is built

    def _services(
        self, guard: Guard, clock: Clock, salt_of: CacheSaltOf, currency: str
    ) -> list[Service]:
        settings, store, dispatcher = self._settings, self._store, self._dispatcher
        ids = IdSource(secrets.token_bytes)
        submissions = Submissions(clock, ids, settings.result_bytes)
        allowance = Allowance(
            dispatcher.jobs_of,
            store.usage,
            clock,
            soft_percent=settings.limit_soft_budget_percent,
        )
        return [
            JobService(store, dispatcher, submissions, self._lifecycle, allowance, self._unread),
            ClaimService(store, dispatcher, clock, self._lifecycle, salt_of),
            MinerService(dispatcher, self._lifecycle),
            UsageService(store.usage, self._keyring, clock, currency),
            NetworkService(store, dispatcher, self._lifecycle),
            ReceiptService(store.ledger, job_in, seal_s=settings.ledger_block_seconds),
            ExplorerService(store.ledger, self._sealer, store, dispatcher),
            WitnessService(store.ledger, settings.ledger_witnesses),
            FileService(store.files, clock, ids, self._lifecycle, file_bounds(settings)),
            BatchService(
                store.batches,
                clock,
                ids,
                self._lifecycle,
                endpoints=BatchEndpoints.paths,
                most_each=settings.batch_max_per_owner,
            ),
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
            unread=self._unread,
            absent=(anthropic_absent, openai_absent),
        )
        metrics = Metrics(
            dispatcher,
            store,
            clock,
            http=rest,
            ignored=self._ignorance.counts,
            grpc=self._grpc,
            webhooks=self._courier,
            batches=self._batches,
            loop=self._watch,
            supervisor=self._supervisor,
        )
        store.watch_commits(metrics.committed)
        health = Health(self._lifecycle, store, self._grpc)
        store.watch_commits(health.committed)
        self._telemetry = Telemetry(
            settings, dispatcher, clock, gate, metrics, health, self._supervisor
        )
        most_bytes = settings.max_message_bytes
        jobs = Jobs(backend, most_bytes, settings.model_absence_seconds)
        shared: dict[str, Any] = {
            "max_body_bytes": most_bytes,
            "ignorance": self._ignorance,
            "unread": self._unread,
        }
        mounts = [
            *self._telemetry.mounts,
            *anthropic_mounts(jobs, **shared),
            *openai_mounts(backend, jobs, **shared),
            *connect_mounts(
                backend,
                rest.calls,
                max_body_bytes=most_bytes,
                call_timeout_s=settings.http_call_seconds,
                unread=self._unread,
            ),
            *ledger_mounts(store.ledger, settings.ledger_witnesses),
            *self._explorer.mounts,
        ]
        is_key_required = settings.auth_mode is AuthMode.REQUIRED
        mounts += openapi_mounts(backend, is_key_required=is_key_required, beside=mounts)
        # All of it but the methods: the document is held against this.
        self.mounts: list[Mount] = mounts
        site: AsgiApp = Compressed(Site(mounts, rest, rest.calls, rest.has_path))
        return Cors(site, settings.cors_origins) if settings.cors_origins else site


def _open_store(settings: Settings, prices: PriceTable, clock: Clock) -> SqliteStore:
    return SqliteStore(
        settings.data,
        LedgerOptions(
            name=settings.ledger_name,
            prices=prices,
            block_receipts=settings.ledger_block_receipts,
            contents=CONTENTS,
            now_us=clock.wall_us,
        ),
    )


def _dispatcher(
    settings: Settings, store: SqliteStore, clock: Clock, supervisor: Supervisor
) -> Dispatcher:
    return Dispatcher(
        store,
        clock,
        supervisor,
        lease_s=settings.lease_seconds,
        patience=Patience(
            factor=settings.progress_factor,
            least_s=settings.progress_seconds,
            silence_s=2.5 * settings.heartbeat_seconds,
        ),
        poison_after=settings.poison_after,
        max_jobs=settings.max_jobs,
        spec_budget=settings.queue_memory_bytes,
        text_budget=settings.stream_memory_bytes,
        answer_bytes=settings.result_bytes,
    )


def _gate(settings: Settings, keyring: Keyring, clock: Clock) -> Gate:
    return Gate(
        keyring,
        clock,
        Peers(settings.limit_trusted_proxies),
        settings.limits,
        is_open=settings.auth_mode is AuthMode.OPEN,
        house=settings.house,
    )
