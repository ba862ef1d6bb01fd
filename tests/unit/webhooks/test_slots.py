"""Slots are shared by owners, not by who came first."""

from __future__ import annotations

import asyncio

import pytest

from aitbc_server.webhooks.slots import Slots


async def waiting(slots: Slots, owner: str) -> asyncio.Task[None]:
    """Begins to wait for a slot that is not free."""
    task = asyncio.create_task(slots.take(owner))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_an_owner_has_its_share_and_leaves_the_rest() -> None:
    slots = Slots(3, 2)
    await slots.take("a")
    await slots.take("a")
    third = await waiting(slots, "a")
    await slots.take("b")
    slots.give("a")
    await third


async def test_owners_take_turns_however_many_wait() -> None:
    slots = Slots(1, 1)
    await slots.take("a")
    order: list[str] = []

    async def deliver(owner: str) -> None:
        async with slots.held(owner):
            order.append(owner)

    tasks = [asyncio.create_task(deliver(owner)) for owner in ("a", "a", "a", "b", "c")]
    await asyncio.sleep(0)
    slots.give("a")
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c", "a", "a"]


async def test_who_leaves_takes_no_slot_along() -> None:
    slots = Slots(1, 1)
    await slots.take("a")
    gone = await waiting(slots, "b")
    next_one = await waiting(slots, "c")
    gone.cancel()
    # Before the one that leaves has had its turn of the loop.
    slots.give("a")
    await next_one
    with pytest.raises(asyncio.CancelledError):
        await gone
    slots.give("c")
    await slots.take("b")


async def test_who_leaves_as_its_slot_comes_gives_it_back() -> None:
    slots = Slots(1, 1)
    await slots.take("a")
    gone = await waiting(slots, "b")
    slots.give("a")
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await slots.take("c")
