"""Who is there and what is served is counted as it changes, as counting it all anew would."""

from __future__ import annotations

import random
import time

from aitbc_server.dispatch.core import Core
from aitbc_server.dispatch.live import CloseReason
from aitbc_server.dispatch.registry import Registry
from aitbc_server.domain.miners import MinerRecord, MinerStatus
from aitbc_server.domain.tasks import ModelInfo, Task
from tests.factories import instant, session

ONLINE, DRAINING, OFFLINE = MinerStatus.ONLINE, MinerStatus.DRAINING, MinerStatus.OFFLINE


def record(miner_id: str, *models: str, owner: str | None = None) -> MinerRecord:
    return MinerRecord(
        miner_id=miner_id,
        models=models or ("m",),
        gpu_info=None,
        public_key=b"",
        agent_version="",
        registered_us=1,
        owner=owner,
    )


def registry(*records: MinerRecord) -> tuple[Core, Registry]:
    core = Core(lease_s=15)
    return core, Registry(records, core.sessions)


def test_miners_that_hold_a_stream_are_counted_by_what_they_do() -> None:
    core, miners = registry(*(record(f"miner-{number}", "m", "n") for number in range(4)))
    now = instant()
    opened = [
        session(f"miner-{number}", window=1, models=("m", "n"), heard_at=now.mono)
        for number in range(3)
    ]
    for one in opened:
        core.sessions.open(one, [], now)
    assert miners.counts(now) == {ONLINE: 3, DRAINING: 0, OFFLINE: 1}
    core.sessions.set_window(opened[0], 0, now)
    core.sessions.drain(opened[1], True, now)
    assert miners.counts(now) == {ONLINE: 1, DRAINING: 2, OFFLINE: 1}
    core.sessions.set_window(opened[0], 1, now)
    core.sessions.close(opened[1], CloseReason.GONE, now)
    assert miners.counts(now) == {ONLINE: 2, DRAINING: 0, OFFLINE: 2}
    assert core.sessions.census.models(now) == {"m": 2, "n": 2}
    # A newer session of a miner is in the place of the older.
    again = session("miner-0", window=1, models=("k",), heard_at=now.mono)
    core.sessions.open(again, [], now)
    assert miners.counts(now) == {ONLINE: 2, DRAINING: 0, OFFLINE: 2}
    assert core.sessions.census.models(now) == {"k": 1, "m": 1, "n": 1}


def test_a_miner_that_polls_is_there_for_a_minute() -> None:
    core, miners = registry(record("a"), record("b"))
    miners.seen("a", instant(0))
    miners.seen("b", instant(30))
    assert miners.counts(instant(59)) == {ONLINE: 2, DRAINING: 0, OFFLINE: 0}
    assert core.sessions.census.models(instant(59)) == {"m": 2}
    assert miners.status("a", instant(61)) is OFFLINE
    assert core.sessions.census.models(instant(61)) == {"m": 1}
    miners.drain("b", 1)
    assert miners.counts(instant(61)) == {ONLINE: 0, DRAINING: 1, OFFLINE: 1}
    miners.remove("b")
    assert miners.counts(instant(61)) == {ONLINE: 0, DRAINING: 0, OFFLINE: 1}
    assert core.sessions.census.models(instant(61)) == {}


