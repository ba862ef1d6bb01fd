"""The gRPC port: the endpoints, the Work stream, reflection and the standard health service.

Handlers are registered as generic ones only. The registered-method handlers that generated code
adds beside them cost up to 29 % a call in grpcio 1.85 (https://github.com/grpc/grpc/pull/43461).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import grpc
import structlog
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from aitbc.v1 import miners_pb2, work_pb2
from aitbc_server.address import Address
from aitbc_server.api.endpoint import OPENED, Endpoint, Gate, access_of
from aitbc_server.api.errors import INTERNAL_REASON, failure_of, to_status
from aitbc_server.api.work import WorkStreams
from aitbc_server.api.work_session import Context
from aitbc_server.domain.call import Call, current_call, request_id
from aitbc_server.tls import TlsFiles, grpc_server_credentials

_log = structlog.get_logger(__name__)

Calls = Counter[tuple[str, str]]

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
    ("grpc.max_concurrent_streams", 20_000),
)


class GrpcServer:
    """A grpc.aio server over the endpoints."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        work: WorkStreams,
        gate: Gate,
        *,
        max_message_bytes: int,
        tls: TlsFiles | None = None,
    ) -> None:
        """Raises OSError when the files of TLS are not right."""
        self._credentials = None if tls is None else grpc_server_credentials(tls)
        options = [*_OPTIONS, ("grpc.max_receive_message_length", max_message_bytes)]
        self._server = grpc.aio.server(options=options)
        # Calls by method and code.
        self.calls: Calls = Counter()
        self._health = health.aio.HealthServicer()
        self._services = sorted({endpoint.service for endpoint in endpoints.values()})
        for service in self._services:
            handlers = {
                endpoint.method.name: _handler(endpoint, gate, self.calls)
                for endpoint in endpoints.values()
                if endpoint.service == service
            }
            if service == _MINER_SERVICE:
                handlers["Work"] = _work(work, gate, self.calls)
            generic = grpc.method_handlers_generic_handler(service, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        generic_only = cast("grpc.aio.Server", _GenericOnly(self._server))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, generic_only)
        names = [*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
            reflection.aio.ReflectionServicer(names), generic_only
        )
        self.port = 0
        self._host = ""

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
        status = health_pb2.HealthCheckResponse.ServingStatus.Value(
            "SERVING" if is_serving else "NOT_SERVING"
        )
        for service in ("", *self._services):
            await self._health.set(service, status)

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, and ends those that last longer than the grace."""
        await self._server.stop(grace_s)


class _GenericOnly:
    """Stands for a server towards generated code, and leaves out what it registers twice."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(tuple(handlers))

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        del service, handlers


def _handler(endpoint: Endpoint, gate: Gate, calls: Calls) -> grpc.RpcMethodHandler[Any, Any]:
    return (_streaming if endpoint.is_streaming else _unary)(endpoint, gate, calls)


def _unary(endpoint: Endpoint, gate: Gate, calls: Calls) -> grpc.RpcMethodHandler[Any, Any]:
    name = endpoint.method.name

    async def call(request: Message, context: Context) -> Message:
        try:
            metadata = _begin(context)
            caller = gate.admit(endpoint.access, metadata, _peer(context))
            response = await endpoint(request, caller)
        except Exception as error:
            await _abort(context, error, endpoint.method.full_name, calls)
            raise  # abort has raised already
        calls[name, _OK] += 1
        return response

    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=endpoint.request_class.FromString,
        response_serializer=_serialize,
    )


def _streaming(endpoint: Endpoint, gate: Gate, calls: Calls) -> grpc.RpcMethodHandler[Any, Any]:
    name = endpoint.method.name

    async def call(request: Message, context: Context) -> None:
        try:
            metadata = _begin(context)
            caller = gate.admit(endpoint.access, metadata, _peer(context))
            responses = await endpoint.open(request, caller)
            # Tells a gateway at once that the call did not fail, however long the first response
            # takes.
            await context.send_initial_metadata(OPENED)
            async with contextlib.aclosing(responses):
                async for response in responses:
                    await context.write(response)
            calls[name, _OK] += 1
        except grpc.aio.BaseError:
            # The stream broke under a write: there is nobody to tell.
            calls[name, _BROKEN] += 1
        except Exception as error:
            await _abort(context, error, endpoint.method.full_name, calls)

    return grpc.unary_stream_rpc_method_handler(
        call,
        request_deserializer=endpoint.request_class.FromString,
        response_serializer=_serialize,
    )


def _work(streams: WorkStreams, gate: Gate, calls: Calls) -> grpc.RpcMethodHandler[Any, Any]:
    method = miners_pb2.DESCRIPTOR.services_by_name["MinerService"].methods_by_name["Work"]
    access = access_of(method)

    # The iterator goes unused: a coroutine that reads and writes can do both at once.
    async def call(_: AsyncIterator[work_pb2.MinerMessage], context: Context) -> None:
        try:
            metadata = _begin(context)
            caller = gate.admit(access, metadata, _peer(context))
            await streams.serve(context, caller)
            calls[method.name, _OK] += 1
        except grpc.aio.BaseError:
            # The stream broke under a write: there is nobody to tell.
            calls[method.name, _BROKEN] += 1
        except Exception as error:
            await _abort(context, error, method.full_name, calls)

    return grpc.stream_stream_rpc_method_handler(
        call,
        request_deserializer=work_pb2.MinerMessage.FromString,
        response_serializer=_serialize,
    )


def _begin(context: Context) -> dict[str, str]:
    """Notes what the call is, and answers with its id; returns its metadata."""
    pairs = context.invocation_metadata() or ()
    metadata = {key: value for key, value in pairs if isinstance(value, str)}
    call = Call(request_id(metadata.get(_REQUEST_ID)), metadata.get("traceparent"))
    current_call.set(call)
    context.set_trailing_metadata(((_REQUEST_ID, call.request_id),))
    return metadata


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _peer(context: Context) -> str:
    """Returns the IP address of the caller; empty where it has none, as over a Unix socket."""
    return _address_in(context.peer())


@lru_cache(maxsize=1024)
def _address_in(peer: str) -> str:
    # `ipv4:192.0.2.1:5000` or `ipv6:%5B2001:db8::1%5D:5000`.
    kind, _, address = peer.partition(":")
    if not kind.startswith("ipv"):
        return ""
    return address.rpartition(":")[0].removeprefix("%5B").removesuffix("%5D").strip("[]")


async def _abort(context: Context, error: Exception, method: str, calls: Calls) -> None:
    failure = failure_of(error)
    if failure.reason == INTERNAL_REASON:
        _log.error("call.failed", method=method, exc_info=error)
    calls[method.rpartition(".")[2], failure.code.name] += 1
    status: Any = to_status(failure)
    # An abort leaves out the trailing metadata that was set before.
    named = (_REQUEST_ID, current_call.get().request_id)
    abort: Callable[[grpc.Status], Awaitable[None]] = context.abort_with_status
    await abort(status._replace(trailing_metadata=(*status.trailing_metadata, named)))
