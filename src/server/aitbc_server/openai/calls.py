"""Calls methods of the backend for a client of this API."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc_server.api.endpoint import Messages
from aitbc_server.api.errors import CallError, failure_of
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import BatchNotFound, CoordinatorError, FileNotFound
from aitbc_server.openai.errors import OpenAIError, code_of
from aitbc_server.openai.jobs import Client
from aitbc_server.rest.backend import Backend

# How often, and how long at most, what comes too fast is held back before its client is told.
_TRIES = 20
_MOST_PAUSE_S = 2.0
_TOO_FAST = "RATE_LIMITED"
_ABSENT = (FileNotFound.reason, BatchNotFound.reason)
# Fields of requests that name what may not be there.
_NAMES = ("file_id", "batch_id", "input_file_id", "after")


class Calls:
    """Calls methods."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def admit(self, method: MethodDescriptor, client: Client) -> None:
        """Lets a client in, before the body of its request is read: it is one call, whatever
        follows.
        """
        caller = self._backend.admit(method, client.headers, client.peer)
        await self._backend.confirm(method, client.headers, caller)
        client.caller = client.let_in(caller)

    async def call(self, method: MethodDescriptor, request: Message, client: Client) -> Any:
        """Returns the response. Raises OpenAIError when a file or a batch is not there."""
        caller = self._admitted(method, client)
        try:
            return await self._backend.call(method, request, client.headers, caller)
        except (CoordinatorError, CallError) as error:
            failure = failure_of(error)
            if failure.reason not in _ABSENT:
                raise
            param = next(name for name in _NAMES if name in method.input_type.fields_by_name)
            code = code_of(failure.reason)
            raise OpenAIError(404, failure.message, code=code, param=param) from None

    async def call_patiently(
        self, method: MethodDescriptor, request: Message, client: Client
    ) -> Any:
        """Does the same for one of many calls: waits where they come too fast.

        A coordinator behind a gateway counts them all.
        """
        for _ in range(_TRIES):
            try:
                return await self.call(method, request, client)
            except Exception as error:
                failure = failure_of(error)
                if failure.reason != _TOO_FAST:
                    raise
                await asyncio.sleep(min(failure.retry_after_s or 0.1, _MOST_PAUSE_S))
        return await self.call(method, request, client)

    async def open(self, method: MethodDescriptor, request: Message, client: Client) -> Messages:
        """Begins a stream of responses."""
        caller = self._admitted(method, client)
        return await self._backend.open(method, request, client.headers, caller)

    def _admitted(self, method: MethodDescriptor, client: Client) -> Caller:
        return client.caller or client.let_in(
            self._backend.admit(method, client.headers, client.peer)
        )
