"""Tools and probabilities with OpenAI's clients, against the real model and vLLM's parser."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from scripts.processes import Coordinator

from tests.e2e.node_client import run_node
from tests.model import CITY, FOUND, LOOK_UP, MESSAGES, RAW_PROMPT, conversation
from tests.model import TOOL as FUNCTION

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

MODEL = "llama3.2"
TOOL: Any = {"type": "function", "function": FUNCTION}
ASKED: dict[str, Any] = {"model": MODEL, "tools": [TOOL], "temperature": 0, "max_tokens": 48}


def streamed(client: openai.OpenAI, **asked: Any) -> tuple[Any, list[Any]]:
    """Returns the first choice as OpenAI's client puts it together, and the chunks."""
    with client.chat.completions.stream(**asked) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        return stream.get_final_completion().choices[0], chunks


def test_a_model_that_may_call_a_tool_and_does_not_streams_its_text(
    client: openai.OpenAI,
) -> None:
    whole = client.chat.completions.create(**ASKED, messages=MESSAGES).choices[0]
    assert CITY in (whole.message.content or "")
    assert (whole.finish_reason, whole.message.tool_calls) == ("stop", None)
    choice, chunks = streamed(client, **ASKED, messages=MESSAGES)
    assert choice.message.content == whole.message.content
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) > 3


def test_a_model_that_may_call_a_tool_calls_it(client: openai.OpenAI) -> None:
    asked = {**ASKED, "messages": conversation(LOOK_UP)}
    whole = client.chat.completions.create(**asked).choices[0]
    [call] = whole.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "look_up"
    assert json.loads(call.function.arguments) == {"city": CITY}
    assert (whole.finish_reason, whole.message.content) == ("tool_calls", None)

    choice, chunks = streamed(client, **asked)
    [again] = choice.message.tool_calls
    assert (again.function.name, again.function.arguments) == ("look_up", call.function.arguments)
    assert choice.finish_reason == "tool_calls"
    parts = [part for c in chunks for part in c.choices[0].delta.tool_calls or ()]
    assert [bool(part.id) for part in parts] == [True] + [False] * (len(parts) - 1)
    # As they are made.
    assert len([part for part in parts if part.function.arguments]) > 1

    # What was called answers, and the model goes on with that.
    turns: Any = [
        *asked["messages"],
        whole.message,
        {"role": "tool", "tool_call_id": call.id, "content": FOUND},
    ]
    done = client.chat.completions.create(**{**ASKED, "messages": turns}).choices[0]
    assert "Japan" in (done.message.content or "")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "go"}}])
def test_a_tool_that_must_be_called_is(client: openai.OpenAI, choice: Any) -> None:
    other: Any = {"type": "function", "function": {**TOOL["function"], "name": "go"}}
    asked = {
        **ASKED,
        "messages": MESSAGES,
        "tools": [TOOL, other],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "n": 2,
    }
    # The model chooses to call, or was told what to call.
    reason = "tool_calls" if choice == "required" else "stop"
    for one in client.chat.completions.create(**asked).choices:
        [call] = one.message.tool_calls or []
        assert call.type == "function"
        assert call.function.name in (("look_up", "go") if choice == "required" else ("go",))
        assert set(json.loads(call.function.arguments)) == {"city"}
        assert one.finish_reason == reason
    put_together, _ = streamed(client, **{**asked, "n": 1})
    [call] = put_together.message.tool_calls
    assert set(json.loads(call.function.arguments)) == {"city"}
    assert put_together.finish_reason == reason


def test_tools_that_cannot_be_called_are_refused_by_name(client: openai.OpenAI) -> None:
    create: Any = client.chat.completions.create
    # Without a schema it takes nothing.
    bare = {"type": "function", "function": {"name": "go"}}
    asked = {**ASKED, "messages": MESSAGES, "tools": [bare], "tool_choice": "required"}
    [call] = create(**asked).choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {}
    odd = {"name": "go", "parameters": {"type": "object", "properties": {"x": {"type": "odd"}}}}
    with pytest.raises(openai.BadRequestError, match="JSON Schema") as caught:
        create(**{**asked, "tools": [{"type": "function", "function": odd}]})
    assert caught.value.param == "tools"


