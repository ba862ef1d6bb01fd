"""The methods of all services as one table, which gRPC and REST both call.

A service is a class with a `descriptor` and one coroutine method for each rpc, named like it in
snake_case: `SubmitJob` is `async def submit_job(self, request, caller)`. It returns the response
message or raises a domain error; it knows neither gRPC nor HTTP.

The coroutine of an rpc that streams its responses returns them as an async generator. What it
raises itself is the failure of the call; what the generator raises ends a stream that has begun.
Whoever takes a generator closes it, also when its reader has gone.

An rpc that streams requests is served by the gRPC port alone.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from aitbc.v1 import annotations_pb2
from aitbc_server.api.validation import validator
from aitbc_server.domain.caller import Access, Caller, Role
from aitbc_server.domain.errors import PayloadTooLarge

# Metadata with which a stream of responses begins. A call that fails before has none of it.
OPENED = (("aitbc-stream", "open"),)
# The responses of one call, as they come.
Messages = AsyncGenerator[Message, None]
Handler = Callable[[Any, Caller], Awaitable[Any]]


class Gate(Protocol):
    """Lets calls in."""

    def admit(self, access: Access, metadata: Mapping[str, str], peer: str) -> Caller:
        """Returns who calls; `metadata` has lower-case names, `peer` is the IP address.

        Raises what a caller is told who may not call, or not now.
        """
        ...

    def check_live(self, caller: Caller) -> None:
        """Raises InvalidApiKey when the key of a call that lasts is no longer valid."""
        ...


class Service(Protocol):
    """What `endpoints` needs of a service, beside its methods."""

    descriptor: ServiceDescriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method, ready to be called."""

    method: MethodDescriptor
    request_class: type[Message]
    # Who may call it.
    access: Access
    _handler: Handler
    _validate: Callable[[Message], None]

    @property
    def service(self) -> str:
        """Full name of its service."""
        return self.method.containing_service.full_name

    @property
    def is_streaming(self) -> bool:
        """Whether it is opened, for many responses, instead of called for one."""
        return self.method.server_streaming

    def __call__(self, request: Message, caller: Caller) -> Awaitable[Message]:
        """Validates a request of a caller who was let in, and answers it. Raises domain errors."""
        return self._answer(request, caller)

    def open(self, request: Message, caller: Caller) -> Awaitable[Messages]:
        """Does the same for a method that streams. The generator may raise domain errors too."""
        return self._answer(request, caller)

    def _answer(self, request: Message, caller: Caller) -> Awaitable[Any]:
        # No coroutine of its own, here and in the layers above: each would be made for every call.
        most = caller.limits.body_bytes
        if most and request.ByteSize() > most:
            raise PayloadTooLarge(most)
        self._validate(request)
        return self._handler(request, caller)


def endpoints(services: Iterable[Service]) -> dict[str, Endpoint]:
    """Returns the endpoints by full method name, such as `aitbc.v1.JobService.SubmitJob`.

    A service may be made of several parts. Raises AttributeError when a method that its descriptor
    promises is in none of them.
    """
    parts = list(services)
    table = {}
    for descriptor in dict.fromkeys(part.descriptor for part in parts):
        of_service = [part for part in parts if part.descriptor is descriptor]
        for method in descriptor.methods:
            if method.client_streaming:
                continue
            table[method.full_name] = Endpoint(
                method=method,
                access=access_of(method),
                request_class=message_factory.GetMessageClass(method.input_type),
                _handler=_handler(of_service, _snake(method.name)),
                _validate=validator(method.input_type),
            )
    return table


def _handler(parts: Iterable[Service], name: str) -> Handler:
    for part in parts:
        handler: Handler | None = getattr(part, name, None)
        if handler is not None:
            return handler
    raise AttributeError(f"no part of the service has {name}")


def access_of(method: MethodDescriptor) -> Access:
    """Returns who may call a method, as its proto says."""
    # Parsed again: a method of another descriptor pool holds the options as unknown bytes.
    options = MethodOptions.FromString(method.GetOptions().SerializeToString()).Extensions
    numbers = options[annotations_pb2.roles]
    names = (annotations_pb2.Role.Name(number).removeprefix("ROLE_") for number in numbers)
    return Access(
        is_public=options[annotations_pb2.is_public],
        is_unlimited=options[annotations_pb2.is_unlimited],
        roles=frozenset(Role(name.lower()) for name in names),
    )


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
