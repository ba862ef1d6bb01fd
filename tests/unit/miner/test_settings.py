from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from aitbc_miner.adapters import Adapter
from aitbc_miner.errors import Misconfigured
from aitbc_miner.settings import (
    Settings,
    default_miner_id,
    parse_adapters,
    parse_engine_options,
    parse_models,
)


def make(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "coordinator": "127.0.0.1:50051",
        "miner_id": "miner-1",
        "engine": "echo",
        "models": {"m": "m"},
        "slots": None,
        "api_key": "secret",
        "engine_options": {"api_key": "secret"},
    }
    return Settings(**(values | changes))


@pytest.mark.parametrize("coordinator", ["localhost:1", "[::1]:50051", "a.example.org:443"])
def test_an_address_has_a_host_and_a_port(coordinator: str) -> None:
    assert make(coordinator=coordinator).coordinator == coordinator


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coordinator": "localhost"}, "--coordinator localhost: give HOST:PORT"),
        ({"coordinator": "http://localhost:1"}, "--coordinator"),
        ({"miner_id": "a b"}, "--miner-id a b"),
        ({"miner_id": "x" * 129}, "--miner-id"),
        ({"engine": "gpt"}, "--engine gpt: give one of vllm, openai, echo"),
        ({"slots": 0}, "--slots 0"),
        (
            {"adapters": (Adapter(name="a", source="x", model="m"),)},
            "--lora: the echo engine has no adapters, only vllm has",
        ),
    ],
)
def test_a_wrong_option_is_named_with_its_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(message)):
        make(**changes)


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(make())


def test_a_model_is_a_name_with_or_without_a_source() -> None:
    assert parse_models(["llama3.2=smollm2", "org/model"]) == {
        "llama3.2": "smollm2",
        "org/model": "org/model",
    }
    assert parse_models(["a=x,b", "c"]) == {"a": "x", "b": "b", "c": "c"}


@pytest.mark.parametrize("items", [[], ["=x"], ["a="], ["a b=x"], ["a", "a=x"]])
def test_a_wrong_model_is_refused(items: list[str]) -> None:
    with pytest.raises(Misconfigured, match="--model"):
        parse_models(items)


def test_an_adapter_changes_the_model_that_it_names_or_the_only_one() -> None:
    one, two = {"m": "x"}, {"m": "x", "n": "y"}
    legal = Adapter(name="legal", source="/adapters/legal", model="m")
    verse = Adapter(name="verse", source="org/verse", model="n")
    assert parse_adapters(["legal=/adapters/legal"], one) == (legal,)
    assert parse_adapters(["legal=/adapters/legal@m,verse=org/verse@n"], two) == (legal, verse)
    # Only what follows the last @ is a name.
    assert parse_adapters(["a=/b@c/d@m"], one)[0].source == "/b@c/d"
    assert parse_adapters([], two) == ()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["legal"], "--lora legal: give NAME=SOURCE"),
        (["=x"], "--lora =x: give NAME=SOURCE"),
        (["legal="], "--lora legal=: give NAME=SOURCE"),
        (["legal=@m"], "--lora legal=@m: give NAME=SOURCE"),
        (["a b=x@m"], "the name without spaces"),
        (["m=x@m"], "--lora m: another model or adapter has this name"),
        (["a=x@m", "a=y@n"], "--lora a: another model or adapter has this name"),
        (["a=x"], "--lora a=x: say which model it changes: a=x@MODEL, one of m, n"),
        (["a=x@o"], "--lora a=x@o: no --model is named o; give one of m, n after the last @"),
        (["a=x@"], "--lora a=x@: no --model is named ; give one of m, n"),
    ],
)
def test_a_wrong_adapter_is_named_with_its_remedy(items: list[str], message: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(message)):
        parse_adapters(items, {"m": "x", "n": "y"})


def test_engine_options_are_pairs_and_may_hold_json() -> None:
    assert parse_engine_options(["tokens=3,latency=0.5", 'x={"a":1,"b":2}', "y=a,b"]) == {
        "tokens": "3",
        "latency": "0.5",
        "x": '{"a":1,"b":2}',
        "y": "a,b",
    }
    assert parse_engine_options(["a:x=1,org/b:8b:y_z=2", 'x={"a":"b","c":"d"}']) == {
        "a:x": "1",
        "org/b:8b:y_z": "2",
        "x": '{"a":"b","c":"d"}',
    }
    with pytest.raises(Misconfigured, match="--engine-opt tokens: give KEY=VALUE"):
        parse_engine_options(["tokens"])


@pytest.mark.parametrize(
    ("host", "miner_id"),
    [
        ("gpu-1.example.org", "miner-gpu-1.example.org"),
        ("_a b/c_", "miner-a-b-c"),
        ("...", "miner"),
    ],
)
def test_the_default_id_is_made_of_the_hosts_name(
    host: str, miner_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert default_miner_id() == miner_id
    assert make(miner_id=default_miner_id())
