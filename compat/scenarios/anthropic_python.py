"""The Anthropic SDK: messages, streams, tools, counting."""

from __future__ import annotations

import anthropic
from cases import MODEL, QUESTION, URL, case

client = anthropic.Anthropic(base_url=URL, api_key="unused", max_retries=0, timeout=120)
# The SDK has no argument for it any more.
GREEDY = {"temperature": 0}
ASKED = [{"role": "user", "content": QUESTION}]
TOOL = {
    "name": "weather",
    "description": "Says what the weather is.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def text(message: anthropic.types.Message) -> str:
    """Returns what it says."""
    return "".join(block.text for block in message.content if block.type == "text")


@case("message")
def _() -> str:
    made = client.messages.create(extra_body=GREEDY, model=MODEL, max_tokens=40, messages=ASKED)
    return f"{text(made)} {made.stop_reason} {made.usage.output_tokens}"


@case("streamed")
def _() -> str:
    with client.messages.stream(
        extra_body=GREEDY, model=MODEL, max_tokens=40, messages=ASKED
    ) as stream:
        return f"{text(stream.get_final_message())} {stream.get_final_message().stop_reason}"


@case("a system prompt in blocks, cached")
def _() -> str:
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    made = client.messages.create(
        extra_body=GREEDY, model=MODEL, max_tokens=8, system=system, messages=ASKED
    )
    return made.role


@case("a tool that must be called")
def _() -> str:
    made = client.messages.create(
        extra_body=GREEDY,
        model=MODEL,
        max_tokens=60,
        messages=ASKED,
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "weather"},
    )
    return next(block.name for block in made.content if block.type == "tool_use")


@case("second turn after a tool's result")
def _() -> str:
    made = client.messages.create(
        extra_body=GREEDY,
        model=MODEL,
        max_tokens=8,
        messages=[
            *ASKED,
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "Sunny."}],
            },
        ],
        tools=[TOOL],
    )
    return made.type


@case("stop sequence")
def _() -> str:
    made = client.messages.create(
        extra_body=GREEDY, model=MODEL, max_tokens=40, messages=ASKED, stop_sequences=["capital"]
    )
    return f"{text(made)!r} {made.stop_reason}"


@case("count_tokens")
def _() -> int:
    return client.messages.count_tokens(model=MODEL, messages=ASKED).input_tokens


@case("an unknown model")
def _() -> str:
    try:
        client.messages.create(model="none", max_tokens=4, messages=ASKED)
    except anthropic.NotFoundError as error:
        return type(error).__name__
    return "answered"