def test_what_was_streamed_is_what_is_kept(client: openai.OpenAI, vllm: Coordinator) -> None:
    for messages in (MESSAGES, conversation(LOOK_UP)):
        asked = {**ASKED, "messages": messages, "logprobs": True, "top_logprobs": 2}
        raw = client.chat.completions.with_raw_response.create(**asked, stream=True)
        content, arguments, probabilities = "", "", []
        for chunk in raw.parse():
            choice = chunk.choices[0]
            content += choice.delta.content or ""
            for part in choice.delta.tool_calls or ():
                arguments += (part.function and part.function.arguments) or ""
            if choice.logprobs:
                probabilities.append(choice.logprobs.content or [])
        job = httpx.get(f"{vllm.url}/v1/jobs/{raw.headers['x-job-id']}").json()
        assert content == job.get("result", "")
        assert arguments == "".join(call["arguments"] for call in job.get("tool_calls", ()))
        assert len(probabilities) > 3
        told = [
            (one.token, one.logprob, [(top.token, top.logprob) for top in one.top_logprobs])
            for piece in probabilities
            for one in piece
        ]
        assert told == [
            (
                one.get("token", ""),
                one.get("logprob", 0),
                [(top.get("token", ""), top.get("logprob", 0)) for top in one["top"]],
            )
            for one in job["logprobs"]
        ]


def test_completions_stream_their_probabilities(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "prompt": RAW_PROMPT,
        "temperature": 0,
        "max_tokens": 8,
        "logprobs": 2,
    }
    pieces = [chunk.choices[0] for chunk in client.completions.create(**asked, stream=True)]
    told = [piece.logprobs for piece in pieces if piece.logprobs]
    assert len(told) > 3
    text = "".join(piece.text for piece in pieces)
    tokens = [token for one in told for token in one.tokens or ()]
    offsets = [offset for one in told for offset in one.text_offset or ()]
    assert "".join(tokens) == text
    assert [text[offset:].startswith(token) for offset, token in zip(offsets, tokens, strict=True)]
    whole = client.completions.create(**asked).choices[0].logprobs
    assert whole is not None
    assert (tokens, offsets) == (whole.tokens, whole.text_offset)


def test_a_response_calls_a_tool(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", **TOOL["function"]}
    asked: Any = {
        "model": MODEL,
        "input": "Which city?",
        "tools": [tool],
        "tool_choice": "required",
        "temperature": 0,
        "max_output_tokens": 48,
    }
    made = client.responses.create(**asked)
    [item] = [item for item in made.output if item.type == "function_call"][:1]
    assert (item.name, set(json.loads(item.arguments))) == ("look_up", {"city"})
    with client.responses.stream(**asked) as stream:
        events = list(stream)
    assert any(event.type == "response.function_call_arguments.done" for event in events)


def test_the_client_for_node_calls_tools(vllm: Coordinator) -> None:
    asked = {
        "text": {**ASKED, "messages": MESSAGES},
        "call": {**ASKED, "messages": conversation(LOOK_UP)},
    }
    told = run_node("openai_tools.mjs", f"{vllm.url}/v1", json.dumps(asked))
    text, call = told["text"], told["call"]
    assert CITY in text["whole"]["content"]
    assert text["streamed"]["content"] == text["whole"]["content"]
    assert text["chunks"] > 3
    assert call["finish"] == "tool_calls"
    [function] = [one["function"] for one in call["streamed"]["tool_calls"]]
    assert function["name"] == "look_up"
    assert json.loads(function["arguments"]) == {"city": CITY}
    assert [one["function"]["arguments"] for one in call["whole"]["tool_calls"]] == [
        function["arguments"]
    ]
