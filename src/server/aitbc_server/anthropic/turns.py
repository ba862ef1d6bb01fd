"""The conversation of a request as the turns of a job, in the order in which vLLM tells it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from aitbc.v1 import jobs_pb2
from aitbc_server.anthropic.blocks import (
    Block,
    Blocks,
    Placed,
    TextBlock,
    Texts,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    parts_of,
)
from aitbc_server.openai.origins import Path, Places
from aitbc_server.openai.schema import Schema

# Some clients begin their system prompt with a line for Anthropic's accounts. It is another one for
# each request, so that no engine's cache would know the rest.
_FOR_ACCOUNTS = "x-anthropic-billing-header"
_SYSTEM: Path = ("system",)


class Turn(Schema, table="anthropic_turn"):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: Blocks

    @property
    def blocks(self) -> Sequence[Block]:
        """What it is made of."""
        if isinstance(self.content, str):
            return (TextBlock.model_construct(type="text", text=self.content),)
        return self.content


class Told(NamedTuple):
    """A turn of a job, and where in the request it came from."""

    message: jobs_pb2.ChatMessage
    origins: Sequence[Path]
    parts: Sequence[Path] = ()
    calls: Sequence[Path] = ()


def turns_of(system: Texts, messages: Iterable[Turn]) -> list[Told]:
    """Returns the turns of a job."""
    told = [(_SYSTEM, Turn.model_construct(role="system", content=system))] if system else []
    said = [*told, *((("messages", place), one) for place, one in enumerate(messages))]
    # Most chat templates take a system's words at the beginning alone.
    words = [(path, word) for path, one in said if one.role == "system" for word in _words(one)]
    turns = []
    if words:
        text = "".join(word for _, word in words)
        origins = list(dict.fromkeys(path for path, _ in words))
        turns.append(Told(jobs_pb2.ChatMessage(role="system", content=text), origins))
    for path, message in said:
        if message.role == "user":
            turns += _of_user(path, message.blocks)
        elif message.role == "assistant":
            turns.append(_of_assistant(path, message.blocks))
    return turns


def places_of(turns: Iterable[Told]) -> Places:
    """Returns where the turns of a job came from."""
    places: dict[Path, Sequence[Path]] = {}
    for number, turn in enumerate(turns):
        at: Path = ("messages", number)
        places[at] = turn.origins
        places |= {(*at, "parts", place): [path] for place, path in enumerate(turn.parts)}
        places |= {(*at, "tool_calls", place): [path] for place, path in enumerate(turn.calls)}
    return places


def _words(message: Turn) -> list[str]:
    texts = (block.text for block in message.blocks if isinstance(block, TextBlock))
    return [text for text in texts if not text.startswith(_FOR_ACCOUNTS)]


def _of_user(path: Path, blocks: Sequence[Block]) -> list[Told]:
    """Returns the answers of tools, and then what the user says."""
    turns: list[Told] = []
    shown: list[Placed] = []
    for place, block in enumerate(blocks):
        if not isinstance(block, ToolResultBlock):
            continue
        at = (*path, "content", place)
        content = block.content
        parts = [] if isinstance(content, str) else parts_of(at, content)
        text = content if isinstance(content, str) else _text(parts)
        answer = jobs_pb2.ChatMessage(role="tool", tool_call_id=block.tool_use_id, content=text)
        turns.append(Told(answer, [at]))
        # Few models take images from tools, and any that takes images from its user.
        shown += [part for part in parts if part.part.type != "text"]
    said = [*shown, *parts_of(path, blocks)]
    if said or not turns:
        message = jobs_pb2.ChatMessage(role="user", **_content(said))
        turns.append(Told(message, [path], [part.path for part in said]))
    return turns


def _of_assistant(path: Path, blocks: Sequence[Block]) -> Told:
    calls = [(place, one) for place, one in enumerate(blocks) if isinstance(one, ToolUseBlock)]
    parts = parts_of(path, blocks)
    message = jobs_pb2.ChatMessage(
        role="assistant",
        **_content(parts),
        reasoning="".join(one.thinking for one in blocks if isinstance(one, ThinkingBlock)),
        tool_calls=[call.call() for _, call in calls],
    )
    return Told(
        message,
        [path],
        [part.path for part in parts],
        [(*path, "content", place) for place, _ in calls],
    )


def _text(parts: Iterable[Placed]) -> str:
    return "\n".join(part.part.text for part in parts if part.part.type == "text")


def _content(parts: Sequence[Placed]) -> dict[str, Any]:
    """Returns what a turn has of these parts: one text, where they are all texts."""
    if any(part.part.type != "text" for part in parts):
        return {"parts": [part.part for part in parts]}
    return {"content": _text(parts)}
