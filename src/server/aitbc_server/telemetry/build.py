"""Puts the parts of telemetry together, as the settings say."""

from __future__ import annotations

from collections.abc import Callable

from aitbc_server.api.endpoint import Gate
from aitbc_server.auth.mode import AuthMode
from aitbc_server.config import Settings
from aitbc_server.dispatch.observer import Observer
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.clock import Clock
from aitbc_server.rest.server import RestServer
from aitbc_server.rest.site import Mount, Site
from aitbc_server.supervisor import Supervisor
from aitbc_server.telemetry.health import Health
from aitbc_server.telemetry.journal import Journal
from aitbc_server.telemetry.metrics import Metrics
from aitbc_server.telemetry.site import health_mounts, metrics_mount, nothing_else


class TracingUnavailableError(OSError):
    """Traces are asked for, and the packages that make them are not there."""


class Telemetry:
    """What is served beside the API, on its address or on one of its own."""

    def __init__(
        self,
        settings: Settings,
        dispatcher: Dispatcher,
        clock: Clock,
        gate: Gate,
        metrics: Metrics,
        health: Health,
        supervisor: Supervisor,
    ) -> None:
        """Begins to watch the dispatcher. Raises TracingUnavailableError."""
        self._address = settings.metrics
        self._server: RestServer | None = None
        self._flush: Callable[[], object] = lambda: None
        served = health_mounts(health.checks, supervisor.warnings)
        self.mounts: list[Mount] = served
        if settings.metrics is not None:
            mount = metrics_mount(metrics, None)
            site = Site([mount, *served], nothing_else)
            self._server = RestServer(site, supervisor=supervisor)
        else:
            # What only this machine reaches is not hidden from it while nothing else is.
            is_open = settings.is_local and settings.auth_mode is AuthMode.OPEN
            self.mounts.append(metrics_mount(metrics, gate, is_open=is_open))
        observers: list[Observer] = [metrics]
        if settings.log_level == "debug":
            observers.append(Journal())
        if settings.tracing:
            observers.append(self._traces(clock))
        for observer in observers:
            dispatcher.observers.add(observer)

    @property
    def port(self) -> int:
        """Port of the metrics, once started; 0 where they have none of their own."""
        return 0 if self._server is None else self._server.port

    async def start(self) -> None:
        """Listens on the address of the metrics. Raises OSError when the port is taken."""
        if self._server is not None and self._address is not None:
            await self._server.start(self._address.host, self._address.port)

    async def stop(self, grace_s: float) -> None:
        """Ends the server of the metrics, and sends the last spans."""
        if self._server is not None:
            await self._server.stop(grace_s)
        self._flush()

    def _traces(self, clock: Clock) -> Observer:
        try:
            from aitbc_server.telemetry.traces import JobTraces, exporting_provider
        except ImportError as error:
            raise TracingUnavailableError(
                "AITBC_TRACING needs more packages: pip install 'aitbc-coordinator[otel]'"
            ) from error
        provider = exporting_provider()
        self._flush = provider.shutdown
        return JobTraces(provider.get_tracer("aitbc_server"), clock)
