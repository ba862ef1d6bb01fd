"""A coordinator elsewhere as a backend, its methods learnt by gRPC server reflection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, cast

import grpc
import structlog
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2

from aitbc_server.api.endpoint import ADMISSION, OPENED, Messages, access_of
from aitbc_server.api.errors import CallError, from_rpc_error
from aitbc_server.auth.gate import key_in
from aitbc_server.auth.house import House
from aitbc_server.domain.caller import Access, Caller
from aitbc_server.rest.errors import CoordinatorUnreachable
from aitbc_server.tls import TargetTls

_LEARN_TIMEOUT_S = 5.0
# A little more than the longest wait that a method offers.
_CALL_TIMEOUT_S = 75.0
# Headers that mean the same to the coordinator.
_FORWARDED = ("x-api-key", "x-request-id", "authorization", "traceparent", "tracestate")
# What gRPC metadata cannot carry. It becomes something else, not nothing: a key stays wrong.
_NOT_METADATA = re.compile(r"[^ -~]")
# gRPC's own limits let two minutes pass before it looks for a restarted server again.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A stream of responses may be silent for long: without pings, nobody saw its server vanish.
    ("grpc.keepalive_time_ms", 25_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)

# A key that is revoked meets the coordinator itself with each call.
_LET_IN_S = 1.0
_MOST_LET_IN = 10_000
_NOT_LET_IN = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)

_log = structlog.get_logger()


class ReflectedBackend:
    """Calls a coordinator over a channel of its own.

    The methods are learnt when they are first asked for, and again after the connection was lost or
    a method was missing, because another version may be there then.
    """

    def __init__(
        self, target: str, tls: TargetTls | None = None, house: House | None = None
    ) -> None:
        """Without `tls`, the target is spoken to in plain text. Raises TlsError."""
        self._target = target
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(
                target, tls.credentials(), options=_CHANNEL_OPTIONS
            )
        self._house = house or House(has_proxies=True)
        self._accesses: dict[str, Access] = {}
        # Methods and keys that were let in, and until when they need not be asked for again.
        self._let_in: dict[tuple[str, str | None], float] = {}
        # Empty while nothing is known.
        self._methods: Sequence[MethodDescriptor] = ()
        self._learning: asyncio.Task[None] | None = None

    async def methods(self) -> Sequence[MethodDescriptor]:
        """Returns the methods of all services. Raises CoordinatorUnreachable."""
        if not self._methods or self._channel.get_state() != grpc.ChannelConnectivity.READY:
            # One task for all that wait: they would all ask the same.
            if self._learning is None:
                self._learning = asyncio.create_task(self._learn())
                self._learning.add_done_callback(self._learnt)
            try:
                await asyncio.shield(self._learning)
            except CoordinatorUnreachable as error:
                # One for each that waits: an exception keeps the traces of all that raise it.
                raise CoordinatorUnreachable(str(error)) from None
        return self._methods

    def admit(self, method: MethodDescriptor, headers: Mapping[str, str], peer: str) -> Caller:
        """Lets in whom no foreign page sends: the coordinator decides, by the key and the peer."""
        access = self._accesses.get(method.full_name)
        if access is None:
            access = self._accesses[method.full_name] = access_of(method)
        if not access.is_public and key_in(headers) is None:
            self._house.check(access, headers)
        return Caller(account=peer)

    async def confirm(
        self, method: MethodDescriptor, headers: Mapping[str, str], caller: Caller
    ) -> None:
        """Asks the coordinator whether it would let the call in. Raises as `call`."""
        # Without a key everybody is told the same.
        asked = (method.full_name, key_in(headers))
        now = asyncio.get_running_loop().time()
        if self._let_in.get(asked, 0.0) > now:
            return
        path = _codec(method)[0]
        stub = self._channel.unary_stream(path, bytes, bytes)
        metadata = (*_forwarded(headers, caller.account), (ADMISSION, "1"))
        call = stub(b"", metadata=metadata, timeout=_LEARN_TIMEOUT_S)
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            if error.code() in _NOT_LET_IN:
                raise self._failure(error) from None
            # Let in, by a coordinator that does not know the question.
        finally:
            call.cancel()
        if len(self._let_in) >= _MOST_LET_IN:
            self._let_in.clear()
        self._let_in[asked] = now + _LET_IN_S

    async def call(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Message:
        """Calls the method, with the caller's key. Raises CallError or CoordinatorUnreachable."""
        stub = self._channel.unary_unary(*_codec(method))
        call = stub(request, metadata=_forwarded(headers, caller.account), timeout=_CALL_TIMEOUT_S)
        try:
            response: Message = await call
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from None
        else:
            return response
        finally:
            # A call that its awaiter left is neither ended nor collected by grpc.aio.
            call.cancel()

    async def open(
        self,
        method: MethodDescriptor,
        request: Message,
        headers: Mapping[str, str],
        caller: Caller,
    ) -> Messages:
        """Begins the stream, with the caller's key. Raises as `call`, as does the stream."""
        stub = self._channel.unary_stream(*_codec(method))
        responses = self._responses(stub(request, metadata=_forwarded(headers, caller.account)))
        # The first item says only that the call has not failed: see OPENED.
        await anext(responses)
        return responses

    async def _responses(
        self, call: grpc.aio.UnaryStreamCall[Any, Any]
    ) -> AsyncGenerator[Message, None]:
        try:
            has_begun = dict(OPENED).items() <= dict(await call.initial_metadata()).items()
            # Another server says nothing before its first response.
            response = Empty() if has_begun else await call.read()
            yield Empty()
            if has_begun:
                response = await call.read()
            while response is not grpc.aio.EOF:
                yield cast("Message", response)
                response = await call.read()
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from None
        finally:
            call.cancel()

    def _failure(self, error: grpc.aio.AioRpcError) -> CallError | CoordinatorUnreachable:
        failure = from_rpc_error(error)
        if failure.code == grpc.StatusCode.UNIMPLEMENTED:
            self._methods = ()
        # A reason that only repeats the code comes from gRPC itself, not from a coordinator.
        if failure.reason == grpc.StatusCode.UNAVAILABLE.name:
            return CoordinatorUnreachable()
        return CallError(failure)

    async def close(self) -> None:
        """Ends all calls and the connection."""
        if self._learning is not None:
            self._learning.cancel()
        await self._channel.close()

    def _learnt(self, learning: asyncio.Task[None]) -> None:
        self._learning = None
        # Looked at here too: all that waited for it may have gone.
        if not learning.cancelled() and learning.exception() is not None:
            self._methods = ()

    async def _learn(self) -> None:
        try:
            methods = await _reflect(self._channel)
        except _ReflectionFailed as error:
            _log.warning(
                "reflection_failed", target=self._target, code=error.code.name, details=str(error)
            )
            if error.code == grpc.StatusCode.UNIMPLEMENTED:
                raise CoordinatorUnreachable(
                    "the coordinator does not offer server reflection"
                ) from None
            raise CoordinatorUnreachable from None
        self._methods = methods
        self._accesses.clear()
        _log.info("reflection_learnt", target=self._target, methods=len(methods))


