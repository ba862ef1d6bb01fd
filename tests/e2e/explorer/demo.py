"""A coordinator with an hour of history: its clock ran that hour in a few seconds.

Serves until it is ended. Used as `python -m tests.e2e.explorer.demo --data DIR`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import uvloop

from aitbc_server import app
from aitbc_server.clock import SystemClock
from aitbc_server.config import Settings
from tests.e2e.explorer.miners import MODELS

_LOCAL = "127.0.0.1:0"
_HISTORY_S = 3540
_STEPS = 59
_PRICES = {
    "currency": "AITBC",
    "default": {"tokens": "120", "characters": "30"},
    "models": {"llama3.2": {"tokens": "90", "characters": "25"}},
}


class ShiftedClock(SystemClock):
    """The machine's time, some time ago."""

    behind_s = float(_HISTORY_S)

    def wall_us(self) -> int:
        """Returns microseconds since the Unix epoch."""
        return super().wall_us() - int(ShiftedClock.behind_s * 1e6)


async def serve(settings: Settings) -> None:
    """Starts, lives through the hour as soon as there are miners, says so, and serves on."""
    app.SystemClock = ShiftedClock  # type: ignore[attr-defined]  # its own clock
    coordinator = app.Coordinator(settings)
    await coordinator.start()
    ports = f"http=127.0.0.1:{coordinator.http_port} grpc=127.0.0.1:{coordinator.grpc_port}"
    print(f"aitbc-coordinator ready {ports}", flush=True)  # noqa: T201 - as the command does
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{coordinator.http_port}") as api:
        await _live(api)
    print("history written", flush=True)  # noqa: T201 - what the test waits for
    await asyncio.Event().wait()


async def _live(api: httpx.AsyncClient) -> None:
    for batch in _batches():
        ShiftedClock.behind_s -= _HISTORY_S / _STEPS
        submitted = await api.post("/v1/jobs:batch", json={"jobs": batch})
        for job in submitted.raise_for_status().json()["jobs"]:
            await api.get(f"/v1/jobs/{job['job_id']}", params={"wait": 60}, timeout=70)
    ShiftedClock.behind_s = 0
    await api.post("/v1/jobs", json={"prompt": "Is anybody there?", "model": "llama3.1-405b"})


def _batches() -> Iterator[list[dict[str, object]]]:
    chance = random.Random(7)
    for step in range(_STEPS):
        # More towards the end, as the day begins.
        count = max(1, round(chance.gauss(2 + step / 14, 1.2)))
        yield [
            {
                "prompt": "word " * chance.randint(8, 90),
                "model": chance.choice(MODELS),
            }
            for _ in range(count)
        ]


def _settings(data: Path) -> Settings:
    data.mkdir(parents=True)
    prices = data / "prices.json"
    prices.write_text(json.dumps(_PRICES))
    values: dict[str, Any] = {
        "http": _LOCAL,
        "grpc": _LOCAL,
        "data": data,
        "ledger_name": "ledger.aitbc.example",
        "ledger_prices": prices,
        "ledger_block_seconds": 0.1,
        "ledger_block_receipts": 4,
    }
    return Settings(**values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    uvloop.run(serve(_settings(parser.parse_args().data)))
