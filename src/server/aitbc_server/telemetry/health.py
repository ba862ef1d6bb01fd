"""Whether the process lives, and whether it can do its work: two questions with two answers.

A process that lives but is not ready is to be left alone and given no traffic; restarting it would
not free its disk.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from typing import Protocol

import structlog

from aitbc_server.domain.errors import CoordinatorError
from aitbc_server.lifecycle import Lifecycle

_log = structlog.get_logger(__name__)

# One probe serves everybody who asks within this time.
_FRESH_S = 1.0
# A disk that takes longer is as good as none.
_PROBE_TIMEOUT_S = 5.0
# A probe is small, and may find room where a job finds none: a refusal is remembered for so long.
_REFUSAL_S = 10.0
OK = "ok"


class Probed(Protocol):
    """Storage that can be asked to write."""

    def probe(self) -> Future[None]:
        """Writes something that changes nothing. Raises StorageUnavailable."""
        ...


class StreamLayer(Protocol):
    """The gRPC port."""

    async def is_answering(self) -> bool:
        """Says whether a call to it comes back."""
        ...


class Health:
    """Answers whether the coordinator is ready, and if not, why."""

    def __init__(self, lifecycle: Lifecycle, store: Probed, streams: StreamLayer) -> None:
        self._lifecycle = lifecycle
        self._store = store
        self._streams = streams
        self._checked: dict[str, str] = {}
        self._checked_at = float("-inf")
        self._checking: asyncio.Task[dict[str, str]] | None = None
        self._refused_at = float("-inf")

    def committed(self, operations: int, seconds: float, is_stored: bool) -> None:
        """Notes that the storage refused a commit."""
        del operations, seconds
        if not is_stored:
            self._refused_at = asyncio.get_running_loop().time()

    async def checks(self) -> dict[str, str]:
        """Returns `ok` or a problem for each part."""
        phase = self._phase()
        if phase != OK:
            return {"phase": phase}
        loop = asyncio.get_running_loop()
        if loop.time() - self._checked_at > _FRESH_S:
            # One task for all that ask at once; it outlives those that do not wait.
            self._checking = self._checking or asyncio.create_task(self._check())
            self._checked = await asyncio.shield(self._checking)
        return {"phase": phase, **self._checked}

    def _phase(self) -> str:
        try:
            self._lifecycle.check_serving()
        except CoordinatorError as error:
            return str(error)
        return OK

    async def _check(self) -> dict[str, str]:
        try:
            store, streams = await asyncio.gather(self._check_store(), self._check_streams())
            self._checked_at = asyncio.get_running_loop().time()
            return {"store": store, "streams": streams}
        finally:
            self._checking = None

    async def _check_store(self) -> str:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await self._store.probe()
        except TimeoutError:
            return f"a write took longer than {_PROBE_TIMEOUT_S:.0f} s"
        except CoordinatorError as error:
            return str(error)
        except Exception as error:
            return _broke("store", error)
        if asyncio.get_running_loop().time() - self._refused_at < _REFUSAL_S:
            return f"a write was refused within the last {_REFUSAL_S:.0f} s"
        return OK

    async def _check_streams(self) -> str:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                is_answering = await self._streams.is_answering()
        except TimeoutError:
            is_answering = False
        except Exception as error:
            return _broke("streams", error)
        return OK if is_answering else "the gRPC port does not answer"


def _broke(check: str, error: Exception) -> str:
    # Told in words: the exception would go to all that ask, and is nobody's.
    _log.error("health.check_broke", check=check, exc_info=error)
    return f"the check broke with {type(error).__name__}"
