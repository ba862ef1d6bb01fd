"""One timer rings for all that is not over in time."""

from __future__ import annotations

import asyncio
from functools import partial

from aitbc_server.alarms import Alarms


async def test_what_is_over_in_time_is_not_rung_for() -> None:
    alarms = Alarms(0.02)
    rung: list[str] = []
    ended = asyncio.Event()
    for name in ("first", "second", "last"):
        alarms.set(name, partial(rung.append, name))
    alarms.off("second")
    alarms.set("end", ended.set)
    await asyncio.wait_for(ended.wait(), 10)
    assert rung == ["first", "last"]


async def test_alarms_are_set_again_after_all_have_rung() -> None:
    alarms = Alarms(0.01)
    for _ in range(3):
        rung = asyncio.Event()
        alarms.set("it", rung.set)
        await asyncio.wait_for(rung.wait(), 10)


async def test_alarms_that_are_set_later_ring_later() -> None:
    alarms, loop = Alarms(0.05), asyncio.get_running_loop()
    first, last = loop.create_future(), asyncio.Event()
    alarms.set("first", partial(first.set_result, None))
    loop.call_later(0.03, alarms.set, "last", last.set)
    await asyncio.wait_for(first, 10)
    assert not last.is_set()
    await asyncio.wait_for(last.wait(), 10)


async def test_one_that_breaks_takes_nothing_from_the_others() -> None:
    alarms, rung = Alarms(0.01), asyncio.Event()
    alarms.set("broken", lambda: 1 // 0)
    alarms.set("whole", rung.set)
    await asyncio.wait_for(rung.wait(), 10)


async def test_one_may_take_back_another() -> None:
    alarms, ended = Alarms(0.01), asyncio.Event()
    rung: list[str] = []
    alarms.set("first", partial(alarms.off, "second"))
    alarms.set("second", partial(rung.append, "second"))
    alarms.set("end", ended.set)
    await asyncio.wait_for(ended.wait(), 10)
    assert rung == []
