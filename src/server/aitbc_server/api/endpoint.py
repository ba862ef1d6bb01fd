"""The unary methods of all services as one table, which gRPC and REST both call.

A service is a class with a `descriptor` and one coroutine method for each unary rpc, named like it
in snake_case: `SubmitJob` is `async def submit_job(self, request, caller)`. It returns the response
message or raises a domain error; it knows neither gRPC nor HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
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

Handler = Callable[[Any, Caller], Awaitable[Message]]


class Service(Protocol):
    """What `endpoints` needs of a service, beside its methods."""

    descriptor: ServiceDescriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One unary method, ready to be called."""

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

    async def __call__(
        self, request: Message, metadata: Mapping[str, str], authenticate: Authenticate
    ) -> Message:
        """Identifies the caller, validates the request and answers it. Raises domain errors."""
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
            if method.client_streaming or method.server_streaming:
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
