"""What a running job has said beside its text, and how far a reader is in it.

A reader is known to have the beginning of these calls, probabilities and ids, and not of others
from an attempt that became void, by checksums of what it was told. How far it is in the reasoning
its position says, as of the text.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from aitbc_server.domain.parts import NO_PARTS, CallPart, Parts

# Counted for each call, each probability and each id, beside their own bytes.
_OVERHEAD = 64


class Call:
    """A call of a tool, as far as it was said."""

    __slots__ = ("arguments", "call_id", "name")

    def __init__(self, call_id: str, name: str) -> None:
        self.call_id = call_id
        self.name = name
        # As UTF-8.
        self.arguments = bytearray()


class Series:
    """What is told of each token: how likely it was, or its id."""

    __slots__ = ("ends", "items")

    def __init__(self) -> None:
        self.items: list[Any] = []
        # For each of them, bytes of the reasoning and the text when it was told.
        self.ends: list[int] = []

    def add(self, items: Sequence[Any], end: int) -> None:
        """Takes in more, told with a piece that ends there."""
        self.items += items
        self.ends += [end] * len(items)

    def up_to(self, offset: int) -> int:
        """Returns how many came up to there."""
        return bisect_right(self.ends, offset)


class Extras:
    """The calls of one answer, what is told of its tokens, and the reasoning before it."""

    __slots__ = ("calls", "logprobs", "reasoning", "size", "token_ids")

    def __init__(self, parts: Parts = NO_PARTS) -> None:
        self.calls: list[Call] = []
        self.logprobs = Series()
        self.token_ids = Series()
        # As UTF-8.
        self.reasoning = bytearray()
        # Bytes that it takes.
        self.size = 0
        self.add(parts, 0)

    def add(self, parts: Parts, end: int, *, has_text: bool = True) -> None:
        """Takes in more, told with a piece of text that ends there, or with none."""
        for part in parts.calls:
            if 0 <= part.number < len(self.calls):
                call = self.calls[part.number]
            else:
                call = Call(part.call_id, part.name)
                self.calls.append(call)
            call.arguments += part.arguments.encode()
        self.reasoning += parts.reasoning
        end += len(self.reasoning)
        self.logprobs.add(parts.logprobs, end)
        # Without a text they are those of the next one: whoever has the text up to here has them
        # not.
        self.token_ids.add(parts.token_ids, end if has_text or parts.reasoning else end + 1)
        self.size += size_of(parts)

    def beyond(self, whole: Parts) -> Parts | None:
        """Returns what an answer told from its beginning has more; None when it is another one."""
        if not whole.reasoning.startswith(self.reasoning):
            return None
        place = Place()
        ends = (series.ends[-1] for series in (self.logprobs, self.token_ids) if series.ends)
        place.take(self, max(ends, default=0))
        rest = place.beyond(whole)
        return rest and rest._replace(reasoning=whole.reasoning[len(self.reasoning) :])


class _Had:
    """How much a reader has of a series, and a checksum of it."""

    __slots__ = ("checksum", "count")

    def __init__(self) -> None:
        self.count = 0
        self.checksum = 0

    def take(self, items: Sequence[Any]) -> tuple[Any, ...]:
        """Counts more as had; returns it."""
        self.count += len(items)
        self.checksum = _checksum_of(items, self.checksum)
        return tuple(items)

    def is_of(self, items: Sequence[Any]) -> bool:
        """Says whether what the reader has is the beginning of these."""
        return len(items) >= self.count and _checksum_of(items[: self.count]) == self.checksum


class Place:
    """What a reader has of the extras of an answer."""

    __slots__ = ("_calls", "_logprobs", "_token_ids")

    def __init__(self) -> None:
        # Of each call: its name, bytes of its arguments, and their CRC-32.
        self._calls: list[tuple[str, int, int]] = []
        self._logprobs = _Had()
        self._token_ids = _Had()

    @property
    def is_begun(self) -> bool:
        """Whether the reader was told anything."""
        return bool(self._calls or self._logprobs.count or self._token_ids.count)

    def skip_to(self, extras: Extras, offset: int) -> None:
        """Notes that the reader has what was told of the tokens up to there."""
        for had, series in self._series(extras):
            had.take(series.items[: series.up_to(offset)])

    def take(self, extras: Extras, offset: int) -> Parts:
        """Returns what goes with what was said up to there, and counts it as had.

        `offset`: bytes of the reasoning and the text.
        """
        calls = tuple(self._take_calls(extras.calls))
        logprobs, token_ids = (
            had.take(series.items[had.count : series.up_to(offset)])
            for had, series in self._series(extras)
        )
        is_any = calls or logprobs or token_ids
        return Parts(calls, logprobs, token_ids=token_ids) if is_any else NO_PARTS

    def beyond(self, whole: Parts) -> Parts | None:
        """Returns what an answer has that the reader has not; None when it has another one's."""
        answer = Extras(whole)
        if len(answer.calls) < len(self._calls):
            return None
        for call, (call_id, length, checksum) in zip(answer.calls, self._calls, strict=False):
            is_same = call.call_id == call_id and len(call.arguments) >= length
            if not is_same or crc32(memoryview(call.arguments)[:length]) != checksum:
                return None
        if not (self._logprobs.is_of(whole.logprobs) and self._token_ids.is_of(whole.token_ids)):
            return None
        return Parts(
            tuple(self._take_calls(answer.calls)),
            whole.logprobs[self._logprobs.count :],
            token_ids=whole.token_ids[self._token_ids.count :],
        )

    def _series(self, extras: Extras) -> tuple[tuple[_Had, Series], ...]:
        return (self._logprobs, extras.logprobs), (self._token_ids, extras.token_ids)

    def _take_calls(self, calls: list[Call]) -> list[CallPart]:
        parts = []
        for index, call in enumerate(calls):
            if index == len(self._calls):
                arguments, checksum = bytes(call.arguments), 0
                parts.append(CallPart(index, call.call_id, call.name, arguments.decode()))
                self._calls.append(("", 0, 0))
            else:
                _, length, checksum = self._calls[index]
                arguments = bytes(memoryview(call.arguments)[length:])
                if not arguments:
                    continue
                parts.append(CallPart(index, "", "", arguments.decode()))
            checksum = crc32(arguments, checksum)
            self._calls[index] = (call.call_id, len(call.arguments), checksum)
        return parts


def size_of(parts: Parts) -> int:
    """Returns the bytes that parts take in memory, nearly."""
    texts = sum(len(p.call_id) + len(p.name) + len(p.arguments) for p in parts.calls)
    count = len(parts.calls) + len(parts.logprobs) + len(parts.token_ids)
    return texts + sum(map(len, parts.logprobs)) + len(parts.reasoning) + count * _OVERHEAD


def _checksum_of(items: Sequence[Any], checksum: int = 0) -> int:
    if items and type(items[0]) is int:
        return crc32(array("i", items), checksum)
    for one in items:
        checksum = crc32(one, checksum)
    return checksum
