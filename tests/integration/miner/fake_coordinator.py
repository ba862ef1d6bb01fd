"""The coordinator's end of the work stream, played by a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from aitbc.v1.jobs_pb2 import Job
from aitbc.v1.work_pb2 import (
    Ack,
    Acks,
    Assignment,
    Assignments,
    Cancellation,
    Cancellations,
    CancelReason,
    CoordinatorMessage,
    Drain,
    Heartbeat,
    Hello,
    MinerMessage,
    Update,
    Welcome,
)

# Bounds every wait: a test that hangs says where.
TIMEOUT_S = 20.0

Context = aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a stream ends."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    reason: str = ""

    @property
    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """The status with its reason, as the coordinator attaches it."""
        detail = AnyMessage()
        detail.Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="aitbc"))
        status = status_pb2.Status(code=self.code.value[0], message=self.details, details=[detail])
        return (("grpc-status-details-bin", status.SerializeToString()),)


class FakeSession:
    """One stream of a miner. Its Hello is read, its Welcome is the test's to send."""

    def __init__(self, context: Context, hello: Hello) -> None:
        self.hello = hello
        self.metadata = dict(context.invocation_metadata() or ())
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.heard: asyncio.Queue[MinerMessage] = asyncio.Queue()
        self._context = context

    async def send(self, **message: Any) -> None:
        """Says one message."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._context.write(CoordinatorMessage(**message))

    async def welcome(
        self,
        *,
        lost: Iterable[str] = (),
        acks: dict[str, int] | None = None,
        heartbeat_s: float = 10.0,
        lease_s: float = 60.0,
    ) -> None:
        """Accepts the session."""
        heartbeat, lease = Duration(), Duration()
        heartbeat.FromNanoseconds(int(heartbeat_s * 1e9))
        lease.FromNanoseconds(int(lease_s * 1e9))
        await self.send(
            welcome=Welcome(
                lease_duration=lease,
                heartbeat_interval=heartbeat,
                lost_lease_ids=lost,
                acks=_acks(acks or {}),
            )
        )

    async def assign(self, *assignments: Assignment) -> None:
        """Gives work."""
        await self.send(assignments=Assignments(assignments=assignments))

    async def ack(self, **next_sequences: int) -> None:
        """Says what is stored."""
        await self.send(acks=Acks(acks=_acks(next_sequences)))

    async def cancel(self, lease_id: str, reason: CancelReason.ValueType) -> None:
        """Stops a lease."""
        cancellation = Cancellation(lease_id=lease_id, reason=reason)
        await self.send(cancellations=Cancellations(cancellations=[cancellation]))

    async def drain(self) -> None:
        """Announces the end of the stream."""
        await self.send(drain=Drain())

    async def beat(self) -> None:
        """Says that it lives."""
        await self.send(heartbeat=Heartbeat())

    def end(self, ending: Ending) -> None:
        """Ends the stream."""
        self.ended.set_result(ending)

    async def next(self) -> MinerMessage:
        """Returns what the miner says next."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.heard.get()

    async def next_updates(self) -> list[Update]:
        """Returns the next news of jobs; heartbeats in between are passed over."""
        while not (message := await self.next()).HasField("updates"):
            assert message.HasField("heartbeat"), message
        return list(message.updates.updates)

    async def text_until(self, lease_id: str, text: str) -> int:
        """Waits until the deltas of a lease make this text; returns how many came."""
        deltas: list[str] = []
        while "".join(deltas) != text:
            updates = await self.next_updates()
            assert [update.sequence for update in updates] == [
                len(deltas) + index for index in range(len(updates))
            ]
            assert {update.lease_id for update in updates} == {lease_id}
            deltas += [update.delta.text for update in updates]
        return len(deltas)


class FakeCoordinator:
    """Listens for miners on a port of its own."""

    def __init__(self) -> None:
        self._sessions: asyncio.Queue[FakeSession] = asyncio.Queue()
        self.address = ""

    async def session(self, timeout_s: float = TIMEOUT_S) -> FakeSession:
        """Returns the next stream that a miner opens."""
        async with asyncio.timeout(timeout_s):
            return await self._sessions.get()

    async def work(self, requests: AsyncIterator[MinerMessage], context: Context) -> None:
        """Serves one stream until the test or the miner ends it."""
        session = FakeSession(context, (await anext(requests)).hello)
        self._sessions.put_nowait(session)
        listening = asyncio.create_task(_listen(requests, session))
        try:
            ending = await session.ended
            if ending.code is not grpc.StatusCode.OK:
                context.set_trailing_metadata(ending.trailing_metadata)
                await context.abort(ending.code, ending.details)
        finally:
            listening.cancel()


async def _listen(requests: AsyncIterator[MinerMessage], session: FakeSession) -> None:
    async for message in requests:
        session.heard.put_nowait(message)
    if not session.ended.done():
        session.ended.set_result(Ending())


@asynccontextmanager
async def fake_coordinator(address: str = "127.0.0.1:0") -> AsyncIterator[FakeCoordinator]:
    """Yields a coordinator that listens; one on an address used before is its restart."""
    coordinator = FakeCoordinator()
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.stream_stream_rpc_method_handler(
        coordinator.work,
        request_deserializer=MinerMessage.FromString,
        response_serializer=CoordinatorMessage.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("aitbc.v1.MinerService", {"Work": handler}),)
    )
    host = address.rpartition(":")[0]
    coordinator.address = f"{host}:{server.add_insecure_port(address)}"
    await server.start()
    try:
        yield coordinator
    finally:
        await server.stop(0)


def assignment(
    lease_id: str, prompt: str = "a b c", *, model: str = "m", **params: Any
) -> Assignment:
    """Returns a lease on a new job."""
    job = Job(job_id=f"job-{lease_id}", model=model, prompt=prompt)
    for name, value in params.items():
        setattr(job.params, name, value)
    return Assignment(lease_id=lease_id, attempt=1, job=job)


def _acks(next_sequences: dict[str, int]) -> list[Ack]:
    return [
        Ack(lease_id=lease_id, next_sequence=next_sequence)
        for lease_id, next_sequence in next_sequences.items()
    ]
