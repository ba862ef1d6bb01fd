"""The standard services for health and reflection, behind the same gate as all others.

Anybody may ask them. What lasts is bounded, for each caller and for all, in number and in time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from aitbc_server.api.intake import Context, Intake, ending
from aitbc_server.api.reflection import Question, Reflection
from aitbc_server.api.wire import Shape, parse
from aitbc_server.auth.buckets import Buckets
from aitbc_server.auth.shares import Shares
from aitbc_server.domain.caller import Access, Caller
from aitbc_server.domain.errors import MessageTimeout, PayloadTooLarge, StreamOver

# Calls that last: of each address, and of all.
_CHECKS = 64
_ALL_CHECKS = 2000
_WATCHES = 16
_ALL_WATCHES = 1000
_REFLECTIONS = 8
_ALL_REFLECTIONS = 100
# Whoever watches comes back.
_WATCH_S = 3600.0
# To learn all that there is takes less than one.
_REFLECTION_S = 60.0
_MOST_BYTES = 1024

# Questions a second of one caller, and at once: all that a coordinator has to tell takes fewer.
_QUESTIONS_RATE = 20.0
_QUESTIONS_AT_ONCE = 100

# Probes ask often, and are answered from memory.
UNCOUNTED = Access(is_public=True, is_unlimited=True)
COUNTED = Access(is_public=True)


class Probes:
    """Health and reflection."""

    def __init__(self, intake: Intake, services: list[str]) -> None:
        """`services`: full names of those whose health is told, and which are described."""
        self._intake = intake
        self._services = services
        self._health = health.aio.HealthServicer()
        self._reflection = Reflection([*services, health.SERVICE_NAME])
        self._shape = Shape(most_bytes=_MOST_BYTES)
        self._buckets = Buckets()
        self._checks = Shares(
            "checks of health", each=_CHECKS, visitors=_ALL_CHECKS, total=_ALL_CHECKS
        )
        self._watches = Shares(
            "watches of health", each=_WATCHES, visitors=_ALL_WATCHES, total=_ALL_WATCHES
        )
        self._reflections = Shares(
            "reflections", each=_REFLECTIONS, visitors=_ALL_REFLECTIONS, total=_ALL_REFLECTIONS
        )

    async def set_serving(self, *, is_serving: bool) -> None:
        """Tells it, for the whole server and for each service."""
        status = health_pb2.HealthCheckResponse.ServingStatus.Value(
            "SERVING" if is_serving else "NOT_SERVING"
        )
        for service in ("", *self._services):
            await self._health.set(service, status)

    async def check(self, context: Context, caller: Caller) -> None:
        """Answers Health.Check. Raises TooManyCalls."""
        with self._checks.held(caller):
            request = await self._read(context, caller)
            await context.write(await self._health.Check(request, context))

    async def watch(self, context: Context, caller: Caller) -> None:
        """Serves Health.Watch. Raises TooManyCalls."""
        with self._watches.held(caller):
            request = await self._read(context, caller)
            with ending(context, _WATCH_S, StreamOver):
                await self._health.Watch(request, context)

    async def reflect(self, context: Context, caller: Caller) -> None:
        """Serves ServerReflectionInfo, slowly to who asks much. Raises TooManyCalls."""
        with self._reflections.held(caller), ending(context, _REFLECTION_S, MessageTimeout):
            async with contextlib.aclosing(self._questions(context, caller)) as questions:
                async for question in questions:
                    await context.write(self._reflection.answer(question))

    async def _read(self, context: Context, caller: Caller) -> Any:
        kind = health_pb2.HealthCheckRequest
        return await self._intake.read(context, caller, kind, self._shape)

    async def _questions(self, context: Context, caller: Caller) -> AsyncGenerator[Question, None]:
        now = asyncio.get_running_loop().time
        while (data := await context.read()) is not grpc.aio.EOF:
            if len(data) > _MOST_BYTES:
                raise PayloadTooLarge(_MOST_BYTES)
            for_whom = caller.account, _QUESTIONS_RATE, _QUESTIONS_AT_ONCE
            while wait_s := self._buckets.take(*for_whom, now()):  # noqa: ASYNC110 - it is time
                await asyncio.sleep(wait_s)
            yield parse(Question, data)
