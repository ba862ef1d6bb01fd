"""Many echo miners in one process: the real agent and session, each with a connection of its own.

`python -m chaos.herd HOST:PORT COUNT`
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random

import structlog
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc_miner import gpu
from aitbc_miner.agent import Agent
from aitbc_miner.engines.echo import EchoEngine, EchoOptions
from aitbc_miner.miner import Miner, Stop
from aitbc_miner.signing import Signer
from chaos.miner import MODEL

_SLOTS = 4
_LATENCY_S = 0.05


async def run(coordinator: str, count: int) -> None:
    """Works until it is killed."""
    gpu_info = gpu.describe()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            miner_id = f"herd-{number}"
            agent = Agent(
                miner_id=miner_id,
                engines=[EchoEngine((MODEL,), _SLOTS, EchoOptions(latency_s=_LATENCY_S))],
                slots=_SLOTS,
                gpu_info=gpu_info,
                version="herd",
                clock=asyncio.get_running_loop().time,
                signer=Signer(Ed25519PrivateKey.generate(), miner_id),
            )
            miner = Miner(
                agent,
                coordinator=coordinator,
                api_key=None,
                stop=Stop(),
                on_ready=lambda: None,
                rng=random.Random(number),
            )
            group.create_task(miner.run())


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("coordinator")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    uvloop.run(run(arguments.coordinator, arguments.count))


if __name__ == "__main__":
    main()