def test_counts_are_those_of_counting_all_anew() -> None:
    dice = random.Random(11)
    core, miners = registry()
    sessions = core.sessions.by_miner
    polled: dict[str, float] = {}
    for step in range(3_000):
        now, miner_id = instant(step / 5), f"miner-{dice.randrange(30)}"
        models = [f"model-{n}" for n in dice.sample(range(6), dice.randrange(1, 4))]
        what = dice.choice(["register", "poll", "open", "window", "drain", "close", "remove"])
        is_known, opened = miners.find(miner_id) is not None, sessions.get(miner_id)
        if what == "register" and opened is None:
            miners.put(record(miner_id, *models, owner="o" if miner_id[-1] in "02468" else None))
        elif what == "poll" and is_known and opened is None:
            miners.seen(miner_id, now)
            polled[miner_id] = now.mono
        elif what == "open" and is_known:
            fresh = session(
                miner_id,
                models=miners.get(miner_id).models,
                heard_at=now.mono,
                is_drained=miners.is_drained(miner_id),
            )
            core.sessions.open(fresh, [], now)
            polled.pop(miner_id, None)
        elif what == "window" and opened is not None:
            core.sessions.set_window(opened, dice.randrange(2), now)
        elif what == "drain" and is_known:
            drains = dice.random() < 0.5
            miners.drain(miner_id, 1 if drains else None)
            if opened is not None:
                core.sessions.drain(opened, drains, now)
        elif what == "close" and opened is not None:
            core.sessions.close(opened, CloseReason.GONE, now)
        elif what == "remove" and is_known and opened is None:
            miners.remove(miner_id)
            polled.pop(miner_id, None)
        expected = dict.fromkeys(MinerStatus, 0)
        for known in miners.ids():
            expected[miners.status(known, now)] += 1
        assert miners.counts(now) == expected
        calling = {m for m, at in polled.items() if at + 60 > now.mono and m not in sessions}
        there = [miners.get(m).models for m in calling] + [s.models for s in sessions.values()]
        if what != "register":
            names = sorted({model for models in there for model in models})
            served = {name: sum(name in models for models in there) for name in names}
            assert core.sessions.census.models(now) == served
        else:
            # What it serves by polling it says at its next call.
            for one in calling:
                miners.seen(one, now)
                polled[one] = now.mono
        assert list(miners.ids()) == sorted(miners.ids())
        for name in ("model-0", "model-5"):
            having = [m for m in miners.ids() if name in miners.get(m).models]
            assert list(miners.ids(name)) == having
            assert set(miners.having(name)) == set(having)
            assert set(miners.lacking(name)) == set(miners.ids()) - set(having)
        owned = sum(miners.get(m).owner == "o" for m in miners.ids())
        assert miners.owned_by("o") == owned
        assert miners.owned_by(None) == len(miners) - owned


def test_asking_costs_the_same_for_forty_thousand_miners() -> None:
    """Where counting them took 150 ms."""
    core, miners = registry(*(record(f"miner-{number}") for number in range(40_000)))
    now = instant()
    for miner_id in miners.ids():
        miners.seen(miner_id, now)
    began = time.perf_counter()
    for _ in range(100):
        assert miners.counts(now)[ONLINE] == 40_000
        assert core.sessions.census.models(now) == {"m": 40_000}
    assert time.perf_counter() - began < 0.1


def test_no_more_than_a_thousand_models_are_told_of_those_that_most_serve() -> None:
    core, miners = registry()
    for number in range(100):
        names = ("common", *(f"rare-{number}-{place}" for place in range(200)))
        miners.put(record(f"miner-{number}", *names))
        miners.seen(f"miner-{number}", instant())
    shown = core.sessions.census.models(instant())
    assert len(shown) == 1_000
    assert shown["common"] == 100
    began = time.perf_counter()
    for step in range(100):
        # Something changes each time.
        miners.put(record("changing", f"new-{step}"))
        miners.seen("changing", instant(step / 1000))
        core.sessions.census.models(instant(step / 1000))
    assert time.perf_counter() - began < 1.0


def test_what_may_be_asked_of_a_model_is_what_one_of_its_miners_does() -> None:
    core, miners = registry(record("a"), record("b"), record("polls"))
    census, now = core.sessions.census, instant()
    assert census.tasks("m") == ()
    says = {
        "a": ModelInfo(tasks=(Task.EMBED, Task.TOKENIZE), max_model_len=512),
        "b": ModelInfo(tasks=(Task.GENERATE, Task.TOKENIZE), max_model_len=8192),
    }
    opened = [session(one, infos={"m": info}) for one, info in says.items()]
    for one in opened:
        core.sessions.open(one, [], now)
    assert census.tasks("m") == (Task.GENERATE, Task.EMBED, Task.TOKENIZE)
    assert census.max_model_len("m") == 8192
    core.sessions.close(opened[1], CloseReason.GONE, now)
    assert census.tasks("m") == (Task.EMBED, Task.TOKENIZE)
    assert census.max_model_len("m") == 512
    miners.seen("polls", now)
    assert census.tasks("m") == (Task.GENERATE, Task.EMBED, Task.TOKENIZE)
    core.sessions.close(opened[0], CloseReason.GONE, now)
    assert census.tasks("m") == (Task.GENERATE,)
    assert census.max_model_len("m") is None
