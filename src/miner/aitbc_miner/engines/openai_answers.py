"""Reads the answers of servers that speak the OpenAI API, each in its own dialect.

A shape that is understood is read; one that nothing can be made of is an EngineAnswerInvalid, which
ends this one job.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

from aitbc_miner.engines.base import Chunk, Job, Logprob, ToolCallPart
from aitbc_miner.engines.border import MOST_TOKENS, tokens_in
from aitbc_miner.engines.openai_details import Prompt, Stop, cached_tokens, stop_of, token_ids
from aitbc_miner.engines.openai_faults import failure_within
from aitbc_miner.engines.sse import MOST_BYTES, EventReader
from aitbc_miner.engines.tools import CallFeed
from aitbc_miner.errors import EngineAnswerInvalid, EngineError, EngineFailed

_DONE = "[DONE]"
# What servers send to keep a connection alive; an empty event is none anyway.
_ALIVE = ("ping", "null")
# What servers call the reasoning: DeepSeek and most others, and vLLM and OpenRouter.
_REASONING = ("reasoning_content", "reasoning")
# How servers write that the answer goes on.
_NO_REASON = {"", "null", "none"}
_BLANK = b" \t\r\n\xef\xbb\xbf"
# Types of the parts of a content that are no text to show.
_THOUGHTS = {"thinking", "reasoning", "reasoning_text", "reasoning.text"}


class AnswerReader:
    """Turns the bytes of one answer into chunks; the last one waits for the usage.

    Servers answer with events, or with one JSON document where they do not stream.
    """

    def __init__(self, job: Job) -> None:
        self._wants_logprobs = "logprobs" in job.params
        self._wants_ids = job.params.get("return_token_ids", False)
        self._prompt = Prompt(job)
        self._stop = Stop()
        self._calls = CallFeed(is_parallel=job.is_parallel)
        self._events = EventReader()
        # The document that came instead of events. None while the first byte has not come.
        self._document: bytearray | None = None
        self._is_begun = False
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._has_spoken = False
        # How often it said something.
        self.pieces_said = 0
        # What the server calls the reasoning, when there was one.
        self.reasoning_word: str | None = None
        # Whether the server said that it has said all.
        self.is_done = False

    @property
    def is_finished(self) -> bool:
        """Whether the answer is whole; its usage may still come."""
        return self._finish_reason is not None

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """Yields what the bytes tell. Raises an EngineError."""
        if not self._is_begun:
            piece = piece.lstrip(_BLANK)
            if not piece:
                return
            self._is_begun = True
            if piece[:1] in b"{[":
                self._document = bytearray()
        if self._document is None:
            for data in self._events.feed(piece):
                yield from self._take(data)
            return
        self._document += piece
        if len(self._document) > MOST_BYTES:
            raise EngineAnswerInvalid(f"the server sent an answer of more than {MOST_BYTES} bytes")

    def end(self) -> Iterator[Chunk]:
        """Yields the rest, with the last chunk. Raises an EngineError when there is no end."""
        if self._document is not None:
            yield from self._take(self._document.decode("utf-8", "replace"))
        else:
            for data in self._events.end():
                yield from self._take(data)
        if self._finish_reason is None:
            is_whole = self.is_done or self._document is not None
            if not (is_whole and self._has_spoken):
                raise EngineFailed("the OpenAI-compatible server ended the answer before its end")
            self._finish_reason = "stop"
        yield self._last()

    def _take(self, data: str) -> Iterator[Chunk]:
        try:
            for event in self._parsed(data):
                yield from self._read(event)
        except EngineError:
            # After a whole answer come its usage and no more: what cannot be read there is no loss.
            if not self.is_finished:
                raise

    def _parsed(self, data: str) -> Iterator[dict[str, Any]]:
        """Yields the objects of an event: one, or one a line where a server forgot blank lines."""
        if data.strip() in _ALIVE:
            return
        try:
            events = [_loaded(data)]
        except ValueError:
            try:
                events = [_loaded(line) for line in data.split("\n") if line.strip()]
            except ValueError:
                raise EngineAnswerInvalid("the server sent an event that is no JSON") from None
        for event in events:
            if event == _DONE:
                self.is_done = True
            if self.is_done:
                return
            if not isinstance(event, dict):
                raise EngineAnswerInvalid("the server sent an event that is no object")
            yield event

    def _read(self, event: dict[str, Any]) -> Iterator[Chunk]:
        if _is_error(event):
            raise failure_within(event)
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        self._prompt.take(event)
        for choice in _items(event.get("choices")):
            # One answer was asked for. Some servers give a reason with every piece of it.
            if _number(choice.get("index")) in (None, 0):
                yield from self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> Iterator[Chunk]:
        delta = _object(choice.get("delta"))
        whole = {} if self._has_spoken else _object(choice.get("message"))
        said = delta or whole
        text, thought = _content(said.get("content"))
        text = text or _content(choice.get("text"))[0] or _content(said.get("refusal"))[0]
        reasoning = self._reasoning(said) or thought
        parts = tuple(self._parts(said))
        logprobs = _logprobs(choice.get("logprobs")) if self._wants_logprobs else ()
        ids = token_ids(choice.get("token_ids")) if self._wants_ids else ()
        self._prompt.take(choice)
        if text or reasoning or parts or logprobs or ids:
            self._has_spoken = True
            self.pieces_said += 1
            # A server that streams sends about a token at a time; the usage corrects the sum.
            is_piece = self._document is None and said is not whole
            tokens = len(ids) or (1 if is_piece else tokens_in(text + reasoning))
            yield Chunk(
                text=text,
                reasoning=reasoning,
                tokens=tokens,
                tool_calls=parts,
                logprobs=logprobs,
                token_ids=ids,
            )
        reason = choice.get("finish_reason")
        if reason is not None and reason is not False:
            if not isinstance(reason, str):
                raise EngineAnswerInvalid("the server gave a finish_reason that is no text")
            if reason.strip().lower() not in _NO_REASON:
                self._finish_reason, self._stop = reason, stop_of(choice)

    def _reasoning(self, said: dict[str, Any]) -> str:
        for word in _REASONING:
            if reasoning := _thought(said.get(word)):
                self.reasoning_word = word
                return reasoning
        return ""

    def _parts(self, said: dict[str, Any]) -> Iterator[ToolCallPart]:
        for part in _items(said.get("tool_calls")):
            function = _object(part.get("function"))
            yield from self._calls.take(
                _number(part.get("index")),
                _name(part.get("id")),
                _name(function.get("name")),
                _arguments(function.get("arguments")),
            )
        # As it was before there were tools.
        if function := _object(said.get("function_call")):
            yield from self._calls.take(
                0, None, _name(function.get("name")), _arguments(function.get("arguments"))
            )

    def _last(self) -> Chunk:
        usage = self._usage
        details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
        completion = _tokens(usage.get("completion_tokens", usage.get("output_tokens")))
        if self._has_spoken:
            completion = completion or None  # of a server that does not count
        return Chunk(
            finish_reason=self._finish_reason,
            # No prompt has none: so say servers that do not count.
            prompt_tokens=_tokens(usage.get("prompt_tokens", usage.get("input_tokens"))) or None,
            completion_tokens=completion,
            reasoning_tokens=(
                _tokens(details.get("reasoning_tokens")) or None
                if isinstance(details, dict)
                else None
            ),
            is_estimated=completion is None,
            prompt_details=self._prompt.details,
            stop_string=self._stop.string,
            stop_token_id=self._stop.token_id,
            cached_tokens=_tokens(cached_tokens(usage)),
        )


def _loaded(data: str) -> Any:
    """Returns what a line holds. Raises ValueError."""
    data = data.strip()
    if data == _DONE:
        return data
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _is_error(event: dict[str, Any]) -> bool:
    if event.get("error") or "error" in (event.get("object"), event.get("type")):
        return True
    # Flat, as it is after `event: error`.
    told = event.get("message") or event.get("detail")
    return "choices" not in event and isinstance(told, str)


def _items(told: object) -> list[dict[str, Any]]:
    """Returns a list of objects, of which a server may have sent the only one."""
    if told is None:
        return []
    items = told if isinstance(told, list) else [told]
    return [_object(item) for item in items]


def _object(told: object) -> dict[str, Any]:
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise EngineAnswerInvalid("the server sent something where an object is expected")
    return told


def _content(told: object) -> tuple[str, str]:
    """Returns a text and what was thought for it: of a text, of parts of one, or of nothing."""
    if told is None:
        return "", ""
    if isinstance(told, str):
        return told, ""
    if isinstance(told, list):
        texts = [_content(part) for part in _shallow(told)]
        return "".join(text for text, _ in texts), "".join(thought for _, thought in texts)
    if isinstance(told, dict):
        key = next((key for key in ("text", "content", "value") if key in told), None)
        if told.get("type") in _THOUGHTS:
            inner = told.get("thinking", told.get(key) if key else None)
            return "", "".join(_content(inner))
        if key is not None:
            return _content(told[key])
    raise EngineAnswerInvalid("the server sent a content that is neither text nor parts of one")


def _thought(told: object) -> str:
    """Returns reasoning; nothing where it cannot be read, for the answer is whole without it."""
    if isinstance(told, dict) and not told.get("text") and "summary" in told:
        told = told["summary"]
    try:
        return "".join(_content(told))
    except EngineAnswerInvalid:
        return ""


def _shallow(parts: list[Any]) -> Iterable[Any]:
    """Yields parts that are no lists themselves."""
    for part in parts:
        if isinstance(part, list):
            raise EngineAnswerInvalid("the server sent a content of lists within lists")
        yield part


def _name(told: object) -> str | None:
    if told is None or isinstance(told, str):
        return told
    if isinstance(told, int) and not isinstance(told, bool):
        return str(told)
    raise EngineAnswerInvalid("the server named a call with something that is no text")


def _arguments(told: object) -> str | None:
    """Returns arguments as JSON text, which some servers send as what it says."""
    if told is None or isinstance(told, str):
        return told
    return json.dumps(told, ensure_ascii=False)


def _number(told: object) -> int | None:
    """Returns an index, which some servers send as a text."""
    if told is None:
        return None
    try:
        number = int(told) if isinstance(told, int | float | str) else -1
    except (ValueError, OverflowError):
        number = -1
    if number < 0:
        raise EngineAnswerInvalid("the server sent an index that is no number")
    return number


def _tokens(told: object) -> int | None:
    """Returns a count of tokens; None for what is none, so that it is estimated instead."""
    if isinstance(told, bool) or not isinstance(told, int | float | str):
        return None
    try:
        number = int(told)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= MOST_TOKENS else None


def _logprobs(told: object) -> tuple[Logprob, ...]:
    told = _object(told)
    if told.get("tokens"):  # as the completions endpoint tells them
        return _completion_logprobs(told)
    return tuple(
        _logprob(one, tuple(map(_logprob, _items(one.get("top_logprobs")))))
        for one in _items(told.get("content"))
    )


def _logprob(one: dict[str, Any], top: tuple[Logprob, ...] = ()) -> Logprob:
    token, value = one.get("token"), one.get("logprob")
    if not isinstance(token, str) or isinstance(value, bool) or not isinstance(value, int | float):
        raise EngineAnswerInvalid("the server told a probability without a token or a number")
    return Logprob(token, value, top, _token_bytes(one.get("bytes"), token))


def _token_bytes(told: object, token: str) -> bytes:
    """Returns the bytes of a token, unless its text tells them."""
    if not isinstance(told, list) or not told:
        return b""
    try:
        data = bytes(told)
    except (TypeError, ValueError):
        return b""
    return b"" if data == token.encode("utf-8", "replace") else data


def _completion_logprobs(told: dict[str, Any]) -> tuple[Logprob, ...]:
    tokens, values = told.get("tokens"), told.get("token_logprobs")
    tops = told.get("top_logprobs") or []
    if not (isinstance(tokens, list) and isinstance(values, list) and isinstance(tops, list)):
        raise EngineAnswerInvalid("the server told probabilities that are no lists")
    if len(tokens) != len(values) or len(tops) > len(tokens):
        raise EngineAnswerInvalid("the server told more tokens than probabilities, or fewer")
    return tuple(
        _logprob(
            {"token": token, "logprob": value},
            tuple(
                _logprob({"token": likely, "logprob": how}) for likely, how in _object(top).items()
            ),
        )
        for token, value, top in zip_longest(tokens, values, tops)
    )
