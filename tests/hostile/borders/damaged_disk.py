"""Files of a damaged disk: the coordinator refuses them, or serves what is right.

SQLite has no checksums of texts, and takes a log that was cut off for one that ends there. Then
what is served is wrong, and the ledger tells, to those who kept a checkpoint of it at least.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from scripts.processes import READY, Coordinator, ProgramFailed

from tests.conftest import CLEAN_ENV, Launcher
from tests.hostile.borders.victim import Attack
from tests.hostile.ledger import verify

_JOBS = 30
_PAGE = 4096


@asynccontextmanager
async def border(launcher: Launcher) -> AsyncIterator[Attack]:
    """What a coordinator that was killed left."""
    before = launcher.coordinator(env=CLEAN_ENV | {"AITBC_LEDGER_BLOCK_SECONDS": "0.1"})
    launcher.miner(before, models=["m"])
    jobs = await _answered(before)
    checkpoint = launcher.directory / "checkpoint"
    assert verify(before.data, "--checkpoint", checkpoint).returncode == 0
    before.program.kill()
    copies = launcher.directory / "copies"

    async def attack(rng: random.Random) -> None:
        data = copies / f"{rng.getrandbits(64):x}"
        shutil.copytree(before.data, data)
        told = _damage(rng, data)
        await asyncio.to_thread(_check, launcher, data, jobs, checkpoint, told)
        shutil.rmtree(data)

    yield attack


async def _answered(coordinator: Coordinator) -> dict[str, str]:
    """Returns what was asked and answered, by job."""
    asked = [{"model": "m", "prompt": f"say {n} " + "x" * 37 * n} for n in range(_JOBS)]
    async with httpx.AsyncClient(base_url=coordinator.url, timeout=70) as api:
        jobs = (await api.post("/v1/jobs:batch", json={"jobs": asked})).json()["jobs"]
        for job in jobs:
            while True:
                done = (await api.get(f"/v1/jobs/{job['job_id']}?wait=60")).json()
                if done["status"] == "completed":
                    break
            # Until it is sealed into a block.
            proof = f"/v1/receipts/{done['receipt_id']}/proof"
            while (await api.get(proof)).status_code != 200:
                pass
    return {job["job_id"]: str(one["prompt"]) for job, one in zip(jobs, asked, strict=True)}


def _damage(rng: random.Random, data: Path) -> str:
    files = sorted(path for path in data.rglob("*") if path.is_file() and path.stat().st_size)
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content))
    match rng.randrange(4):
        case 0:
            kind = "flipped"
            for _ in range(rng.choice((1, 1, 30))):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case 1:
            kind = "cut off"
            del content[at:]
        case 2:
            kind, page = "zeroed", at - at % _PAGE
            content[page : page + _PAGE] = bytes(len(content[page : page + _PAGE]))
        case _:
            kind, page = "random", at - at % _PAGE
            content[page : page + _PAGE] = rng.randbytes(len(content[page : page + _PAGE]))
    file.write_bytes(content)
    return f"{file.name} {kind} at {at}"


def _check(
    launcher: Launcher, data: Path, jobs: dict[str, str], checkpoint: Path, told: str
) -> None:
    program = launcher.unsure_coordinator_on(data)
    try:
        try:
            ready = program.wait_for_line(READY, timeout_s=30)
        except ProgramFailed:
            assert program.wait(timeout_s=30) == 1, (told, program.tail())
            assert "Traceback" not in program.tail(1000), (told, program.tail())
            return
        wrong = _wrong(f"http://{ready['http']}", jobs, told)
        if wrong:
            found = verify(data, "--checkpoint", checkpoint)
            assert found.returncode != 0, (told, wrong[:3], found.stdout)
        assert program.exit_status is None, (told, program.tail())
        assert "Traceback" not in program.tail(1000), (told, program.tail())
    finally:
        program.kill()


def _wrong(url: str, jobs: dict[str, str], told: str) -> list[Any]:
    """Returns the jobs that are answered for wrongly."""
    wrong = []
    with httpx.Client(base_url=url, timeout=30) as api:
        assert api.get("/health/live").status_code == 200, told
        for job_id, text in jobs.items():
            answer = api.get(f"/v1/jobs/{job_id}")
            assert answer.status_code in {200, 404, 500, 503}, (told, answer.text)
            job = answer.json()
            if answer.status_code == 404 or (
                answer.status_code == 200
                and (
                    (job.get("status"), job.get("prompt"), job.get("result"))
                    != ("completed", text, text)
                )
            ):
                wrong.append(job)
    return wrong
