"""Messages of a hostile miner, any in any order, among honest miners and their clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import grpc
import httpx

from aitbc.v1 import jobs_pb2, miners_pb2_grpc, work_pb2
from tests.conftest import CLEAN_ENV, Launcher
from tests.hostile.borders.grpc_bytes import BROKEN, LOCAL
from tests.hostile.borders.mutation import INTEGERS, TEXTS, message_of
from tests.hostile.borders.victim import Attack, Watched, watched
from tests.hostile.ledger import verify

# Served by the honest miner alone, by the hostile one too, and by that alone.
_HONEST, _SHARED, _EVIL = "honest", "shared", "evil"
# Longer than the hostile miner talks.
_PATIENCE_S = 60
_IDS = ("evil-1", "evil-2", "echo")

_Call = grpc.aio.StreamStreamCall[work_pb2.MinerMessage, work_pb2.CoordinatorMessage]


@asynccontextmanager
async def border(launcher: Launcher) -> AsyncIterator[Attack]:
    """The Work stream of a coordinator that has an honest miner."""
    prices = launcher.directory / "prices.json"
    prices.write_text(json.dumps({"default": {"tokens": "0.20", "characters": "0.05"}}))
    coordinator = launcher.coordinator(env=CLEAN_ENV | {"AITBC_LEDGER_PRICES": str(prices)})
    honest = launcher.miner(coordinator, models=[_HONEST, _SHARED])
    honest.wait_for_line("miner echo ready", timeout_s=30)
    async with (
        watched(coordinator) as victim,
        grpc.aio.insecure_channel(coordinator.grpc) as channel,
    ):

        async def attack(rng: random.Random) -> None:
            clients = asyncio.create_task(_clients(victim.api, str(rng.getrandbits(32))))
            await asyncio.gather(*(_session(random.Random(rng.random()), channel) for _ in "ab"))
            await clients
            assert honest.exit_status is None, honest.tail()
            await victim.attacked()

        yield attack
        await _check_ledger(victim)


async def _clients(api: httpx.AsyncClient, text: str) -> None:
    """Has jobs answered: whole and right where the honest miner alone serves them."""
    jobs = [{"model": model, "prompt": text} for model in (_HONEST, _HONEST, _SHARED, _SHARED)]
    jobs += [{"model": _EVIL, "prompt": text}] * 4
    answer = await api.post("/v1/jobs:batch", json={"jobs": jobs})
    assert answer.status_code == 201, answer.text
    ids = [job["job_id"] for job in answer.json()["jobs"]]
    async with asyncio.timeout(_PATIENCE_S):
        done = await api.get(f"/v1/jobs/{ids[0]}?wait={_PATIENCE_S}")
        assert (done.json()["status"], done.json()["result"]) == ("completed", text), done.text
        streamed = (await api.get(f"/v1/jobs/{ids[1]}/stream")).text
        assert "event: final" in streamed, streamed
        assert text in streamed, streamed


async def _session(rng: random.Random, channel: grpc.aio.Channel) -> None:
    """Says some thirty things of a miner that is up to no good."""
    call: _Call = miners_pb2_grpc.MinerServiceStub(channel).Work()
    leases: list[str] = []
    heard = asyncio.Event()
    reading = asyncio.create_task(_read(call, leases, heard))
    try:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            if rng.random() < 0.95:
                await call.write(_hello(rng))
                await heard.wait()
                # Assignments come right after the welcome.
                await asyncio.sleep(0.01)
            for _ in range(rng.randrange(1, 30)):
                await call.write(_message(rng, leases))
                if rng.random() < 0.5:
                    await asyncio.sleep(0.003)
            if rng.random() < 0.3:
                await call.done_writing()
    finally:
        reading.cancel()
        call.cancel()
        await asyncio.wait([reading])
    code, details = await call.code(), await call.details()
    assert code not in BROKEN or details == LOCAL, (code, details)


async def _read(call: _Call, leases: list[str], heard: asyncio.Event) -> None:
    try:
        with contextlib.suppress(grpc.aio.AioRpcError):
            while isinstance(message := await call.read(), work_pb2.CoordinatorMessage):
                leases.extend(one.lease_id for one in message.assignments.assignments)
                heard.set()
    finally:
        heard.set()


def _hello(rng: random.Random) -> work_pb2.MinerMessage:
    # Who comes and goes with leases is given few: most come as somebody new.
    stranger = f"evil-{rng.getrandbits(32)}"
    miner_id = rng.choice((*_IDS, stranger, stranger, stranger))
    hello = work_pb2.Hello(miner_id=miner_id, models=[_SHARED, _EVIL])
    hello.capacity.max_outstanding_jobs = rng.choice((1, 3, 8, 100, 1000, -1))
    if rng.random() < 0.3:
        hello.held_leases.add(lease_id=_lease(rng, []), next_sequence=rng.choice(INTEGERS[:8]))
    if rng.random() < 0.1:
        hello.MergeFrom(message_of(rng, work_pb2.Hello.DESCRIPTOR))  # type: ignore[arg-type]
    return work_pb2.MinerMessage(hello=hello)


def _message(rng: random.Random, leases: list[str]) -> work_pb2.MinerMessage:
    kind = rng.random()
    if kind < 0.02:
        return _hello(rng)
    if kind < 0.07:
        made = message_of(rng, work_pb2.MinerMessage.DESCRIPTOR)
        assert isinstance(made, work_pb2.MinerMessage)
        return made
    if kind < 0.3:
        pause = work_pb2.ModelPause(model=rng.choice((_EVIL, _SHARED, "")), code="X")
        pause.duration.seconds = rng.choice((-1, 0, 60, 10**9))
        capacity = work_pb2.Capacity(max_outstanding_jobs=rng.choice((0, 5, 10**6)), pauses=[pause])
        return work_pb2.MinerMessage(capacity=capacity)
    updates = [_update(rng, leases) for _ in range(rng.choice((0, 1, 1, 3, 200)))]
    return work_pb2.MinerMessage(updates=work_pb2.Updates(updates=updates))


def _update(rng: random.Random, leases: list[str]) -> work_pb2.Update:
    update = work_pb2.Update(
        lease_id=_lease(rng, leases), sequence=rng.choice((0, 0, 0, 1, 2, 2**62, -1))
    )
    match rng.randrange(5):
        case 0:
            text = rng.choice((*TEXTS, "x" * 300_000))
            update.delta.MergeFrom(work_pb2.Delta(text=text, tokens=_tokens(rng)))
        case 1:
            usage = jobs_pb2.Usage(prompt_tokens=_tokens(rng), completion_tokens=_tokens(rng))
            reason = rng.choice(("stop", "length", "\x1b]0;x\x07", "x" * 9999))
            update.completion.MergeFrom(
                work_pb2.Completion(result=rng.choice(TEXTS), usage=usage, finish_reason=reason)
            )
        case 2:
            update.failure.code = rng.choice(("X", "\x1b[2J", "", "y" * 9999))
            update.failure.retryable = rng.random() < 0.5
            update.failure.fault = rng.choice(work_pb2.Fault.values())
        case 3:
            made = message_of(rng, work_pb2.Update.DESCRIPTOR)
            made.ClearField("lease_id")
            update.MergeFrom(made)  # type: ignore[arg-type]
    return update


def _tokens(rng: random.Random) -> int:
    return rng.choice((0, 1, 5, -1, 900, 2**31 - 1, -(2**31)))


def _lease(rng: random.Random, leases: list[str]) -> str:
    if leases and rng.random() < 0.8:
        return rng.choice(leases)
    return rng.choice(("", "l", "job-01JAAAAAAAAAAAAAAAAAAAAAAA-1", "x" * 3000))


async def _check_ledger(victim: Watched) -> None:
    """Asserts that no receipt breaks a rule."""
    token = ""
    while True:
        page: dict[str, Any] = (await victim.api.get(f"/v1/receipts?page_token={token}")).json()
        for receipt in page["receipts"]:
            assert Decimal(receipt["price"]) >= 0, receipt
            assert not receipt["price"].startswith(("-", ".")), receipt
            assert int(receipt["units"]) >= 0, receipt
        token = page.get("next_page_token", "")
        if not token:
            break
    verified = await asyncio.to_thread(verify, victim.coordinator.data)
    assert verified.returncode == 0, verified.stdout + verified.stderr
