"""Which forms are given to vLLM's engine, and which to a process that may be ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc_miner.engines import vllm_forms
from aitbc_miner.engines.base import Form, Job
from aitbc_miner.engines.vllm_forms import Forms, arguments_of
from aitbc_miner.errors import BadRequest
from tests.unit.miner.form_process import run

TEXT = {"type": "string"}


def job(**form: Any) -> Job:
    return Job(request_id="1", model="m", prompt="p", params={}, form=Form(**form))


@pytest.fixture
def said(tmp_path: Path) -> Path:
    return tmp_path / "said"


@pytest.fixture
def forms(said: Path) -> Iterator[Forms]:
    forms = Forms(str(said), run)
    yield forms
    forms.close()


def told(said: Path) -> list[str]:
    """Returns what processes did: their starts, and the forms that they were given."""
    return said.read_text().split() if said.exists() else []


async def refusal(forms: Forms, grammar: str) -> str:
    asked = job(grammar=grammar)
    with pytest.raises(BadRequest) as caught:
        await forms.check(asked, arguments_of(asked.form))
    return str(caught.value)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"choices": ("yes", "no")},
        {"regex": r"\d{4}-\d{2}-\d{2}"},
        {"json_schema": {}},
        {"json_schema": {"type": "object", "properties": {"a": TEXT, "b": {"maxLength": 20}}}},
        {"json_schema": {"$defs": {"a": TEXT}, "$ref": "#/$defs/a"}},
        {"structural_tag": {"structures": [{"schema": {"properties": {"a": TEXT}}}]}},
    ],
)
async def test_what_is_small_needs_no_process(forms: Forms, said: Path, form: Any) -> None:
    asked = job(**form)
    await forms.check(asked, arguments_of(asked.form))
    await forms.check(asked, None)
    assert told(said) == []


@pytest.mark.parametrize(
    "form",
    [
        {"grammar": "ok"},
        {"regex": "(a{1,1000}){1,1000}"},
        {"regex": "a" * 300},
        {"regex": "a{1}b{2}c{3}d{4}e{5}"},
        {"choices": ("x" * 9000,)},
        {"choices": tuple(map(str, range(257)))},
        {"json_schema": {"type": "string", "maxLength": 10**9}},
        {"json_schema": {"type": "string", "pattern": "a"}},
        {"json_schema": {"type": "array", "items": {"anyOf": [{"minItems": 1e9}]}}},
        {"json_schema": {"properties": {f"p{number}": TEXT for number in range(200)}}},
        {"json_schema": {"$ref": "#", "minItems": 2}},
        {"json_schema": {"enum": list(range(300))}},
        {"json_schema": {"anyOf": [{"properties": {"a": TEXT}} for _ in range(250)] * 3}},
        {"json_schema": {"const": "x" * 70_000}},
        {"structural_tag": {"format": {"type": "regex", "pattern": "a"}}},
        {"structural_tag": {"format": {"type": "grammar", "grammar": "a"}}},
    ],
)
def test_what_may_be_large_is_tried(form: Any) -> None:
    arguments = arguments_of(Form(**form))
    assert arguments is not None
    assert not vllm_forms._is_small(arguments)


async def test_a_form_is_tried_once(forms: Forms, said: Path) -> None:
    asked = job(grammar="ok")
    for _ in range(2):
        await forms.check(asked, arguments_of(asked.form))
        assert await refusal(forms, "odd") == "response_format: no such thing"
    assert told(said) == ["started", "ok", "odd"]


async def test_one_that_is_never_done_is_ended_and_the_next_is_not_delayed(
    forms: Forms, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = job(grammar="ok")
    await forms.check(asked, arguments_of(asked.form))
    monkeypatch.setattr(vllm_forms, "_MOST_S", 0.1)
    assert "takes more than 0.1 s" in await refusal(forms, "slow")
    monkeypatch.undo()
    assert "takes too much memory" in await refusal(forms, "large")
    assert await refusal(forms, "odd") == "response_format: no such thing"
    assert told(said).count("started") == 3
