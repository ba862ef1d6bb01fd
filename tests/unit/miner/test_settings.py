from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from aitbc_miner.errors import Misconfigured
from aitbc_miner.settings import Settings, default_miner_id, parse_engine_options, parse_models


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


def test_engine_options_are_pairs_and_may_hold_json() -> None:
    assert parse_engine_options(["tokens=3,latency=0.5", 'x={"a":1,"b":2}', "y=a,b"]) == {
        "tokens": "3",
        "latency": "0.5",
        "x": '{"a":1,"b":2}',
        "y": "a,b",
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
