"""Puts the parts of batches together, as the settings say."""

from __future__ import annotations

from collections.abc import Mapping

from aitbc_server.api.endpoint import Endpoint
from aitbc_server.api.files import FileBounds
from aitbc_server.auth.keyring import Keyring
from aitbc_server.batches.jobs import BatchJobs
from aitbc_server.batches.parts import BatchBounds
from aitbc_server.batches.runner import Runner
from aitbc_server.batches.sweep import FileSweep
from aitbc_server.config import Settings
from aitbc_server.dispatch.shell import Dispatcher
from aitbc_server.domain.clock import Clock
from aitbc_server.openai.batch_endpoints import BatchEndpoints
from aitbc_server.openai.unknown import Ignorance
from aitbc_server.retention import Retention
from aitbc_server.store.sqlite import SqliteStore
from aitbc_server.supervisor import Supervisor


def file_bounds(settings: Settings) -> FileBounds:
    """Returns what files may be."""
    return FileBounds(
        most_bytes=settings.file_max_bytes,
        most_bytes_each=settings.file_max_bytes_per_owner,
        most_each=settings.file_max_per_owner,
        keep_s=settings.file_retention or None,
    )


def build_runner(
    settings: Settings,
    table: Mapping[str, Endpoint],
    store: SqliteStore,
    dispatcher: Dispatcher,
    keyring: Keyring,
    clock: Clock,
    supervisor: Supervisor,
    ignorance: Ignorance,
) -> Runner:
    """Returns a runner that is not started, and is told of what it is to run."""
    runner = Runner(
        store.batches,
        store.files,
        BatchEndpoints(dispatcher, ignorance, settings.max_message_bytes),
        BatchJobs(
            table["aitbc.v1.JobService.BatchSubmitJobs"],
            store,
            dispatcher,
            keyring,
            settings.limits,
        ),
        clock,
        supervisor,
        BatchBounds(
            most_lines=settings.batch_max_lines,
            most_line_bytes=settings.max_message_bytes,
            jobs_at_once=settings.batch_jobs_at_once,
            priority=settings.batch_priority,
            keep_s=settings.file_retention or None,
        ),
    )
    store.batches.on_added = runner.added
    store.batches.on_cancelled = runner.changed
    dispatcher.observers.add(runner)
    return runner


def build_sweep(
    settings: Settings, store: SqliteStore, clock: Clock, retention: Retention
) -> FileSweep:
    """Returns a sweep that is not started, and is told of files that are deleted."""
    sweep = FileSweep(
        store.files,
        store.batches,
        clock,
        retention.forgotten,
        keep_s=settings.file_retention or None,
    )
    store.files.on_dropped = sweep.dropped
    return sweep
