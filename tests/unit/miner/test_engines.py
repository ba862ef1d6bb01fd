from __future__ import annotations

import pytest

from aitbc_miner.engines import ENGINES, create_engines
from aitbc_miner.engines.vllm import _value


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_is_made_without_importing_what_it_runs(name: str) -> None:
    options = {"base_url": "http://127.0.0.1:1"} if name == "openai" else {}
    engines = create_engines(name, {"a": "x", "b": "y"}, 3, options)
    assert [model for engine in engines for model in engine.models] == ["a", "b"]
    assert engines[0].slots == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [("8192", 8192), ("0.9", 0.9), ("true", True), ("False", False), ("bfloat16", "bfloat16")],
)
def test_vllms_options_are_read_as_json_where_they_are(text: str, value: object) -> None:
    assert _value(text) == value


def test_vllms_options_may_be_objects() -> None:
    assert _value('{"max_new_tokens": 512}') == {"max_new_tokens": 512}
