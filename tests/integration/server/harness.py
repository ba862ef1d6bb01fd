"""A coordinator in this process on free ports, and a miner whose every message the test sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aitbc.v1 import (
    batches_pb2_grpc,
    explorer_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    miners_pb2_grpc,
    network_pb2_grpc,
    receipts_pb2_grpc,
    webhooks_pb2_grpc,
    work_pb2,
)
from aitbc_server.api.errors import from_rpc_error
from aitbc_server.app import Coordinator
from aitbc_server.config import Settings
from aitbc_server.ledger.cosignatures import Witness
from aitbc_server.ledger.keys import Signer

# A witness whose cosignatures are taken.
WITNESS_KEY = Signer(Ed25519PrivateKey.from_private_bytes(b"\3" * 32))
WITNESS = Witness("witness.example", WITNESS_KEY.public_key)
# No message that a test waits for may take longer.
PATIENCE_S = 20.0


class Client:
    """Stubs on one channel to one coordinator."""

    def __init__(self, running: Coordinator, channel: grpc.aio.Channel) -> None:
        self.coordinator = running
        self.channel = channel
        self.jobs = jobs_pb2_grpc.JobServiceStub(channel)
        self.miners = miners_pb2_grpc.MinerServiceStub(channel)
        self.explorer = explorer_pb2_grpc.ExplorerServiceStub(channel)
        self.receipts = receipts_pb2_grpc.ReceiptServiceStub(channel)
        self.network = network_pb2_grpc.NetworkServiceStub(channel)
        self.files = batches_pb2_grpc.FileServiceStub(channel)
        self.batches = batches_pb2_grpc.BatchServiceStub(channel)
        self.webhooks = webhooks_pb2_grpc.WebhookServiceStub(channel)

    @property
    def url(self) -> str:
        """Base URL of the REST API."""
        return f"http://127.0.0.1:{self.coordinator.http_port}"

    async def submit(self, prompt: str = "hello", **fields: Any) -> str:
        """Submits a job; returns its id."""
        request = jobs_pb2.SubmitJobRequest(prompt=prompt, model=fields.pop("model", "m"), **fields)
        return (await self.jobs.SubmitJob(request)).job_id

    async def queue(self, job_id: str) -> jobs_pb2.GetJobQueueResponse:
        """Returns why a job waits."""
        return await self.jobs.GetJobQueue(jobs_pb2.GetJobQueueRequest(job_id=job_id))

    async def job(self, job_id: str, wait: float = 0) -> jobs_pb2.Job:
        """Returns a job, as soon as it is final when `wait` is given."""
        return await self.jobs.GetJob(jobs_pb2.GetJobRequest(job_id=job_id, wait=wait))

    @asynccontextmanager
    async def miner(
        self,
        miner_id: str = "miner-1",
        *,
        window: int = 4,
        held: Sequence[str] = (),
        public_key: bytes = b"",
        adapters: Sequence[str] = (),
        infos: Sequence[work_pb2.ModelInfo] = (),
    ) -> AsyncIterator[FakeMiner]:
        """Opens a Work stream, says Hello and takes the Welcome."""
        miner = FakeMiner(self.miners.Work())
        try:
            leases = [work_pb2.HeldLease(lease_id=lease_id, next_sequence=1) for lease_id in held]
            await miner.send(
                hello=work_pb2.Hello(
                    miner_id=miner_id,
                    models=["m", *adapters],
                    parents=dict.fromkeys(adapters, "m"),
                    capacity=work_pb2.Capacity(max_outstanding_jobs=window),
                    held_leases=leases,
                    public_key=public_key,
                    model_infos=infos,
                )
            )
            miner.welcome = (await miner.expect("welcome")).welcome
            yield miner
        finally:
            miner.call.cancel()


class FakeMiner:
    """The miner's end of a Work stream."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.welcome = work_pb2.Welcome()

    async def send(self, **message: Any) -> None:
        """Sends a MinerMessage."""
        await self.call.write(work_pb2.MinerMessage(**message))

    async def expect(self, kind: str) -> work_pb2.CoordinatorMessage:
        """Returns the next message, which must be of this kind; heartbeats between are skipped."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self.call.read()
                assert message is not grpc.aio.EOF, f"the stream ended before {kind}"
                assert isinstance(message, work_pb2.CoordinatorMessage)
                got = message.WhichOneof("message")
                if got == kind:
                    return message
                assert got == "heartbeat", f"{got} came before {kind}: {message}"

    async def next(self, kind: str) -> work_pb2.CoordinatorMessage:
        """Returns the next message of a kind, whatever comes between."""
        async with asyncio.timeout(PATIENCE_S):
            while (message := await self.call.read()) is not grpc.aio.EOF:
                if message.WhichOneof("message") == kind:
                    assert isinstance(message, work_pb2.CoordinatorMessage)
                    return message
        raise AssertionError(f"the stream ended before {kind}")

    async def assignments(self, count: int = 1) -> list[work_pb2.Assignment]:
        """Returns the next so many assignments."""
        taken: list[work_pb2.Assignment] = []
        while len(taken) < count:
            taken.extend((await self.expect("assignments")).assignments.assignments)
        assert len(taken) == count
        return taken

    async def complete(
        self, lease_id: str, result: str = "done", sequence: int = 0, tokens: int | None = None
    ) -> None:
        """Sends a result."""
        completion = work_pb2.Completion(result=result, finish_reason="stop")
        if tokens is not None:
            completion.usage.completion_tokens = tokens
        update = work_pb2.Update(lease_id=lease_id, sequence=sequence, completion=completion)
        await self.send(updates=work_pb2.Updates(updates=[update]))

    async def say(self, lease_id: str, text: str, sequence: int) -> None:
        """Sends more of an answer."""
        delta = work_pb2.Delta(text=text, tokens=1)
        update = work_pb2.Update(lease_id=lease_id, sequence=sequence, delta=delta)
        await self.send(updates=work_pb2.Updates(updates=[update]))

    async def fail(
        self, lease_id: str, code: str = "OOM", *, retryable: bool = True, sequence: int = 0
    ) -> None:
        """Sends a failure."""
        failure = work_pb2.Failure(code=code, message="it broke", retryable=retryable)
        update = work_pb2.Update(lease_id=lease_id, sequence=sequence, failure=failure)
        await self.send(updates=work_pb2.Updates(updates=[update]))

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Waits for the coordinator to end the stream; returns (status, reason)."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while await self.call.read() is not grpc.aio.EOF:
                    pass
                return await self.call.code(), ""
            except grpc.aio.AioRpcError as error:
                return error.code(), from_rpc_error(error).reason


@asynccontextmanager
async def coordinator(data: Path, **settings: Any) -> AsyncIterator[Client]:
    """Runs a coordinator, and stops it as SIGTERM would."""
    values: dict[str, Any] = {
        "http": "127.0.0.1:0",
        "grpc": "127.0.0.1:0",
        "data": data,
        "drain_seconds": 0.0,
        "ledger_witnesses": (WITNESS,),
    }
    running = Coordinator(Settings(**(values | settings)))
    await running.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{running.grpc_port}")
    try:
        yield Client(running, channel)
    finally:
        await running.drain()
        await running.stop()
        await channel.close()
