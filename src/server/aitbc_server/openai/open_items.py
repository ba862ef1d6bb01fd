"""Items of a response that are being told: the events of each, but for their place and number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server.openai.custom_tools import InputReader, input_of
from aitbc_server.openai.response_items import (
    call_item,
    logprobs,
    message_item,
    reasoning_item,
    reasoning_part,
    text_part,
    with_sealed,
)
from aitbc_server.openai.response_notes import Notes

_Event = dict[str, Any]


class OpenReasoning:
    """What the model thinks."""

    def __init__(self, job_id: str, *, is_sealed: bool) -> None:
        """`is_sealed`: whether the whole is told also in the form that is sent back unread."""
        self._job_id = job_id
        self._is_sealed = is_sealed
        self._texts: list[str] = []
        self._where = {"item_id": reasoning_item(job_id, "", None)["id"], "content_index": 0}

    def begin(self) -> Iterator[_Event]:
        """Yields what comes before its text."""
        item = reasoning_item(self._job_id, "in_progress", None)
        yield {"type": "response.output_item.added", "item": item}
        part = reasoning_part("")
        yield {"type": "response.content_part.added", **self._where, "part": part}

    def more(self, text: str) -> _Event:
        """Returns more of its text."""
        self._texts.append(text)
        return {"type": "response.reasoning_text.delta", **self._where, "delta": text}

    def end(self, status: str) -> Iterator[_Event]:
        """Yields what comes after its text."""
        text = "".join(self._texts)
        yield {"type": "response.reasoning_text.done", **self._where, "text": text}
        part = reasoning_part(text)
        yield {"type": "response.content_part.done", **self._where, "part": part}
        item = reasoning_item(self._job_id, status, text)
        if self._is_sealed:
            item = with_sealed(item, text)
        yield {"type": "response.output_item.done", "item": item}


class OpenText:
    """What the model says."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._texts: list[str] = []
        # How likely its tokens were.
        self.tokens: list[jobs_pb2.TokenLogprob] = []
        self._where = {"item_id": message_item(job_id, "", [])["id"], "content_index": 0}

    def begin(self) -> Iterator[_Event]:
        """Yields what comes before its text."""
        item = message_item(self._job_id, "in_progress", [])
        yield {"type": "response.output_item.added", "item": item}
        part = text_part("", [])
        yield {"type": "response.content_part.added", **self._where, "part": part}

    def more(self, text: str, tokens: Sequence[jobs_pb2.TokenLogprob]) -> _Event:
        """Returns more of its text."""
        self._texts.append(text)
        self.tokens += tokens
        told = {"delta": text, "logprobs": logprobs(tokens)}
        return {"type": "response.output_text.delta", **self._where, **told}

    def end(self, status: str) -> Iterator[_Event]:
        """Yields what comes after its text."""
        text, told = "".join(self._texts), logprobs(self.tokens)
        done = {"text": text, "logprobs": told}
        yield {"type": "response.output_text.done", **self._where, **done}
        part = text_part(text, told)
        yield {"type": "response.content_part.done", **self._where, "part": part}
        item = message_item(self._job_id, status, [part])
        yield {"type": "response.output_item.done", "item": item}


class OpenCall:
    """A call that the model asks for."""

    def __init__(self, job_id: str, first: jobs_pb2.ToolCallPart, notes: Notes) -> None:
        self._job_id = job_id
        self._notes = notes
        self._place = first.index
        self._call = jobs_pb2.ToolCall(id=first.id, name=first.name)
        # How much of its arguments, or of the input in them, was told.
        self._told = 0
        self._parts: list[str] = []
        # Of a custom tool.
        self._input = InputReader() if first.name in notes.custom else None
        self._kind = "custom_tool_call_input" if self._input else "function_call_arguments"
        self._field = "input" if self._input else "arguments"
        self._item_id = self._item()["id"]

    @property
    def arguments(self) -> str:
        """Its arguments so far."""
        return "".join(self._parts)

    @property
    def untold(self) -> str:
        """What is left to tell of a call that is whole."""
        return self._said()[self._told :]

    def begin(self) -> Iterator[_Event]:
        """Yields what comes before its arguments."""
        item = {**self._item(), "status": "in_progress", self._field: ""}
        yield {"type": "response.output_item.added", "item": item}

    def more(self, arguments: str) -> str:
        """Returns what more of the arguments has to be told."""
        self._parts.append(arguments)
        return self._input.more(arguments) if self._input else arguments

    def delta(self, text: str) -> _Event:
        """Returns the event that tells more."""
        self._told += len(text)
        return {"type": f"response.{self._kind}.delta", "item_id": self._item_id, "delta": text}

    def end(self, status: str) -> Iterator[_Event]:
        """Yields what comes after its arguments."""
        item = {**self._item(), "status": status}
        done = {"item_id": self._item_id, self._field: item[self._field]}
        if self._input is None:
            done["name"] = item["name"]
        yield {"type": f"response.{self._kind}.done", **done}
        yield {"type": "response.output_item.done", "item": item}

    def _said(self) -> str:
        return input_of(self.arguments) if self._input else self.arguments

    def _item(self) -> dict[str, Any]:
        call = jobs_pb2.ToolCall(id=self._call.id, name=self._call.name, arguments=self.arguments)
        return call_item(self._job_id, (self._place,), call, self._notes)


OpenItem = OpenReasoning | OpenText | OpenCall
