"""No single call stops the loop for long, or takes much memory, whatever it says or asks for."""

from __future__ import annotations

import asyncio
import gzip
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from scripts.processes import Coordinator

from aitbc.v1 import work_pb2
from tests.conftest import Launcher
from tests.e2e.stream_miner import stream_miner
from tests.envelopes import ended, envelope
from tests.hostile.http2 import Connection

# Bounds of one call.
MOST_S = 0.25
MOST_MIB = 100
# A busy machine makes any turn long, now and then; what is long in itself is long every time.
TRIES = 3
# Answers of one caller that wait to be read.
MOST_UNREAD_MIB = 32
MIB = 1024 * 1024

Attack = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


@pytest.fixture
async def api(victim: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    """The REST API of the coordinator under attack."""
    async with httpx.AsyncClient(base_url=victim.url, timeout=120) as client:
        yield client


@pytest.fixture
def victim(launcher: Launcher) -> Coordinator:
    """A coordinator with the default bounds."""
    return launcher.coordinator()


class Cost:
    """What calls cost a coordinator."""

    def __init__(self, coordinator: Coordinator, api: httpx.AsyncClient) -> None:
        self._process = Path("/proc", str(coordinator.program.pid))
        self._api = api
        self._before_mib = 0.0

    def begin(self) -> None:
        """Measures from now on."""
        # Has the peak forgotten.
        (self._process / "clear_refs").write_text("5")
        self._before_mib = self._mib("VmRSS")

    def peak_mib(self) -> float:
        """MiB at most above what there was."""
        return self._mib("VmHWM") - self._before_mib

    async def stalls(self) -> tuple[int, float]:
        """How often the loop stood still for too long, and for how long at most."""
        text = (await self._api.get("/metrics")).text
        return int(float(_metric(text, "aitbc_loop_stalls_total"))), float(
            _metric(text, "aitbc_loop_longest_turn_seconds")
        )

    def _mib(self, name: str) -> float:
        status = (self._process / "status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024


def _metric(text: str, name: str) -> str:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture
def cost(victim: Coordinator, api: httpx.AsyncClient) -> Cost:
    """What calls cost it."""
    return Cost(victim, api)


async def assert_cheap(
    cost: Cost, call: Callable[[], Awaitable[Any]], most_mib: int = MOST_MIB
) -> None:
    """Makes a call: its first time must not take too much memory, nor must any.

    It is made again while it seems to take long, which a busy machine may make of it.
    """
    seen = []
    for _ in range(TRIES):
        before, _longest = await cost.stalls()
        cost.begin()
        await call()
        peak = cost.peak_mib()
        after, longest = await cost.stalls()
        seen.append(f"{after - before} stalls (longest {longest:.3f} s), {peak:.0f} MiB")
        if peak > most_mib:
            break
        if after == before:
            return
    pytest.fail("; ".join(seen))


def filled(begin: bytes, item: bytes, end: bytes, size: int = 8 * MIB - 1024) -> bytes:
    """Returns a body of that size at most: as many items as fit."""
    count = (size - len(begin) - len(end)) // (len(item) + 1)
    return begin + b",".join([item] * count) + end


CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
SUBMIT, SUBMIT_BATCH = "/aitbc.v1.JobService/SubmitJob", "/aitbc.v1.JobService/BatchSubmitJobs"
MODEL = b'{"model":"m","'
REFUSED: dict[str, tuple[str, bytes]] = {
    "responses of nothing": (RESPONSES, filled(MODEL + b'input":[', b"{}", b"]}")),
    "half a MiB of them": (RESPONSES, filled(MODEL + b'input":[', b"{}", b"]}", MIB // 2)),
    "as many as are read": (RESPONSES, filled(MODEL + b'input":[', b"{}", b"]}", 290_000)),
    "chat without contents": (CHAT, filled(MODEL + b'messages":[', b'{"role":"user"}', b"]}")),
    "chat of nothing": (CHAT, filled(MODEL + b'messages":[', b"{}", b"]}", MIB // 2)),
    "chat of lists": (CHAT, filled(MODEL + b'messages":[', b"[[[]]]", b"]}")),
    "unknown parameters": (CHAT, b"{%b}" % b",".join(b'"u%d":0' % n for n in range(49_000))),
    "completions of nothing": ("/v1/completions", filled(MODEL + b'prompt":[', b"0", b"]}")),
    "messages of nothing": ("/v1/jobs", filled(MODEL + b'messages":[', b"{}", b"]}")),
    "messages, as many as are read": (
        "/v1/jobs",
        filled(MODEL + b'messages":[', b"{}", b"]}", 290_000),
    ),
    "batch of nothing": ("/v1/jobs:batch", filled(b'{"jobs":[', b"{}", b"]}")),
    "batch, as many as are read": ("/v1/jobs:batch", filled(b'{"jobs":[', b"{}", b"]}", 290_000)),
    "batch of batches": ("/v1/jobs:batch", filled(b'{"jobs":[', b'{"messages":[{},{}]}', b"]}")),
    "metadata": (
        "/v1/jobs",
        b'{"metadata":{%b}}' % b",".join(b'"k%d":"v"' % n for n in range(500_000)),
    ),
    "one name, again and again": ("/v1/jobs", filled(b"{", b'"a":1', b"}")),
    "one name, as often as is read": ("/v1/jobs", filled(b"{", b'"a":1', b"}", 290_000)),
    "depth": ("/v1/jobs", b'{"prompt":' + b"[" * (8 * MIB - 100)),
    "quotes": ("/v1/jobs", b'{"prompt":"' + b'\\"' * (4 * MIB - 100) + b'"}'),
    "a text without end": ("/v1/jobs", b'{"prompt":"' + b"\\" * (8 * MIB - 100)),
    "tools of nothing": ("/v1/jobs", filled(MODEL + b'prompt":"p","tools":[', b"{}", b"]}")),
    "schemas": (
        "/v1/jobs",
        orjson.dumps(
            {
                "model": "m",
                "prompt": "p",
                "tools": [
                    {"name": f"t{n}", "parameters": '{"a":[' + "[]," * 21_000 + "[]]}"}
                    for n in range(120)
                ],
            }
        ),
    ),
    "paths of proofs": (
        "/v1/receipts/verify",
        filled(b'{"receipt":{"proof":{"path":[', b'""', b"]}}}"),
    ),
    "events of webhooks": ("/v1/webhooks", filled(b'{"url":"u","events":[', b'""', b"]}")),
    "messages of nothing, over Connect": (SUBMIT, filled(MODEL + b'messages":[', b"{}", b"]}")),
    "messages, as many as are read over Connect": (
        SUBMIT,
        filled(MODEL + b'messages":[', b"{}", b"]}", 290_000),
    ),
    "batch, as many as are read over Connect": (
        SUBMIT_BATCH,
        filled(b'{"jobs":[', b"{}", b"]}", 290_000),
    ),
    "depth, over Connect": (SUBMIT, b'{"prompt":' + b"[" * (8 * MIB - 100)),
    "an unknown field of all that is read": (SUBMIT, filled(b'{"u":[', b"{}", b"]}", 290_000)),
    "one name, as often as is read over Connect": (SUBMIT, filled(b"{", b'"a":1', b"}", 290_000)),
}


@pytest.mark.parametrize(("path", "body"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_body_that_is_refused_costs_little(
    path: str, body: bytes, api: httpx.AsyncClient, cost: Cost
) -> None:
    async def call() -> None:
        answer = await api.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text[:300]
        assert len(answer.content) < 2000

    await assert_cheap(cost, call)


# Jobs of a batch in which there is nothing, as bytes.
NOTHINGS = b"\x0a\x00" * (4 * MIB - 1024)
PACKED = {"content-encoding": "gzip", "grpc-encoding": "gzip"}
BOMBS: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "bytes": ("application/proto", NOTHINGS, {}),
    "bytes of gRPC-Web": ("application/grpc-web", envelope(NOTHINGS), {}),
    "bytes as a text": (
        "application/grpc-web-text",
        b64encode(envelope(NOTHINGS[: 5 * MIB])),
        {},
    ),
    "a text of padding": ("application/grpc-web-text", b"QQ==" * (2 * MIB), {}),
    "bytes, packed": ("application/proto", gzip.compress(NOTHINGS), PACKED),
    "JSON, packed": (
        "application/json",
        gzip.compress(filled(b'{"jobs":[', b"{}", b"]}")),
        PACKED,
    ),
    "more than is taken, packed": ("application/proto", gzip.compress(bytes(256 * MIB)), PACKED),
    "more in an envelope": (
        "application/grpc-web",
        envelope(gzip.compress(bytes(256 * MIB)), 1),
        PACKED,
    ),
}


@pytest.mark.parametrize(("kind", "body", "headers"), BOMBS.values(), ids=BOMBS.keys())
async def test_a_bomb_over_connect_or_grpc_web_costs_little(
    kind: str, body: bytes, headers: dict[str, str], api: httpx.AsyncClient, cost: Cost
) -> None:
    async def call() -> None:
        answer = await api.post(
            SUBMIT_BATCH, content=body, headers={"Content-Type": kind, **headers}
        )
        assert ended(answer).code in {"invalid_argument", "resource_exhausted"}
        assert len(answer.content) < 2000

    await assert_cheap(cost, call)


TURN = {"role": "user", "content": "x"}
SCHEMA = orjson.dumps({"type": "object", "properties": {f"p{n}": {} for n in range(3000)}}).decode()
TAKEN: dict[str, tuple[str, Any]] = {
    "a batch of all that is allowed": (
        "/v1/jobs:batch",
        {"jobs": [{"model": "m", "messages": [TURN] * 15, "params": {"stop": ["a"] * 8}}] * 1000},
    ),
    "the same batch over Connect": (
        SUBMIT_BATCH,
        {"jobs": [{"model": "m", "messages": [TURN] * 15, "params": {"stop": ["a"] * 8}}] * 1000},
    ),
    "large texts": (
        "/v1/jobs",
        {"model": "m", "messages": [{**TURN, "content": "\n" * 4000}] * 990},
    ),
    "a batch of large texts": (
        "/v1/jobs:batch",
        {"jobs": [{"model": "m", "prompt": "x: " * 2700}] * 1000},
    ),
    "large schemas": (
        "/v1/jobs",
        {
            "model": "m",
            "prompt": "p",
            "tools": [{"name": f"t{n}", "parameters": SCHEMA} for n in range(128)],
        },
    ),
}


@pytest.mark.parametrize(("path", "body"), TAKEN.values(), ids=TAKEN.keys())
async def test_a_body_of_all_that_may_be_costs_little(
    path: str, body: Any, api: httpx.AsyncClient, cost: Cost
) -> None:
    content = orjson.dumps(body)
    assert len(content) < 8 * MIB

    async def call() -> None:
        answer = await api.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.is_success, answer.text[:300]

    await assert_cheap(cost, call)


async def test_news_of_many_unknown_leases_cost_little(
    victim: Coordinator, api: httpx.AsyncClient, cost: Cost
) -> None:
    # Nearly as many as one message may have, which is itself counted with them.
    updates = [work_pb2.Update(lease_id=f"l{n}") for n in range(99_000)]
    message = work_pb2.MinerMessage(updates=work_pb2.Updates(updates=updates))

    async def call() -> None:
        async with stream_miner(victim.grpc, "m", window=1) as miner:
            await miner.say(message)
            # It is read to its end: what comes after it is heard.
            job = {"model": "m", "prompt": "p"}
            job_id = (await api.post("/v1/jobs", json=job)).json()["job_id"]
            await miner.complete([await miner.assignment()])
            done = await api.get(f"/v1/jobs/{job_id}?wait=60")
            assert done.json()["status"] == "completed"

    await assert_cheap(cost, call)


async def test_waiting_jobs_of_many_bytes_cost_little(
    victim: Coordinator, api: httpx.AsyncClient, cost: Cost
) -> None:
    job = {"model": "m", "messages": [{**TURN, "content": "x" * 1_000_000}] * 7}
    for _ in range(12):
        assert (await api.post("/v1/jobs", json=job)).status_code == 201
    miner = {"miner_id": "polls", "capabilities": ["m"]}
    assert (await api.post("/v1/miners/register", json=miner)).status_code == 201
    for path in ("/v1/jobs/available?miner_id=polls&limit=100", "/v1/jobs?limit=100"):

        async def call(path: str = path) -> None:
            answer = await api.get(path)
            assert answer.status_code == 200
            assert answer.json()["jobs"]

        await assert_cheap(cost, call)


async def test_answers_that_are_never_read_are_few(
    victim: Coordinator, api: httpx.AsyncClient, cost: Cost
) -> None:
    job = {"model": "m", "prompt": "x" * 1_000_000}
    for _ in range(4):
        assert (await api.post("/v1/jobs", json=job)).status_code == 201
    cost.begin()
    async with Connection(victim.grpc) as silent:
        # It never widens its window, so that no answer but the first 64 KiB gets out.
        streams = [silent.call("/aitbc.v1.JobService/ListJobs") for _ in range(240)]
        for stream in streams:
            await silent.send(stream, bytes(5))
            silent.end(stream)
        async with asyncio.timeout(60):
            # Who reads elsewhere is told to read there first, and then is served again.
            while (await api.get("/v1/jobs")).status_code != 429:
                pass
    # Each is there as a message, as its bytes and as what gRPC holds of them.
    assert cost.peak_mib() < 3 * MOST_UNREAD_MIB + MOST_MIB
    async with asyncio.timeout(60):
        while (await api.get("/v1/jobs")).status_code != 200:
            pass
