from __future__ import annotations

import re

import pytest

from aitbc_miner.adapters import Adapter
from aitbc_miner.engines.vllm_engines import create_vllm_engines
from aitbc_miner.errors import Misconfigured

TWO = {"a": "x", "b": "y"}
PART = "gpu_memory_utilization"


def served(
    models: dict[str, str], options: dict[str, str], *adapters: Adapter
) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """Returns the names and the options of each engine."""
    engines = create_vllm_engines(models, None, options, adapters)
    return [(engine.models, engine.options) for engine in engines]


def test_each_source_has_one_engine_whatever_its_names() -> None:
    assert served({"a": "x", "alias": "x"}, {"dtype": "half"}) == [
        (("a", "alias"), {"dtype": "half"})
    ]
    assert [names for names, _ in served({**TWO, "alias": "x"}, {})] == [("a", "alias"), ("b",)]


def test_names_of_one_source_that_differ_in_their_options_have_engines_of_their_own() -> None:
    engines = served({"a": "x", "long": "x"}, {"long:max_model_len": "8192"})
    assert [names for names, _ in engines] == [("a",), ("long",)]


def test_adapters_are_models_of_the_engine_of_their_model() -> None:
    legal = Adapter(name="legal", source="/legal", model="b")
    verse = Adapter(name="verse", source="/verse", model="alias")
    engines = served({**TWO, "alias": "x"}, {}, legal, verse)
    assert [names for names, _ in engines] == [("a", "alias", "verse"), ("b", "legal")]


def test_options_are_for_all_models_or_for_one() -> None:
    options = {"dtype": "half", "max_model_len": "1", "b:max_model_len": "2", PART: "0.4"}
    (_, first), (_, second) = served(TWO, options)
    assert first == {"dtype": "half", "max_model_len": "1", PART: "0.4"}
    assert second == {"dtype": "half", "max_model_len": "2", PART: "0.4"}
    # Names may hold colons, too.
    assert served({"org/m:8b": "x"}, {"org/m:8b:seed": "1"}) == [(("org/m:8b",), {"seed": "1"})]
    message = "--engine-opt c:seed: no --model is named c; give one of a, b"
    with pytest.raises(Misconfigured, match=re.escape(message)):
        served(TWO, {"c:seed": "1"})


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, ["0.4600", "0.4600"]),
        ({f"b:{PART}": "0.7"}, ["0.2200", "0.7"]),
        ({PART: "0.3", f"b:{PART}": "0.7"}, ["0.3", "0.7"]),
    ],
)
def test_engines_share_the_memory(options: dict[str, str], parts: list[str]) -> None:
    assert [chosen[PART] for _, chosen in served(TWO, options)] == parts


def test_one_engine_has_what_vllm_takes_by_itself() -> None:
    assert served({"a": "x"}, {}) == [(("a",), {})]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({PART: "0.85"}, "2 models share the memory, and these parts leave not enough for all"),
        ({f"a:{PART}": "0.92"}, f"give --engine-opt MODEL:{PART}=PART for each, or for none"),
        ({PART: "much"}, f"--engine-opt {PART}=much: give a number above 0, at most 1"),
        ({PART: "nan"}, f"--engine-opt {PART}=nan: give a number above 0, at most 1"),
    ],
)
def test_parts_that_leave_no_room_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(message)):
        served(TWO, options)
