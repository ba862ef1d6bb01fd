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
from aitbc_server.aside import LARGE_BYTES, aside
from aitbc_server.auth.lasting import Lasting
from aitbc_server.domain.caller import Access, Caller, Role
from aitbc_server.domain.errors import PayloadTooLarge

# Metadata with which a stream of responses begins. A call that fails before has none of it.
OPENED = (("aitbc-stream", "open"),)
# Metadata of a call that only asks whether it would be let in: its message is not read.
ADMISSION = "aitbc-admission"
# Field of a request that says how long its answer may take.
_WAIT = "wait"
# The responses of one call, as they come.
Messages = AsyncGenerator[Message, None]
# What sends on what others ask or answer.
_FOR_PROGRAMS = frozenset({"CreateWebhook", "UpdateWebhook", "RegisterMiner"})
Handler = Callable[[Any, Caller], Awaitable[Any]]


class Gate(Protocol):
    """Lets calls in."""

    def admit(self, access: Access, metadata: Mapping[str, str], peer: str) -> Caller:
        """Returns who calls; `metadata` has lower-case names, `peer` is the IP address.

        Raises what a caller is told who may not call, or not now.
        """
        ...

    def check_live(self, caller: Caller) -> Caller:
        """Returns the caller of a call that lasts as its key is now.

        Raises InvalidApiKey when that is no longer valid.
        """
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
    # Ends what lasts longer than its caller's key.
    _lasting: Lasting | None = None
    # Whether its request may ask to wait.
    can_wait: bool = False

    @property
    def service(self) -> str:
        """Full name of its service."""
        return self.method.containing_service.full_name

    @property
    def is_streaming(self) -> bool:
        """Whether it is opened, for many responses, instead of called for one."""
        return self.method.server_streaming

    def waits(self, request: Message) -> bool:
        """Says whether a request asks to wait."""
        waiting: Any = request
        return self.can_wait and waiting.wait > 0

    def __call__(
        self, request: Message, caller: Caller, *, is_checked: bool = False
    ) -> Awaitable[Message]:
        """Validates a request of a caller who was let in, and answers it. Raises domain errors.

        `is_checked`: whether it was checked already.
        """
        if self.can_wait and self._lasting is not None and self.waits(request):
            return self._lasting.answer(self._answer(request, caller, is_checked), caller.key_id)
        return self._answer(request, caller, is_checked)

    def open(
        self, request: Message, caller: Caller, *, is_checked: bool = False
    ) -> Awaitable[Messages]:
        """Does the same for a method that streams. The generator may raise domain errors too."""
        if self._lasting is None or caller.key_id is None:
            return self._answer(request, caller, is_checked)
        answer = self._answer(request, caller, is_checked)
        return _open_lasting(answer, self._lasting, caller.key_id)

    def check(self, request: Message, caller: Caller) -> Awaitable[None] | None:
        """Validates a request: beside the loop, and to be waited for, when it is large."""
        size, most = request.ByteSize(), caller.limits.body_bytes
        if most and size > most:
            raise PayloadTooLarge(most)
        if size > LARGE_BYTES:
            return aside(self._validate, request)
        self._validate(request)
        return None

    def _answer(self, request: Message, caller: Caller, is_checked: bool) -> Awaitable[Any]:
        # No coroutine of its own, here and in the layers above: each would be made for every call.
        checking = None if is_checked else self.check(request, caller)
        if checking is not None:
            return self._answer_checked(checking, request, caller)
        return self._handler(request, caller)

    async def _answer_checked(
        self, checking: Awaitable[None], request: Message, caller: Caller
    ) -> Any:
        await checking
        return await self._handler(request, caller)


def endpoints(services: Iterable[Service], lasting: Lasting | None = None) -> dict[str, Endpoint]:
    """Returns the endpoints by full method name, such as `aitbc.v1.JobService.SubmitJob`.

    `lasting` ends calls when their keys end.

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
                _lasting=lasting,
                can_wait=_WAIT in method.input_type.fields_by_name,
            )
    return table


async def _open_lasting(answer: Awaitable[Messages], lasting: Lasting, key_id: str) -> Messages:
    return lasting.stream(await answer, key_id)


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
        is_for_programs=method.name in _FOR_PROGRAMS,
        is_public=options[annotations_pb2.is_public],
        is_unlimited=options[annotations_pb2.is_unlimited],
        roles=frozenset(Role(name.lower()) for name in names),
    )


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
