"""Runs all batches that have not ended, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from aitbc_server.batches.parts import BatchBounds, BatchStore, Endpoints, FileContents, Jobs
from aitbc_server.batches.run import BatchRun
from aitbc_server.batches.source import Source
from aitbc_server.dispatch.observer import Observer
from aitbc_server.domain.batches import BatchRecord
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.domain.jobs import Completion, Ending
from aitbc_server.supervisor import Supervisor, end

_log = structlog.get_logger(__name__)

# Steps of batches under way at once: each holds what it reads and writes in memory.
_TURNS = 4
# How soon a batch is run again that the storage broke off.
_RETRY_S = 2.0


class Runner(Observer):
    """Starts and stops with the coordinator, and watches the dispatcher."""

    def __init__(
        self,
        store: BatchStore,
        files: FileContents,
        endpoints: Endpoints,
        jobs: Jobs,
        clock: Clock,
        supervisor: Supervisor,
        bounds: BatchBounds,
    ) -> None:
        self._store = store
        self._files = files
        self._endpoints = endpoints
        self._jobs = jobs
        self._clock = clock
        self._supervisor = supervisor
        self._bounds = bounds
        self._turns = asyncio.Semaphore(_TURNS)
        self._runs: dict[str, BatchRun] = {}
        # Whom to tell of the end of a job.
        self._watch: dict[str, Callable[[str], None]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loading: asyncio.Task[None] | None = None
        # Batches that ended, by how.
        self.ended_batches: Counter[str] = Counter()

    @property
    def active(self) -> int:
        """How many batches have not ended."""
        return len(self._tasks)

    def start(self) -> None:
        """Goes on with what is stored."""
        self._loading = self._supervisor.finish("batches", self._load)

    async def stop(self) -> None:
        """Ends. What is under way is left to the next start."""
        loading = [] if self._loading is None else [self._loading]
        await end([*loading, *self._tasks.values()])

    def added(self, batch: BatchRecord) -> None:
        """Runs a batch that is stored."""
        batch_id = batch.batch_id
        if batch_id not in self._tasks:
            task = self._supervisor.finish("batch", lambda: self._run(batch_id))
            self._tasks[batch_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(batch_id, None))

    def changed(self, batch_id: str) -> None:
        """Has a batch look at how it is stored."""
        run = self._runs.get(batch_id)
        if run is not None:
            run.changed()

    # As an observer of the dispatcher

    def completed(self, completions: Sequence[Completion]) -> None:
        """Tells batches of their jobs."""
        if self._watch:
            for one in completions:
                self._job_ended(one.job_id)

    def ended(self, endings: Sequence[Ending]) -> None:
        """Tells batches of their jobs."""
        if self._watch:
            for one in endings:
                if one.status.is_final:
                    self._job_ended(one.job_id)

    def _job_ended(self, job_id: str) -> None:
        tell = self._watch.pop(job_id, None)
        if tell is not None:
            tell(job_id)

    async def _load(self) -> None:
        while True:
            try:
                for batch in await self._store.active():
                    self.added(batch)
            except CoordinatorError as error:
                _log.warning("batches.not_read", problem=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _run(self, batch_id: str) -> None:
        while True:
            try:
                if await self._run_once(batch_id):
                    return
            except CoordinatorError as error:
                _log.warning("batch.broken_off", batch_id=batch_id, problem=str(error))
            finally:
                run = self._runs.pop(batch_id, None)
                if run is not None:
                    run.leave()
            # What is stored is all that the next run needs.
            await asyncio.sleep(_RETRY_S)

    async def _run_once(self, batch_id: str) -> bool:
        batch = await self._store.batch(batch_id)
        if batch is None or batch.status.is_final:
            return True
        most = self._bounds.most_line_bytes
        run = self._runs[batch_id] = BatchRun(
            batch,
            self._store,
            Source(partial(self._files.content, batch.input_file_id), most),
            self._endpoints,
            self._jobs,
            self._clock,
            self._bounds,
            self._turns,
            self._watch,
        )
        status = await run.run()
        self.ended_batches[status] += 1
        _log.info("batch.ended", batch_id=batch_id, status=str(status))
        return True