def _codec(method: MethodDescriptor) -> tuple[str, Any, Any]:
    """Returns what a channel makes a stub of: the path, and what turns messages to bytes and back.

    Made for each call: a table of stubs would have to outlive the calls of older descriptors.
    """
    service, _, name = method.full_name.rpartition(".")
    return (
        f"/{service}/{name}",
        message_factory.GetMessageClass(method.input_type).SerializeToString,
        message_factory.GetMessageClass(method.output_type).FromString,
    )


def _forwarded(headers: Mapping[str, str], peer: str) -> tuple[tuple[str, str], ...]:
    forwarded = [
        (name, _NOT_METADATA.sub("?", value))
        for name in _FORWARDED
        if (value := headers.get(name)) is not None
    ]
    # As every proxy does: the coordinator, where it trusts this one, counts calls by it.
    via = ", ".join(filter(None, (headers.get("x-forwarded-for"), peer)))
    return (*forwarded, ("x-forwarded-for", _NOT_METADATA.sub("?", via)))


async def _reflect(channel: grpc.aio.Channel) -> tuple[MethodDescriptor, ...]:
    """Returns the methods of the server, from a descriptor pool of their own."""
    # Not by the generated stub, whose types know the channels of threads only.
    ask = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = ask(timeout=_LEARN_TIMEOUT_S)
    try:
        files = _Files(call)
        services = await files.services()
        return tuple(
            method
            for service in services
            for method in files.pool.FindServiceByName(service).methods
        )
    except grpc.aio.AioRpcError:
        # A write that crosses the end of the call fails as INTERNAL; the call itself knows why.
        raise _ReflectionFailed(await call.code(), await call.details()) from None
    finally:
        call.cancel()


class _ReflectionFailed(Exception):
    def __init__(self, code: grpc.StatusCode, details: str | None) -> None:
        super().__init__(details or "")
        self.code = code


class _Files:
    """The descriptor files of a server, asked for one after another on one reflection stream."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.pool = DescriptorPool()
        self._received: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        self._added: set[str] = set()

    async def services(self) -> list[str]:
        """Loads the files of all services; returns the services' names."""
        answer = await self._ask(list_services="")
        names = []
        for service in answer.list_services_response.service:
            # A server may list a service without knowing its descriptor; that one is left out.
            for name in await self._receive(file_containing_symbol=service.name):
                await self._add(name)
                names.append(service.name)
                break
        return names

    async def _receive(self, **query: Any) -> list[str]:
        answer = await self._ask(**query)
        names = []
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            self._received.setdefault(file.name, file)
            names.append(file.name)
        return names

    async def _add(self, name: str) -> None:
        if name in self._added:
            return
        self._added.add(name)
        if name not in self._received:
            # Some servers send the dependencies of a file only when they are asked for.
            await self._receive(file_by_filename=name)
        file = self._received[name]
        for dependency in file.dependency:
            await self._add(dependency)
        self.pool.AddSerializedFile(file.SerializeToString())

    async def _ask(self, **query: Any) -> reflection_pb2.ServerReflectionResponse:
        await self._call.write(reflection_pb2.ServerReflectionRequest(**query))
        answer = await self._call.read()
        if answer is grpc.aio.EOF:
            # The status says why; awaiting it raises when it is not OK.
            await self._call.code()
            raise CoordinatorUnreachable("the coordinator ended the reflection stream")
        response: reflection_pb2.ServerReflectionResponse = answer
        return response
