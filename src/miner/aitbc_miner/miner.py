"""Keeps the agent connected to the coordinator until it is told to stop."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from aitbc.v1.miners_pb2_grpc import MinerServiceStub
from aitbc_miner._aio import first_of
from aitbc_miner.agent import Agent
from aitbc_miner.backoff import Backoff
from aitbc_miner.channel import open_channel
from aitbc_miner.errors import EngineStopped, Fatal, HandedBack, Misconfigured, SessionLost
from aitbc_miner.session import Session
from aitbc_miner.tls import Tls, explain

# Time to tell the coordinator of leases that are handed back.
_HAND_BACK_S = 10.0

log = structlog.get_logger()


class Stop:
    """How urgently the miner is told to stop: each signal is more urgent than the one before."""

    def __init__(self) -> None:
        # Finish what runs.
        self.asked = asyncio.Event()
        # Hand back what runs.
        self.insisted = asyncio.Event()
        # Leave.
        self.forced = asyncio.Event()

    def ask(self) -> None:
        """Takes one signal."""
        for step in (self.asked, self.insisted, self.forced):
            if not step.is_set():
                step.set()
                return

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listens to SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        numbers = signal.SIGTERM, signal.SIGINT
        for number in numbers:
            loop.add_signal_handler(number, self.ask)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


class Miner:
    """Opens one session after the other, for ever."""

    def __init__(
        self,
        agent: Agent,
        *,
        coordinator: str,
        api_key: str | None,
        stop: Stop,
        on_ready: Callable[[], None],
        rng: random.Random,
        tls: Tls | None = None,
    ) -> None:
        """Without `tls`, the coordinator is spoken to in plain text."""
        self._agent = agent
        self._coordinator = coordinator
        self._tls = tls
        self._metadata = [("x-api-key", api_key)] if api_key else []
        self._stop = stop
        # Called at the first Welcome.
        self._on_ready = on_ready
        self._is_ready = False
        # Whether the present session got its Welcome.
        self._is_welcomed = False
        self._backoff = Backoff(rng)
        # Set when nothing is left to do.
        self._goodbye = asyncio.Event()

    async def run(self) -> None:
        """Returns when it was told to stop and all is done. Raises what else ends it."""
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(self._end())
            fatal = await self._hold_sessions()
            if fatal is not None:
                ending.cancel()
        fatal = fatal or ending.result()
        if fatal is not None:
            raise fatal

    async def _hold_sessions(self) -> Fatal | None:
        while not self._goodbye.is_set():
            ended = await self._session()
            if self._goodbye.is_set():
                break
            if isinstance(ended, Fatal):
                return ended
            reason = await self._explained(str(ended))
            wait_s = self._backoff.next_s()
            log.warning("session.lost", reason=reason, retry_in_s=round(wait_s, 1))
            await first_of(self._goodbye, timeout_s=wait_s)
        return None

    async def _explained(self, reason: str) -> str:
        """Adds what a connection that never came about needs, where that can be told."""
        if self._is_welcomed:
            return reason
        remedy = await explain(self._coordinator, self._tls, reason)
        return f"{remedy} ({reason})" if remedy else reason

    async def _session(self) -> Exception:
        self._is_welcomed = False
        try:
            channel = open_channel(self._coordinator, self._tls)
        except Misconfigured as error:
            # They could be read at the start: perhaps they are being renewed.
            return SessionLost(str(error))
        async with channel:
            session = Session(
                self._agent,
                MinerServiceStub(channel).Work(metadata=self._metadata),
                clock=asyncio.get_running_loop().time,
                on_welcome=self._welcomed,
                goodbye=self._goodbye,
            )
            return await session.run()

    def _welcomed(self) -> None:
        self._is_welcomed = True
        self._backoff.reset()
        log.info("session.began", coordinator=self._coordinator)
        if not self._is_ready:
            self._is_ready = True
            self._on_ready()

    async def _end(self) -> Fatal | None:
        """Says goodbye when all is done that should be; returns why it is an error, if it is."""
        agent, stop = self._agent, self._stop
        await first_of(stop.asked, agent.engine_died)
        if not agent.engine_died.is_set():
            log.info("miner.drains")
            agent.drain()
            # Again when work arrived that had crossed the goodbye: idle was true for a moment only.
            while not any(e.is_set() for e in (agent.idle, stop.insisted, agent.engine_died)):
                await first_of(agent.idle, stop.insisted, agent.engine_died)
        unfinished = 0
        if not agent.idle.is_set():
            unfinished = agent.hand_back()
            log.warning("miner.hands_back", jobs=unfinished)
            await first_of(agent.idle, stop.forced, timeout_s=_HAND_BACK_S)
        self._goodbye.set()
        if agent.engine_died.is_set():
            return EngineStopped("an engine died: its log says why. Start the miner again")
        return HandedBack(f"{unfinished} jobs were handed back") if unfinished else None
