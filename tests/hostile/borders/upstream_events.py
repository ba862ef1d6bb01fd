"""Events of a hostile upstream, which a real miner reads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from tests.conftest import Launcher
from tests.hostile.borders.mutation import mutated
from tests.hostile.borders.victim import MOST_MORE_MIB, Attack, watched
from tests.hostile.victim import MIB
from tests.upstream import BEHAVIOURS, Behaviour, upstream

# Those of a miner that cannot work are waited out: they are tried elsewhere.
_KINDS = sorted(
    kind for kind, one in BEHAVIOURS.items() if one.status == 200 and one.code != "ENGINE_UNUSABLE"
)
_JOBS = 8
_PATIENCE_S = 60


@asynccontextmanager
async def border(launcher: Launcher) -> AsyncIterator[Attack]:
    """A miner in front of an upstream that says what nobody should."""
    coordinator = launcher.coordinator()
    with upstream() as server:
        miner = launcher.miner(
            coordinator,
            "--engine-opt",
            f"base_url={server.url}",
            engine="openai",
            models=["m"],
            slots=_JOBS,
        )
        miner.wait_for_line("miner echo ready", timeout_s=30)
        process = psutil.Process(miner.pid)
        before = process.memory_info().rss
        async with watched(coordinator) as victim:

            async def ask(kind: str) -> dict[str, object]:
                # A prompt is `KIND: text`, and one attempt is one answer of the server's.
                job = {"model": "m", "prompt": f"{kind}: x", "max_attempts": 1}
                answer = await victim.api.post("/v1/jobs", json=job)
                job_id = answer.json()["job_id"]
                done = await victim.api.get(f"/v1/jobs/{job_id}?wait={_PATIENCE_S}")
                ended: dict[str, object] = done.json()
                assert ended["status"] in {"completed", "failed"}, (ended, miner.tail())
                return ended

            async def attack(rng: random.Random) -> None:
                said = {f"case {n}": _behaviour(rng) for n in range(_JOBS)}
                server.behaviours.update(said)
                await asyncio.gather(*map(ask, said))
                assert (await ask("plain"))["status"] == "completed", (said, miner.tail())
                assert miner.exit_status is None, miner.tail()
                assert "Traceback" not in miner.tail(10_000), (said, miner.tail())
                assert (process.memory_info().rss - before) / MIB < MOST_MORE_MIB
                await victim.attacked()

            yield attack


def _behaviour(rng: random.Random) -> Behaviour:
    one = BEHAVIOURS[rng.choice(_KINDS)]
    body = one.body
    if rng.random() < 0.3:
        body = body * rng.choice((2, 50))
    for _ in range(rng.randrange(4)):
        body = mutated(rng, body)
    if rng.random() < 0.1:
        body = rng.randbytes(rng.randrange(200_000))
    return one._replace(
        body=body, cut=rng.choice((1, 7, 1000, 2**20)) if len(body) < 9999 else 9999
    )
