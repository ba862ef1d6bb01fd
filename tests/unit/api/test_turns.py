"""So many turns at once, and in order."""

from __future__ import annotations

import asyncio

import pytest

from aitbc_server.api.turns import Turns


async def test_turns_come_in_the_order_in_which_they_are_waited_for() -> None:
    turns, had = Turns(1), []

    async def wait(name: str) -> None:
        await turns.wait()
        had.append(name)
        turns.give()

    assert turns.take()
    assert not turns.take()
    waiting = [asyncio.create_task(wait(name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    turns.give()
    await asyncio.gather(*waiting)
    assert had == ["first", "second"]
    assert turns.is_unused


@pytest.mark.parametrize("has_come", [False, True], ids=["before its turn", "with its turn"])
async def test_who_waits_no_longer_leaves_the_turn_to_the_next(has_come: bool) -> None:
    turns = Turns(1)
    assert turns.take()
    gone = asyncio.create_task(turns.wait())
    stays = asyncio.create_task(turns.wait())
    await asyncio.sleep(0)
    if has_come:
        turns.give()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    if not has_come:
        turns.give()
    await asyncio.wait_for(stays, 10)
    turns.give()
    assert turns.is_unused
