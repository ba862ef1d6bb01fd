"""Carries the core's effects to the store and its answers back.

Everything that happens in one turn of the event loop is one turn of the core, and becomes one write
of each kind. Nothing here awaits for one job: answers come back as callbacks on whole batches.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.live import Now
from aitbc_server.dispatch.observer import Observers
from aitbc_server.dispatch.specs import Specs
from aitbc_server.dispatch.transcripts import Transcripts
from aitbc_server.dispatch.waiters import Waiters
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import StorageUnavailable
from aitbc_server.domain.jobs import Begin, Completion, Ending, JobStatus
from aitbc_server.store.seam import Store
from aitbc_server.supervisor import Supervisor

# Seconds until a write that the storage refused is tried again.
RETRY_S = 1.0


class Turns:
    """Takes a turn whenever something happened or is due."""

    def __init__(
        self,
        core: Core,
        store: Store,
        clock: Clock,
        specs: Specs,
        waiters: Waiters,
        transcripts: Transcripts,
        observers: Observers,
        supervisor: Supervisor,
    ) -> None:
        self._core = core
        self._store = store
        self._clock = clock
        self._specs = specs
        self._waiters = waiters
        self._transcripts = transcripts
        self._observers = observers
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self._is_kicked = False
        self._timer: asyncio.TimerHandle | None = None
        # Set at each turn at whose end no session holds a lease.
        self._idle = asyncio.Event()

    def now(self) -> Now:
        """Returns this instant."""
        return Now(self._clock.monotonic(), self._clock.wall_us())

    def kick(self) -> None:
        """Has a turn taken once everything that is ready to happen has happened."""
        if not self._is_kicked:
            self._is_kicked = True
            self._loop.call_soon(self._turn)

    def stop(self) -> None:
        """Ends all timers. What is proposed already may still be stored."""
        if self._timer is not None:
            self._timer.cancel()

    async def wait_idle(self, timeout_s: float) -> None:
        """Returns when no stream has work under way, or after the timeout."""
        self._idle.clear()
        self.kick()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            pass

    def _turn(self) -> None:
        self._is_kicked = False
        now = self.now()
        # What breaks one step takes nothing from the others, nor from the next turn.
        self._try(self._core.tick, now)
        self._try(self._core.match, now)
        self._try(self._carry_out)
        self._try(self._arm, now)

    def _try(self, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except Exception as error:
            self._supervisor.broke("dispatch", error)
            # Not at once: what nobody foresaw may last.
            self._loop.call_later(RETRY_S, self.kick)

    def _carry_out(self) -> None:
        core = self._core
        effects = core.effects.take()
        # 1. Everything proposed in this turn to the store.
        if effects.begins:
            self._put(self._store.begin, effects.begins, self._begun)
        if effects.completions:
            self._put(self._store.complete, effects.completions, self._completed)
        if effects.endings:
            self._put(self._store.end, effects.endings, self._ended)
        if effects.flags:
            self._put(self._store.flag_cancels, effects.flags, self._flagged)
        # 2. What others wait for.
        for session in effects.touched:
            self._try(session.wake)
        self._waiters.tell_final(effects.finals)
        if not self._idle.is_set() and not core.sessions.hold_leases:
            self._idle.set()

    def _arm(self, now: Now) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._core.next_timer()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - now.mono), self.kick)

    def _put(
        self,
        write: Callable[[Sequence[Any]], Future[Any]],
        items: Sequence[Any],
        answer: Callable[[Sequence[Any], Future[Any]], None],
    ) -> None:
        try:
            future = write(items)
        except Exception as error:
            future = self._loop.create_future()
            future.set_exception(error)
        future.add_done_callback(partial(self._try, answer, items))

    # Answers of the store

    def _begun(self, begins: Sequence[Begin], stored: Future[frozenset[str]]) -> None:
        error = stored.exception()
        if error is not None:
            if len(begins) > 1 and not isinstance(error, StorageUnavailable):
                self._put_singly(self._store.begin, begins, self._begun)
                return
            self._core.begin_failed(begins, RETRY_S, self.now())
            self._waiters.tell_begun(begins, StorageUnavailable(retry_after_s=RETRY_S))
            self.kick()
            return
        done = stored.result()
        self._let_go(begin.job_id for begin in begins if begin.job_id not in done)
        held = [begin for begin in begins if begin.job_id in done]
        self._observers.begun(held, self._core.jobs)
        self._core.begun(begins, done, self.now())
        self._waiters.tell_begun(begins)
        self._transcripts.tell(begin.job_id for begin in begins)
        self.kick()

    def _completed(self, completions: Sequence[Completion], stored: Future[frozenset[str]]) -> None:
        if self._is_retried(self._store.complete, completions, stored, self._completed):
            self._waiters.tell_unavailable(completions)
        elif stored.exception() is not None:
            self._core.completion_rejected(completions[0], self.now())
        else:
            done = stored.result()
            self._let_go(completion.job_id for completion in completions)
            self._core.completed(completions, done)
            self._waiters.tell_ended(completions, done)
            kept = [one for one in completions if one.job_id in done]
            self._observers.completed(kept)
            self._transcripts.tell(completion.job_id for completion in completions)
        self.kick()

    def _ended(self, endings: Sequence[Ending], stored: Future[frozenset[str]]) -> None:
        if self._is_retried(self._store.end, endings, stored, self._ended):
            self._waiters.tell_unavailable(endings)
            return
        # One that was rejected is logged by the store. The memory lets go of its job; the next
        # start finds it again.
        done = frozenset() if stored.exception() else stored.result()
        self._let_go(
            ending.job_id
            for ending in endings
            if ending.status is not JobStatus.PENDING or ending.job_id not in done
        )
        self._core.ended(endings, done, self.now())
        self._waiters.tell_ended(endings, done)
        ended = [ending for ending in endings if ending.job_id in done]
        self._observers.ended(ended)
        self._transcripts.tell(ending.job_id for ending in endings)
        self.kick()

    def _flagged(self, flags: Sequence[tuple[str, int, bool]], stored: Future[None]) -> None:
        self._is_retried(self._store.flag_cancels, flags, stored, self._flagged)

    def _let_go(self, job_ids: Iterable[str]) -> None:
        """Frees what was kept of jobs that are about to be forgotten."""
        for job_id in job_ids:
            self._specs.take(self._core.jobs[job_id])

    def _is_retried(
        self,
        write: Callable[[Sequence[Any]], Future[Any]],
        items: Sequence[Any],
        stored: Future[Any],
        answer: Callable[[Sequence[Any], Future[Any]], None],
    ) -> bool:
        """Puts a write that failed again, and says so.

        Guarded writes may be repeated: what was applied already is not applied again. Of several
        items that the store rejects together, the good ones go through singly.
        """
        error = stored.exception()
        if isinstance(error, StorageUnavailable):
            self._loop.call_later(RETRY_S, self._put, write, items, answer)
        elif error is not None and len(items) > 1:
            self._put_singly(write, items, answer)
        else:
            return False
        return True

    def _put_singly(
        self,
        write: Callable[[Sequence[Any]], Future[Any]],
        items: Sequence[Any],
        answer: Callable[[Sequence[Any], Future[Any]], None],
    ) -> None:
        for item in items:
            self._put(write, [item], answer)
