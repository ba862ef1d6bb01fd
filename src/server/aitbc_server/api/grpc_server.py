"""The gRPC port: the endpoints, the Work stream, reflection and the standard health service.

Every method takes its request as a stream does, whatever its proto says: gRPC then calls the
handler before it receives anything, so that nobody's message is read before its sender is let in.
On the wire, and in what it costs, that is the same.

Handlers are registered as generic ones only. The registered-method handlers that generated code
adds beside them cost up to 29 % a call in grpcio 1.85 (https://github.com/grpc/grpc/pull/43461).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf import message_factory
from google.protobuf.message import Message

from aitbc.v1 import miners_pb2
from aitbc_server.address import Address
from aitbc_server.api import reflection
from aitbc_server.api.endpoint import ADMISSION, OPENED, Endpoint, Gate, access_of
from aitbc_server.api.errors import INTERNAL_REASON, failure_of, let_go, to_status
from aitbc_server.api.intake import Intake, Noted
from aitbc_server.api.peers import address_in
from aitbc_server.api.probes import COUNTED, UNCOUNTED, Probes
from aitbc_server.api.wire import shape_of
from aitbc_server.api.work import WorkStreams
from aitbc_server.api.work_session import Context
from aitbc_server.auth.shares import Shares
from aitbc_server.auth.unread import SMALL_BYTES, Unread
from aitbc_server.domain.call import Call, current_call, request_id
from aitbc_server.domain.caller import Access, Caller
from aitbc_server.files import share_of_files
from aitbc_server.tls import TlsFiles, grpc_server_credentials

_log = structlog.get_logger(__name__)

Calls = Counter[tuple[str, str]]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_REQUEST_ID = "x-request-id"
_OK = grpc.StatusCode.OK.name
# What gRPC calls the end of a call whose other side is gone.
_BROKEN = grpc.StatusCode.CANCELLED.name
_MINER_SERVICE = "aitbc.v1.MinerService"
_OPTIONS: tuple[tuple[str, int], ...] = (
    # One process owns the port: a second one must fail, not take half of the connections.
    ("grpc.so_reuseport", 0),
    # Miners sit behind NAT and ping to keep their mapping.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Calls that arrive while the loop is busy; beyond these they are refused (default: 1,000).
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 30_000),
    ("grpc.max_send_message_length", -1),
    # A client that asks and never reads keeps its answers in this process's memory.
    # A burst larger than this is refused in part: clients learn the bound after their first calls.
    ("grpc.max_concurrent_streams", 4_000),
    # What arrives of messages that are not read yet is held in memory: 64 KiB of each, and not as
    # much as a fast network brings. A message that is read gets the room that it needs.
    ("grpc.http2.bdp_probe", 0),
    # A connection that makes no calls.
    ("grpc.max_connection_idle_ms", 300_000),
    # Seconds that a connection may take to say what it is.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.settings_timeout", 10_000),
)
_MOST_CONNECTIONS = 20_000


def most_connections() -> int:
    """Returns how many connections the port takes."""
    return share_of_files(_MOST_CONNECTIONS)


class GrpcServer:
    """A grpc.aio server over the endpoints."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        work: WorkStreams,
        gate: Gate,
        shares: Shares,
        work_shares: Shares,
        unread: Unread,
        *,
        max_message_bytes: int,
        body_s: float,
        noted: Noted,
        tls: TlsFiles | None = None,
    ) -> None:
        """`shares` are of calls under way, `work_shares` of Work streams.

        `unread` is what calls answered and their clients have not taken.

        `body_s`: seconds for a large message to arrive; `noted` is told of large ones.

        Raises OSError when the files of TLS are not right.
        """
        self._credentials = None if tls is None else grpc_server_credentials(tls)
        options = [
            *_OPTIONS,
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_allowed_incoming_connections", most_connections()),
        ]
        self._server = grpc.aio.server(options=options)
        # Calls by method and code.
        self.calls: Calls = Counter()
        services = sorted({endpoint.service for endpoint in endpoints.values()})
        intake = Intake(body_s=body_s, noted=noted)
        self._probes = Probes(intake, services)
        door = _Door(gate, shares, work_shares, unread, intake, self.calls)
        for service in services:
            handlers = {
                endpoint.method.name: door.streaming(endpoint)
                if endpoint.is_streaming
                else door.unary(endpoint)
                for endpoint in endpoints.values()
                if endpoint.service == service
            }
            if service == _MINER_SERVICE:
                handlers["Work"] = door.work(work)
            self._add(service, handlers)
        self._add("grpc.health.v1.Health", door.health(self._probes))
        for version in (reflection.V1, reflection.V1_ALPHA):
            self._add(version, door.reflection(version, self._probes))
        self.port = 0
        self._host = ""

    def _add(self, service: str, handlers: Mapping[str, _Handler]) -> None:
        generic = grpc.method_handlers_generic_handler(service, dict(handlers))
        self._server.add_generic_rpc_handlers((generic,))

    async def start(self, address: Address) -> None:
        """Listens and serves. Raises OSError when the port cannot be had."""
        host = f"[{address.host}]" if ":" in address.host else address.host
        try:
            if self._credentials is None:
                self.port = self._server.add_insecure_port(f"{host}:{address.port}")
            else:
                self.port = self._server.add_secure_port(
                    f"{host}:{address.port}", self._credentials
                )
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} for gRPC: is the port taken?") from error
        await self._server.start()
        self._host = address.host

    async def is_answering(self) -> bool:
        """Says whether connections to the port are taken."""
        # An address that stands for all is no address to connect to.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        try:
            _, writer = await asyncio.open_connection(host, self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def set_serving(self, *, is_serving: bool) -> None:
        """Tells the standard health service, for the whole server and for each service."""
        await self._probes.set_serving(is_serving=is_serving)

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, and ends those that last longer than the grace."""
        await self._server.stop(grace_s)


class _Door:
    """Makes the handlers of methods, which let their calls in and read their messages."""

    def __init__(
        self,
        gate: Gate,
        shares: Shares,
        work_shares: Shares,
        unread: Unread,
        intake: Intake,
        calls: Calls,
    ) -> None:
        self._gate = gate
        self._shares = shares
        self._work_shares = work_shares
        self._unread = unread
        self._intake = intake
        self._calls = calls

    def unary(self, endpoint: Endpoint) -> _Handler:
        """Returns the handler of a method with one response."""
        gate, shares, intake, calls = self._gate, self._shares, self._intake, self._calls
        unread = self._unread
        kind, access, method = endpoint.request_class, endpoint.access, endpoint.method
        name, shape = method.name, shape_of(method.input_type)
        asked = replace(access, is_unlimited=True)
        response_class = message_factory.GetMessageClass(method.output_type)

        async def call(_: AsyncIterator[bytes], context: Context) -> Message:
            request: Any = None
            response: Any = None
            try:
                metadata = _begin(context)
                if ADMISSION in metadata:
                    gate.admit(asked, metadata, _peer(context))
                    return response_class()
                caller = gate.admit(access, metadata, _peer(context))
                if not access.is_unlimited:
                    unread.check(caller)
                shares.take(caller)
                try:
                    request = await intake.read(context, caller, kind, shape, endpoint.check)
                    response = await endpoint(request, caller, is_checked=True)
                finally:
                    shares.give(caller)
                if (size := response.ByteSize()) > SMALL_BYTES:
                    # The call is done when its client has taken the answer, or has gone.
                    release: Any = unread.hold(caller, size)
                    context.add_done_callback(release)
            except grpc.aio.BaseError:
                # The call is over, by what the intake told it or because its client has gone.
                calls[name, _BROKEN] += 1
                raise
            except Exception as error:
                # The error that ends the call holds on to this frame until cycles are collected.
                request = response = None
                await _abort(context, error, method.full_name, calls)
                raise  # abort has raised already
            calls[name, _OK] += 1
            return response  # type: ignore[no-any-return]

        return grpc.stream_unary_rpc_method_handler(call, response_serializer=_serialize)

    def streaming(self, endpoint: Endpoint) -> _Handler:
        """Returns the handler of a method with many responses."""
        shape, unread = shape_of(endpoint.method.input_type), self._unread

        async def serve(context: Context, caller: Caller) -> None:
            unread.check(caller)
            request = await self._intake.read(
                context, caller, endpoint.request_class, shape, endpoint.check
            )
            responses = await endpoint.open(request, caller, is_checked=True)
            # Tells a gateway at once that the call did not fail, however long the first response
            # takes.
            await context.send_initial_metadata(OPENED)
            async with contextlib.aclosing(responses):
                async for response in responses:
                    if (size := response.ByteSize()) > SMALL_BYTES:
                        # Written when there is room for it on the way to the client.
                        with unread.held(caller, size):
                            await context.write(response)
                    else:
                        await context.write(response)

        return self._stream(endpoint.method.full_name, endpoint.access, serve, shares=self._shares)

    def work(self, streams: WorkStreams) -> _Handler:
        """Returns the handler of the Work stream, whose messages its sessions read."""
        method = miners_pb2.DESCRIPTOR.services_by_name["MinerService"].methods_by_name["Work"]

        return self._stream(
            method.full_name,
            access_of(method),
            streams.serve,
            shares=self._work_shares,
        )

    def health(self, probes: Probes) -> dict[str, _Handler]:
        """Returns the handlers of the standard health service."""
        name = "grpc.health.v1.Health"
        return {
            "Check": self._stream(f"{name}.Check", UNCOUNTED, probes.check, shares=None),
            "Watch": self._stream(f"{name}.Watch", COUNTED, probes.watch, shares=None),
        }

    def reflection(self, service: str, probes: Probes) -> dict[str, _Handler]:
        """Returns the handler of server reflection, by the name of one of its versions."""
        name = f"{service}.ServerReflectionInfo"
        return {"ServerReflectionInfo": self._stream(name, UNCOUNTED, probes.reflect, shares=None)}

    def _stream(
        self,
        method: str,
        access: Access,
        serve: Callable[[Context, Caller], Awaitable[None]],
        *,
        shares: Shares | None,
    ) -> _Handler:
        """Returns the handler of a stream, whose messages come as bytes.

        `shares`: of what it counts among; of nothing where it counts its streams itself.
        """
        calls, name = self._calls, method.rpartition(".")[2]
        asked = replace(access, is_unlimited=True)

        # The iterator goes unused: a coroutine that reads and writes can do both at once.
        async def call(_: AsyncIterator[Any], context: Context) -> None:
            try:
                metadata = _begin(context)
                if ADMISSION in metadata:
                    self._gate.admit(asked, metadata, _peer(context))
                    return
                caller = self._gate.admit(access, metadata, _peer(context))
                with contextlib.nullcontext() if shares is None else shares.held(caller):
                    await serve(context, caller)
                calls[name, _OK] += 1
            except grpc.aio.AbortError:
                # Told already, by what it served.
                calls[name, _BROKEN] += 1
                raise
            except grpc.aio.BaseError:
                # The stream broke under a write: there is nobody to tell.
                calls[name, _BROKEN] += 1
            except Exception as error:
                await _abort(context, error, method, calls)

        return grpc.stream_stream_rpc_method_handler(call, response_serializer=_serialize)


def _begin(context: Context) -> dict[str, str]:
    """Notes what the call is, and answers with its id; returns its metadata."""
    pairs = context.invocation_metadata() or ()
    metadata = {key: value for key, value in pairs if isinstance(value, str)}
    call = Call(request_id(metadata.get(_REQUEST_ID)), metadata.get("traceparent"))
    current_call.set(call)
    metadata[_REQUEST_ID] = call.request_id
    context.set_trailing_metadata(((_REQUEST_ID, call.request_id),))
    return metadata


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _peer(context: Context) -> str:
    """Returns the IP address of the caller; empty where it has none, as over a Unix socket."""
    return address_in(context.peer()).host


async def _abort(context: Context, error: Exception, method: str, calls: Calls) -> None:
    failure = failure_of(error)
    if failure.reason == INTERNAL_REASON:
        _log.error("call.failed", method=method, exc_info=error)
    calls[method.rpartition(".")[2], failure.code.name] += 1
    let_go(error)
    status: Any = to_status(failure)
    # An abort leaves out the trailing metadata that was set before.
    named = (_REQUEST_ID, current_call.get().request_id)
    abort: Callable[[grpc.Status], Awaitable[None]] = context.abort_with_status
    await abort(status._replace(trailing_metadata=(*status.trailing_metadata, named)))
