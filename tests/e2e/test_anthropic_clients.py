"""Anthropic's client, unmodified: a miner that echoes, and one in front of a server."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from scripts.processes import Coordinator

from tests.conftest import Launcher
from tests.upstream import Behaviour, upstream

MODEL = "llama3.2"
PROMPT = "one two three"
THOUGHT = "hm let me think hm let"
ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 64,
    "messages": [{"role": "user", "content": PROMPT}],
}


def _event(**choice: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


def _call(**function: Any) -> bytes:
    call = {"index": 0, "id": "call-1", "type": "function", "function": function}
    return _event(delta={"tool_calls": [call]})


CALLING = (
    _event(delta={"reasoning_content": "hm"})
    + _event(delta={"content": "Let me look."})
    + _call(name="weather", arguments="")
    + _event(delta={"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]})
    + _event(delta={"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]})
    + _event(delta={}, finish_reason="tool_calls")
    + b"data: [DONE]\n\n"
)
WEATHER: Any = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def told(message: anthropic.types.Message) -> list[dict[str, Any]]:
    """Returns the blocks of a message, without what the stream's helper adds to them."""
    blocks = (block.to_dict() for block in message.content)
    return [{key: value for key, value in one.items() if value is not None} for one in blocks]


@pytest.fixture
def thinking(launcher: Launcher) -> Coordinator:
    """A coordinator whose miner thinks six words before each answer."""
    coordinator = launcher.coordinator()
    miner = launcher.miner(
        coordinator, "--engine-opt", "reasoning=6", "--engine-opt", "tokens_per_second=200"
    )
    miner.wait_for_line("miner echo ready", timeout_s=60)
    return coordinator


def test_the_client_is_told_what_the_model_thinks_and_sends_it_back(thinking: Coordinator) -> None:
    with anthropic.Anthropic(base_url=thinking.url, api_key="unused") as client:
        whole = client.messages.create(**ASKED)
        thought, text = whole.content
        assert thought.type == "thinking"
        assert text.type == "text"
        assert (thought.thinking, text.text) == (THOUGHT, PROMPT)
        assert whole.usage.output_tokens == 9
        assert whole.usage.output_tokens_details is not None
        assert whole.usage.output_tokens_details.thinking_tokens == 6

        with client.messages.stream(**ASKED) as stream:
            kinds = [event.type for event in stream]
            made = stream.get_final_message()
        assert told(made) == told(whole)
        assert made.usage == whole.usage
        # As it is thought.
        assert kinds.count("thinking") > 1

        then = [*ASKED["messages"], whole.to_param(), {"role": "user", "content": "And then?"}]
        answer = client.messages.create(**{**ASKED, "messages": then}).content[-1]
        assert answer.type == "text"
        assert answer.text == "And then?"

        counted = client.messages.count_tokens(
            model=MODEL, messages=ASKED["messages"], system="be brief", tools=[WEATHER]
        )
        # Those of an echo are bytes.
        assert counted.input_tokens == len(f"be brief\n{PROMPT}")

        beta = client.beta.messages.create(**ASKED, betas=["context-1m-2025-08-07"])
        assert [block.type for block in beta.content] == ["thinking", "text"]


def test_a_tool_of_the_client_is_called_and_answered(launcher: Launcher) -> None:
    coordinator = launcher.coordinator()
    with upstream() as server:
        server.behaviours["calling"] = Behaviour(CALLING)
        miner = launcher.miner(
            coordinator, "--engine-opt", f"base_url={server.url}", engine="openai"
        )
        miner.wait_for_line("miner echo ready", timeout_s=60)
        with anthropic.Anthropic(base_url=coordinator.url, api_key="unused") as client:
            asked = {**ASKED, "messages": [{"role": "user", "content": "calling: Oslo"}]}
            with client.messages.stream(**asked, tools=[WEATHER]) as stream:
                message = stream.get_final_message()
            thought, text, call = message.content
            assert (thought.type, text.type, call.type) == ("thinking", "text", "tool_use")
            assert call.type == "tool_use"
            assert (call.name, call.input) == ("weather", {"city": "Oslo"})
            assert message.stop_reason == "tool_use"
            assert told(client.messages.create(**asked, tools=[WEATHER])) == told(message)

            result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
            turns: Any = [
                *asked["messages"],
                message.to_param(),
                {"role": "user", "content": [result, {"type": "text", "text": "plain: and?"}]},
            ]
            after = client.messages.create(**{**asked, "messages": turns}, tools=[WEATHER])
            assert after.stop_reason == "end_turn"
            assert after.content[0].type == "text"
