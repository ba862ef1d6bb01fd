"""Calls of tools: which answers may have some, and how the parts of them are numbered."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from aitbc_miner.engines.base import Job, ToolCallPart

AUTO, NONE, REQUIRED = "auto", "none", "required"


def is_calling(job: Job) -> bool:
    """Says whether the answer may call a tool."""
    return bool(job.tools) and job.tool_choice != NONE


@dataclass(slots=True)
class _Call:
    """A call whose parts are being told."""

    # Its place in the answer; None while it has no name, and when it is one too many.
    index: int | None = None
    call_id: str = ""
    # Arguments that came before the name.
    held: str = ""


class CallFeed:
    """Takes the parts of calls as servers and parsers tell them, and gives them as chunks do.

    They differ in whether each part is numbered, whether the id or the name comes with the first
    part only, and whether calls that begin anew keep their number.
    """

    def __init__(self, *, is_parallel: bool = True) -> None:
        """Unless the answer may have several calls, those after the first are dropped."""
        self._is_parallel = is_parallel
        self._calls: dict[int, _Call] = {}
        self._count = 0

    @property
    def has_calls(self) -> bool:
        """Whether any call was begun."""
        return self._count > 0

    def take(
        self, number: int | None, call_id: str | None, name: str | None, arguments: str | None
    ) -> tuple[ToolCallPart, ...]:
        """Returns what a part tells of the answer: nothing, or one part."""
        if number is None:
            last = max(self._calls, default=-1)
            number = last + 1 if call_id or last < 0 else last
        call = self._calls.get(number)
        if call is None or (call_id and call.call_id and call_id != call.call_id):
            call = self._calls[number] = _Call()
        call.call_id = call.call_id or call_id or ""
        if call.index is not None:
            return (ToolCallPart(call.index, arguments=arguments),) if arguments else ()
        if self._count and not self._is_parallel:
            return ()
        call.held += arguments or ""
        if not name:
            return ()
        call.index, self._count = self._count, self._count + 1
        call.call_id = call.call_id or f"call_{uuid4().hex}"
        return (ToolCallPart(call.index, call.call_id, name, call.held),)
