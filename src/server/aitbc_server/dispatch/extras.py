"""What a running job has said beside its text, and how far a reader is in it.

A reader is known to have the beginning of these calls and probabilities, and not of others from an
attempt that became void, by checksums of what it was told.
"""

from __future__ import annotations

from bisect import bisect_right
from zlib import crc32

from aitbc_server.domain.parts import NO_PARTS, CallPart, Parts

# Counted for each call and each probability, beside their own bytes.
_OVERHEAD = 64


class Call:
    """A call of a tool, as far as it was said."""

    __slots__ = ("arguments", "call_id", "name")

    def __init__(self, call_id: str, name: str) -> None:
        self.call_id = call_id
        self.name = name
        # As UTF-8.
        self.arguments = bytearray()


class Extras:
    """The calls of one answer, and how likely its tokens were."""

    __slots__ = ("calls", "ends", "logprobs", "size")

    def __init__(self, parts: Parts = NO_PARTS) -> None:
        self.calls: list[Call] = []
        self.logprobs: list[bytes] = []
        # For each of them, bytes of the answer's text when it was told.
        self.ends: list[int] = []
        # Bytes that it takes.
        self.size = 0
        self.add(parts, 0)

    def add(self, parts: Parts, end: int) -> None:
        """Takes in more, told with a piece of text that ends there."""
        for part in parts.calls:
            if 0 <= part.number < len(self.calls):
                call = self.calls[part.number]
            else:
                call = Call(part.call_id, part.name)
                self.calls.append(call)
            call.arguments += part.arguments.encode()
        self.logprobs += parts.logprobs
        self.ends += [end] * len(parts.logprobs)
        self.size += size_of(parts)

    def beyond(self, whole: Parts) -> Parts | None:
        """Returns what an answer told from its beginning has more; None when it is another one."""
        place = Place()
        place.take(self, self.ends[-1] if self.ends else 0)
        return place.beyond(whole)


class Place:
    """What a reader has of the extras of an answer."""

    __slots__ = ("_calls", "_checksum", "_logprobs")

    def __init__(self) -> None:
        # Of each call: its name, bytes of its arguments, and their CRC-32.
        self._calls: list[tuple[str, int, int]] = []
        self._logprobs = 0
        self._checksum = 0

    @property
    def is_begun(self) -> bool:
        """Whether the reader was told anything."""
        return bool(self._calls or self._logprobs)

    def skip_to(self, extras: Extras, offset: int) -> None:
        """Notes that the reader has the probabilities that came with the text up to there."""
        self._take_logprobs(extras.logprobs[: bisect_right(extras.ends, offset)])

    def take(self, extras: Extras, offset: int) -> Parts:
        """Returns what goes with the text up to there, and counts it as had."""
        calls = tuple(self._take_calls(extras.calls))
        logprobs = extras.logprobs[self._logprobs : bisect_right(extras.ends, offset)]
        self._take_logprobs(logprobs)
        return Parts(calls, tuple(logprobs)) if calls or logprobs else NO_PARTS

    def beyond(self, whole: Parts) -> Parts | None:
        """Returns what an answer has that the reader has not; None when it has another one's."""
        answer = Extras(whole)
        if len(answer.calls) < len(self._calls) or len(whole.logprobs) < self._logprobs:
            return None
        for call, (call_id, length, checksum) in zip(answer.calls, self._calls, strict=False):
            is_same = call.call_id == call_id and len(call.arguments) >= length
            if not is_same or crc32(memoryview(call.arguments)[:length]) != checksum:
                return None
        if _checksum_of(whole.logprobs[: self._logprobs]) != self._checksum:
            return None
        rest = tuple(self._take_calls(answer.calls))
        return Parts(rest, whole.logprobs[self._logprobs :])

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

    def _take_logprobs(self, logprobs: list[bytes]) -> None:
        self._logprobs += len(logprobs)
        self._checksum = _checksum_of(logprobs, self._checksum)


def size_of(parts: Parts) -> int:
    """Returns the bytes that parts take in memory, nearly."""
    texts = sum(len(p.call_id) + len(p.name) + len(p.arguments) for p in parts.calls)
    count = len(parts.calls) + len(parts.logprobs)
    return texts + sum(map(len, parts.logprobs)) + count * _OVERHEAD


def _checksum_of(logprobs: list[bytes] | tuple[bytes, ...], checksum: int = 0) -> int:
    for one in logprobs:
        checksum = crc32(one, checksum)
    return checksum
