"""What a connection sends: one write a turn, in order, and none to a client that has gone."""

from __future__ import annotations

import asyncio

import pytest

from aitbc_server.rest.outlet import Outlet


class _Transport(asyncio.Transport):
    """A transport that notes what it is told, and like uvloop's takes nothing once closed."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []
        self._is_closed = False

    def write(self, data: object) -> None:
        if self._is_closed:
            raise RuntimeError("the handler is closed")
        self.told.append(data)

    def close(self) -> None:
        self._is_closed = True
        self.told.append("close")

    def abort(self) -> None:
        self._is_closed = True
        self.told.append("abort")

    def is_closing(self) -> bool:
        return self._is_closed


@pytest.fixture
async def errors() -> list[object]:
    """What callbacks of the loop raised."""
    raised: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: raised.append(context.get("exception")))
    return raised


async def _outlet() -> tuple[Outlet, _Transport]:
    transport = _Transport()
    return Outlet(transport, asyncio.get_running_loop()), transport


async def _turn() -> None:
    await asyncio.sleep(0)


async def test_what_is_written_in_one_turn_goes_out_as_one(errors: list[object]) -> None:
    outlet, transport = await _outlet()
    outlet.write(b"head ")
    outlet.write(b"body")
    assert transport.told == []
    await _turn()
    outlet.write(b"more")
    await _turn()
    assert transport.told == [b"head body", b"more"]
    assert not errors


async def test_much_goes_out_at_once(errors: list[object]) -> None:
    outlet, transport = await _outlet()
    outlet.write(b"head ")
    outlet.write(b"x" * 100_000)
    assert transport.told == [b"head " + b"x" * 100_000]
    outlet.write(b"more")
    await _turn()
    assert transport.told[1:] == [b"more"]
    assert not errors


async def test_it_closes_after_what_was_written(errors: list[object]) -> None:
    outlet, transport = await _outlet()
    outlet.write(b"last")
    outlet.close()
    await _turn()
    assert transport.told == [b"last", "close"]
    assert not errors


async def test_nothing_is_written_to_a_client_that_has_gone(errors: list[object]) -> None:
    outlet, transport = await _outlet()
    outlet.write(b"answer")
    transport.close()
    await _turn()
    outlet.write(b"more")
    outlet.close()
    await _turn()
    assert [told for told in transport.told if told != "close"] == []
    assert not errors


async def test_an_abort_forgets_what_was_written(errors: list[object]) -> None:
    outlet, transport = await _outlet()
    outlet.write(b"answer")
    outlet.abort()
    await _turn()
    assert transport.told == ["abort"]
    assert not errors
