"""Conversations with tools for models whose chat template has no place for them.

They are told in texts, in the form of Hermes, which most open models were taught and which vLLM's
parser `hermes` reads: https://github.com/NousResearch/Hermes-Function-Calling
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aitbc_miner.engines.base import Message, Tool

# Name of vLLM's parser of this form.
PARSER = "hermes"

_TOOLS = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def has_tools(messages: Sequence[Message]) -> bool:
    """Says whether tools were called in a conversation."""
    return any(turn["role"] == "tool" or turn.get("tool_calls") for turn in messages)


def in_texts(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """Returns the conversation with these tools, their calls and answers as texts."""
    turns: list[Message] = []
    is_answering = False
    for message in messages:
        was_answering, is_answering = is_answering, message["role"] == "tool"
        if not is_answering:
            text = "\n".join(filter(None, [message["content"], *_calls(message)]))
            turn = Message(role=message["role"], content=text)
            if "parts" in message:
                turn["parts"] = message["parts"]
            if "reasoning" in message:
                turn["reasoning"] = message["reasoning"]
            turns.append(turn)
            continue
        answer = f"<tool_response>\n{message['content']}\n</tool_response>"
        if was_answering:
            turns[-1]["content"] += f"\n{answer}"
        else:
            turns.append(Message(role="user", content=answer))
    if not tools:
        return turns
    told = _TOOLS.format(tools="\n".join(json.dumps(tool.as_openai()) for tool in tools))
    if turns and turns[0]["role"] == "system":
        system = turns.pop(0)["content"]
        told = f"{system}\n\n{told}"
    return [Message(role="system", content=told), *turns]


def _calls(message: Message) -> list[str]:
    return [
        f"<tool_call>\n{json.dumps(_call(call['function']), ensure_ascii=False)}\n</tool_call>"
        for call in message.get("tool_calls", ())
    ]


def _call(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    try:
        arguments = json.loads(arguments)
    except ValueError:
        pass  # what the model wrote instead
    return {"name": function["name"], "arguments": arguments}
