"""Which tools a prompt for vLLM has, as `vllm serve` decides it with the same arguments."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aitbc_miner.engines.base import Job, Tool
from aitbc_miner.engines.vllm_prompts import Prompts

TOOL = Tool("look_up", "Looks up", {"type": "object"})


class Renderer:
    """Takes what the template is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}
        self.turns: list[Any] = []

    async def render_chat_async(self, turns: list[Any], params: Any, _: Any) -> Any:
        [self.turns], self.told = turns, params
        return None, [{}]


class Request:
    """The request to vLLM's server."""

    def build_chat_params(self, *_: Any) -> Any:
        return SimpleNamespace(with_defaults=lambda told: told)


async def told(choice: str, *, hides_tools: bool = False, has_place: bool = True) -> list[str]:
    """Returns the names of the tools that the template is told, or that stand in the texts."""
    prompts, renderer = Prompts.__new__(Prompts), Renderer()
    for name, value in {
        "_hides_tools": hides_tools,
        "_has_place_for_tools": has_place,
        "_renderer": renderer,
        "_model_config": SimpleNamespace(supports_multimodal_inputs=False),
        "_is_whole": False,
        "_media": SimpleNamespace(fetch=_unchanged),
        "template": None,
    }.items():
        setattr(prompts, name, value)
    messages = ({"role": "user", "content": "Which city?"},)
    job = Job(
        request_id="j",
        model="m",
        params={},
        messages=messages,  # type: ignore[arg-type]  # a literal
        tools=(TOOL,),
        tool_choice=choice,
    )
    await prompts._render_chat(job, Request(), None)
    if has_place:
        return [tool["function"]["name"] for tool in renderer.told.get("tools", ())]
    return [TOOL.name] if TOOL.name in str(renderer.turns) else []


async def _unchanged(messages: Any, _: Any) -> Any:
    return messages


@pytest.mark.parametrize("choice", ["auto", "required", "look_up", "none"])
async def test_a_template_is_told_the_tools_whether_or_not_one_may_be_called(choice: str) -> None:
    assert await told(choice) == ["look_up"]


@pytest.mark.parametrize(("choice", "names"), [("auto", ["look_up"]), ("none", [])])
async def test_they_are_kept_from_it_where_the_miner_is_told_so(
    choice: str, names: list[str]
) -> None:
    assert await told(choice, hides_tools=True) == names


@pytest.mark.parametrize(("choice", "names"), [("auto", ["look_up"]), ("none", [])])
async def test_a_template_without_a_place_has_them_in_texts_to_be_called(
    choice: str, names: list[str]
) -> None:
    assert await told(choice, has_place=False) == names
