"""The process of a miner, from its settings to its end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from importlib.metadata import version

import uvloop

from aitbc_miner import gpu
from aitbc_miner._processes import leave_now
from aitbc_miner.agent import Agent
from aitbc_miner.engines import create_engines
from aitbc_miner.engines.base import Engine
from aitbc_miner.logs import configure_logging
from aitbc_miner.miner import Miner, Stop
from aitbc_miner.settings import Settings
from aitbc_miner.signing import Signer, load_signer

_DISTRIBUTION = "aitbc-coordinator"


def run_miner(settings: Settings) -> None:
    """Works until told to stop. Raises Fatal."""
    configure_logging()
    uvloop.run(_work(settings))


async def _work(settings: Settings) -> None:
    stop = Stop()
    signer = load_signer(settings.key_file, settings.miner_id, settings.previous_key_file)
    engines = create_engines(
        settings.engine,
        settings.models,
        settings.slots,
        settings.engine_options,
        settings.adapters,
    )
    with stop.on_signals():
        try:
            await _start(engines, stop)
            await _mine(settings, engines, signer, stop)
        finally:
            for engine in engines:
                await engine.close()


async def _start(engines: Sequence[Engine], stop: Stop) -> None:
    """Starts the engines, one after the other; leaves when told to stop meanwhile."""

    async def start_all() -> None:
        for engine in engines:
            await engine.start()

    starting = asyncio.create_task(start_all())
    asked = asyncio.create_task(stop.asked.wait())
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        leave_now()
    asked.cancel()
    await starting


async def _mine(settings: Settings, engines: Sequence[Engine], signer: Signer, stop: Stop) -> None:
    agent = Agent(
        miner_id=settings.miner_id,
        engines=engines,
        slots=settings.slots or sum(engine.slots for engine in engines),
        gpu_info=gpu.describe(),
        version=f"aitbc-miner/{version(_DISTRIBUTION)}",
        clock=asyncio.get_running_loop().time,
        signer=signer,
        parents={adapter.name: adapter.model for adapter in settings.adapters},
    )

    def say_ready() -> None:
        line = (
            f"miner {agent.miner_id} ready: engine {settings.engine},"
            f" models {', '.join(agent.models)}, {agent.slots} slots"
        )
        print(line, flush=True)  # noqa: T201 - the command's own output

    await Miner(
        agent,
        coordinator=settings.coordinator,
        api_key=settings.api_key,
        stop=stop,
        on_ready=say_ready,
        rng=random.Random(),
        tls=settings.tls,
    ).run()
