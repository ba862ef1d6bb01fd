"""Responses with OpenAI's clients, through a real miner in front of a scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from scripts.processes import Coordinator

from tests.conftest import Launcher
from tests.e2e.node_client import run_node
from tests.upstream import Behaviour, upstream

MODEL = "m"
ANSWER = '{"city":"Graz"}'
# Said with the calls, in the form of the answer, too.
LOOKING = '{"city":"?"}'
SCRIPT = 'echo "é\n🙂"'
# What the server does is told by the last message: first a question, then what a tool returned.
ASKED: dict[str, Any] = {
    "model": MODEL,
    "input": "call: both tools",
    "instructions": "be brief",
    "tools": [
        {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False},
        {"type": "custom", "name": "shell"},
    ],
    "reasoning": {"effort": "low"},
    "text": {
        "format": {
            "type": "json_schema",
            "name": "city",
            "schema": {"type": "object", "properties": {"city": {"type": "string"}}},
        }
    },
}
OUTPUT = "answer: 5"
KINDS = ["reasoning", "message", "function_call", "custom_tool_call"]


def _event(finish_reason: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def _call(index: int, name: str, arguments: str) -> bytes:
    """Returns the events of a call, whose arguments come in pieces."""
    head = {"index": index, "id": f"call_{index}", "type": "function"}
    first = {**head, "function": {"name": name, "arguments": ""}}
    pieces = [arguments[begin : begin + 5] for begin in range(0, len(arguments), 5)]
    rest = [{"index": index, "function": {"arguments": piece}} for piece in pieces]
    return b"".join(_event(tool_calls=[part]) for part in (first, *rest))


CALLS = (
    _event(reasoning_content="hm ")
    + _event(reasoning_content="so")
    + _event(content=LOOKING)
    + _call(0, "weather", ANSWER)
    + _call(1, "shell", json.dumps({"input": SCRIPT}))
    + _event("tool_calls")
    + b"data: [DONE]\n\n"
)
DONE = _event(content=ANSWER) + _event("stop") + b"data: [DONE]\n\n"


@pytest.fixture
def calling(launcher: Launcher) -> Iterator[Coordinator]:
    """A coordinator whose miner's server asks for calls, and answers when it has their outputs."""
    coordinator = launcher.coordinator()
    with upstream() as server:
        server.behaviours |= {"call": Behaviour(CALLS), "answer": Behaviour(DONE)}
        options = ("--engine-opt", f"base_url={server.url}")
        miner = launcher.miner(
            coordinator, *options, miner_id="it", engine="openai", models=[MODEL]
        )
        miner.wait_for_line("miner it ready", timeout_s=60)
        yield coordinator


def check(output: list[dict[str, Any]]) -> None:
    """Holds the items of a response against what the server said."""
    reasoning, message, function, custom = output
    assert [item["type"] for item in output] == KINDS
    assert reasoning["content"][0]["text"] == "hm so"
    assert message["content"][0]["text"] == LOOKING
    assert (function["name"], function["arguments"]) == ("weather", ANSWER)
    assert (custom["name"], custom["input"]) == ("shell", SCRIPT)


def test_the_client_for_python_goes_on_in_each_of_the_ways(calling: Coordinator) -> None:
    with openai.OpenAI(base_url=f"{calling.url}/v1", api_key="unused") as client:
        with client.responses.stream(**ASKED) as stream:
            kinds = [event.type for event in stream]
            first = stream.get_final_response()
        check([item.to_dict() for item in first.output])
        assert "response.function_call_arguments.delta" in kinds
        assert "response.custom_tool_call_input.delta" in kinds
        outputs: list[Any] = [
            {"type": f"{item.type}_output", "call_id": item.call_id, "output": OUTPUT}
            for item in first.output
            if item.type in ("function_call", "custom_tool_call")
        ]
        user: Any = {"role": "user", "content": ASKED["input"]}
        items: list[Any] = [item.to_dict() for item in first.output]
        references: list[Any] = [{"type": "item_reference", "id": one["id"]} for one in items]
        for turn in (
            {"previous_response_id": first.id, "input": outputs},
            {"input": [user, *references, *outputs]},
            {"input": [user, *items, *outputs], "store": False},
        ):
            second = client.responses.create(**{**ASKED, **turn})
            assert second.output_text == ANSWER
            with client.responses.stream(**{**ASKED, **turn}) as stream:
                assert stream.get_final_response().output_text == ANSWER


def test_the_client_for_node_goes_on_in_each_of_the_ways(calling: Coordinator) -> None:
    told = run_node("openai_responses.mjs", f"{calling.url}/v1", json.dumps(ASKED), OUTPUT)
    check(told["output"])
    assert told["told"] == dict.fromkeys(("named", "referenced", "whole"), ANSWER)
    assert told["listed"] == ["message"]
    assert told["kinds"][0] == "response.created"
    assert told["kinds"][-1] == "response.completed"
    assert "response.custom_tool_call_input.delta" in told["kinds"]
