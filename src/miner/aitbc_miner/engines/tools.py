"""Calls of tools: which answers may have some, and how the parts of them are numbered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
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
    name: str = ""
    # Its arguments so far, in pieces.
    arguments: list[str] = field(default_factory=list)


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
        if call is None or _is_another(call, call_id, name, arguments):
            call = self._calls[number] = _Call()
        call.call_id = call.call_id or call_id or ""
        call.name = call.name or name or ""
        if arguments:
            call.arguments.append(arguments)
        if call.index is not None:
            return (ToolCallPart(call.index, arguments=arguments),) if arguments else ()
        if self._count and not self._is_parallel:
            return ()
        if not call.name:
            return ()
        call.index, self._count = self._count, self._count + 1
        call.call_id = call.call_id or f"call_{uuid4().hex}"
        return (ToolCallPart(call.index, call.call_id, call.name, "".join(call.arguments)),)


def _is_another(call: _Call, call_id: str | None, name: str | None, arguments: str | None) -> bool:
    """Says whether a part with the number of a call begins another one."""
    if call_id and call.call_id:
        return call_id != call.call_id
    if not (name and call.name):
        return False
    # Some repeat the name with each part; but after whole arguments come no more of them.
    return name != call.name or bool(arguments and _is_whole("".join(call.arguments)))


def _is_whole(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False
