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
from google.protobuf.message import Message

from aitbc.v1 import annotations_pb2
from aitbc_server.api.validation import validator
from aitbc_server.domain.caller import Caller, Role

# Turns the metadata of a call (lower-case names) into its caller. Raises a domain error.
Authenticate = Callable[[Mapping[str, str]], Caller]
_ANYBODY = Caller()

# Metadata with which a stream of responses begins. A call that fails before has none of it.
OPENED = (("aitbc-stream", "open"),)
# The responses of one call, as they come.
Messages = AsyncGenerator[Message, None]
Handler = Callable[[Any, Caller], Awaitable[Any]]


class Service(Protocol):
    """What `endpoints` needs of a service, beside its methods."""

    descriptor: ServiceDescriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method, ready to be called."""

    method: MethodDescriptor
    request_class: type[Message]
    # Whether anybody may call it.
    is_public: bool
    # Roles whose keys may call it, beside admins; none stands for every key.
    roles: frozenset[Role]
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

    async def __call__(
        self, request: Message, metadata: Mapping[str, str], authenticate: Authenticate
    ) -> Message:
        """Identifies the caller, validates the request and answers it. Raises domain errors."""
        response: Message = await self._answer(request, metadata, authenticate)
        return response

    async def open(
        self, request: Message, metadata: Mapping[str, str], authenticate: Authenticate
    ) -> Messages:
        """Does the same for a method that streams. The generator may raise domain errors too."""
        responses: Messages = await self._answer(request, metadata, authenticate)
        return responses

    async def _answer(
        self, request: Message, metadata: Mapping[str, str], authenticate: Authenticate
    ) -> Any:
        caller = _ANYBODY if self.is_public else authenticate(metadata)
        self._validate(request)
        return await self._handler(request, caller)


def endpoints(services: Iterable[Service]) -> dict[str, Endpoint]:
    """Returns the endpoints by full method name, such as `aitbc.v1.JobService.SubmitJob`.

    Raises AttributeError when a service lacks a method that its descriptor promises.
    """
    table = {}
    for service in services:
        for method in service.descriptor.methods:
            if method.client_streaming:
                continue
            table[method.full_name] = Endpoint(
                method=method,
                is_public=method.GetOptions().Extensions[annotations_pb2.is_public],
                roles=_roles(method),
                request_class=message_factory.GetMessageClass(method.input_type),
                _handler=getattr(service, _snake(method.name)),
                _validate=validator(method.input_type),
            )
    return table


def _roles(method: MethodDescriptor) -> frozenset[Role]:
    numbers = method.GetOptions().Extensions[annotations_pb2.roles]
    names = (annotations_pb2.Role.Name(number).removeprefix("ROLE_") for number in numbers)
    return frozenset(Role(name.lower()) for name in names)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
