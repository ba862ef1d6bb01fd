"""A message as it is made: the events of its stream, in Anthropic's order.

A block ends before the next one begins. So what is said or thought while a call is told waits for
the call's end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server.anthropic.message import (
    call_block,
    ending_of,
    message_head,
    signature_of,
    text_block,
    thinking_block,
    usage_of,
)
from aitbc_server.openai.call import Chunks

_Event = dict[str, Any]
_TEXT, _THINKING, _CALL = "text", "thinking", "tool_use"


async def message_events(
    events: AsyncIterator[tuple[int, jobs_pb2.JobEvent]],
    job_id: str,
    model: str,
    *,
    tells_thinking: bool,
) -> Chunks:
    """Yields the events of the message that a job is."""
    told = _Told(tells_thinking=tells_thinking)
    is_begun = False
    async for _, event in events:
        if event.type == jobs_pb2.JOB_EVENT_TYPE_STATUS:
            continue
        if not is_begun:
            is_begun = True
            yield _start(job_id, model)
            yield {"type": "ping"}
        for telling in told.more(event):
            yield telling
        if event.type == jobs_pb2.JOB_EVENT_TYPE_FINAL:
            for telling in told.rest(event.job):
                yield telling


def _start(job_id: str, model: str) -> _Event:
    message = {
        **message_head(job_id, model),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        # Nobody has counted yet: the end says what it is.
        "usage": usage_of(jobs_pb2.Usage()),
    }
    return {"type": "message_start", "message": message}


class _Told:
    """What was told of a message: the block that is open, and what waits for its end."""

    def __init__(self, *, tells_thinking: bool) -> None:
        self._tells_thinking = tells_thinking
        # Blocks that were begun.
        self._count = 0
        # Type of the open block; empty while none is.
        self._open = ""
        # Of an open thought, its pieces.
        self._thoughts: list[str] = []
        # What was said and thought since an open call began: types and texts.
        self._waiting: list[tuple[str, str]] = []
        # Of each call, the characters of its arguments.
        self._calls: list[int] = []

    def more(self, event: jobs_pb2.JobEvent) -> Iterator[_Event]:
        """Yields what an event tells."""
        if event.reasoning and self._tells_thinking:
            yield from self._say(_THINKING, event.reasoning)
        if event.text:
            yield from self._say(_TEXT, event.text)
        for part in event.tool_calls:
            yield from self._call(part)

    def rest(self, job: jobs_pb2.Job) -> Iterator[_Event]:
        """Yields what is left of a completed job."""
        for index, call in enumerate(job.tool_calls):
            begun = index < len(self._calls)
            told = self._calls[index] if begun else 0
            part = jobs_pb2.ToolCallPart(index=index, arguments=call.arguments[told:])
            if not begun:
                part.id, part.name = call.id, call.name
            yield from self._call(part)
        yield from self._close()
        if not self._count:
            yield from self._begin(text_block(""))
            yield from self._close()
        usage = usage_of(job.usage)
        yield {"type": "message_delta", "delta": ending_of(job), "usage": usage}
        yield {"type": "message_stop"}

    def _say(self, kind: str, text: str) -> Iterator[_Event]:
        if self._open == _CALL:
            self._waiting.append((kind, text))
            return
        if self._open != kind:
            yield from self._close()
            yield from self._begin(text_block("") if kind == _TEXT else thinking_block("", ""))
        if kind == _THINKING:
            self._thoughts.append(text)
        yield self._delta(type=f"{kind}_delta", **{kind: text})

    def _call(self, part: jobs_pb2.ToolCallPart) -> Iterator[_Event]:
        if part.index >= len(self._calls):
            yield from self._close()
            yield from self._begin(call_block(part.id, part.name, {}))
            self._calls.append(0)
        if part.arguments:
            self._calls[part.index] += len(part.arguments)
            yield self._delta(type="input_json_delta", partial_json=part.arguments)

    def _begin(self, block: dict[str, Any]) -> Iterator[_Event]:
        self._open = block["type"]
        self._count += 1
        yield {"type": "content_block_start", "index": self._count - 1, "content_block": block}

    def _close(self) -> Iterator[_Event]:
        """Ends the open block, and tells what waited for that."""
        if not self._open:
            return
        if self._open == _THINKING:
            signature = signature_of("".join(self._thoughts))
            yield self._delta(type="signature_delta", signature=signature)
            self._thoughts.clear()
        yield {"type": "content_block_stop", "index": self._count - 1}
        self._open = ""
        waiting, self._waiting = self._waiting, []
        for kind, text in waiting:
            yield from self._say(kind, text)
        yield from self._close()

    def _delta(self, **delta: str) -> _Event:
        return {"type": "content_block_delta", "index": self._count - 1, "delta": delta}
