"""Where answers enter: holds what any engine says to what a chunk is.

What can be understood is put right here, once for all engines; what cannot be made sense of is an
EngineAnswerInvalid. Behind the border every text can be encoded and every count is one.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from uuid import uuid4

from aitbc_miner.engines.base import Chunk, Job, Logprob, PromptDetails, ToolCallPart
from aitbc_miner.engines.tools import is_calling
from aitbc_miner.errors import EngineAnswerInvalid, EngineFailed, ResultTooLarge

# Largest count that a message holds.
MOST_TOKENS = 2**31 - 1
# Bytes of one answer with its calls and probabilities: one that never ends must end some time.
_MOST_BYTES = 2**25
_MOST_CALLS = 128
# What a name of a tool has none of, and how long it is at most.
_NO_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MOST_NAME = 256
_CALL_ID = re.compile(r"[!-~]{1,256}")
# Tokens that a chat template, its system prompt and the tools' instructions may add to a prompt.
_TEMPLATE_TOKENS = 16_384
# What a probability of nought is told as, as the OpenAI API does.
_IMPOSSIBLE = -9999.0
# Bytes of a token's number.
_ID_BYTES = 4
# Bytes of a token, about, where nobody counts.
_BYTES_A_TOKEN = 4

STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER = "stop", "length", "tool_calls", "content_filter"
REPETITION = "repetition"
_FINISHED = {
    REPETITION: REPETITION,
    LENGTH: LENGTH,
    "max_tokens": LENGTH,
    "max_output_tokens": LENGTH,
    "max_length": LENGTH,
    "model_length": LENGTH,
    "model_context_window_exceeded": LENGTH,
    TOOL_CALLS: TOOL_CALLS,
    "tool_call": TOOL_CALLS,
    "tool_use": TOOL_CALLS,
    "function_call": TOOL_CALLS,
    CONTENT_FILTER: CONTENT_FILTER,
    "content_filtered": CONTENT_FILTER,
    "safety": CONTENT_FILTER,
    "refusal": CONTENT_FILTER,
    "recitation": CONTENT_FILTER,
    "prohibited_content": CONTENT_FILTER,
    "blocklist": CONTENT_FILTER,
    "spii": CONTENT_FILTER,
    "sensitive": CONTENT_FILTER,
}
# Ends that are none.
_BROKEN = {
    "error",
    "abort",
    "aborted",
    "cancelled",
    "canceled",
    "timeout",
    "network_error",
    "insufficient_system_resource",
}


class Border:
    """Checks the chunks of one answer."""

    def __init__(self, job: Job, most_bytes: int = _MOST_BYTES) -> None:
        """`most_bytes`: what an answer may have in all."""
        self._job = job
        self._most_bytes = min(most_bytes, _MOST_BYTES)
        # Whether the ids of the answer's tokens are told, and of how many tokens at most.
        self._has_ids = job.params.get("return_token_ids", False)
        resumed = job.resume.tokens if job.resume else 0
        self._most_tokens = max(0, job.params.get("max_tokens", MOST_TOKENS) - resumed)
        self._ids = self._logprobs = 0
        self._has_calls = is_calling(job)
        self._text = _Text()
        self._reasoning = _Text()
        self._arguments: list[_Text] = []
        self._tokens = 0
        self._prompt_tokens: int | None = None
        self._bytes = _bytes_in(job.resume.text) if job.resume else 0
        self._is_over = False

    def pass_in(self, chunk: Chunk) -> Chunk | None:
        """Returns the chunk as it may be passed on; None when it says nothing more.

        Raises EngineAnswerInvalid, EngineFailed for an end that is none, and ResultTooLarge.
        """
        if self._is_over:
            return None
        if not isinstance(chunk, Chunk):
            raise EngineAnswerInvalid("the engine said something that is no piece of an answer")
        is_last = chunk.finish_reason is not None
        tokens = max(_count(chunk.tokens), len(chunk.token_ids))
        if tokens != chunk.tokens:
            chunk = replace(chunk, tokens=tokens)
        self._tokens += tokens
        _count(self._tokens)
        if chunk.prompt_tokens is not None:
            self._prompt_tokens = _count(chunk.prompt_tokens)
        text = self._text.take(chunk.text, is_last=is_last)
        reasoning = self._reasoning.take(chunk.reasoning, is_last=is_last)
        is_same = text is chunk.text and reasoning is chunk.reasoning
        if chunk.token_ids or chunk.prompt_details is not None:
            chunk = self._detailed(chunk)
        if chunk.tool_calls or chunk.logprobs or not is_same:
            chunk = replace(
                chunk,
                text=text,
                reasoning=reasoning,
                tool_calls=tuple(map(self._call, chunk.tool_calls)) if self._has_calls else (),
                logprobs=self._likely(chunk.logprobs) if chunk.logprobs else (),
            )
        self._weigh(chunk)
        return self._last(chunk) if is_last else chunk

    def _detailed(self, chunk: Chunk) -> Chunk:
        """Returns the chunk with what is told of tokens put right: nothing that nobody asked."""
        ids = chunk.token_ids[: self._most_tokens - self._ids] if self._has_ids else ()
        self._ids += len(ids)
        details = chunk.prompt_details if self._job.wants_details else None
        most = self._job.params.get("prompt_logprobs")
        return replace(
            chunk,
            token_ids=_token_ids(ids),
            prompt_details=None if details is None else _details(details, most),
        )

    def _likely(self, logprobs: tuple[Logprob, ...]) -> tuple[Logprob, ...]:
        """Returns probabilities as they were asked for: some servers tell more of them."""
        most = self._job.params.get("logprobs")
        if most is None:
            return ()
        told = logprobs[: self._most_tokens - self._logprobs]
        self._logprobs += len(told)
        return tuple(_logprob(one, most, has_id=self._has_ids) for one in told)

    def _last(self, chunk: Chunk) -> Chunk:
        self._is_over = True
        prompt_tokens, completion_tokens = self._prompt_tokens, self._completion_tokens(chunk)
        is_estimated = completion_tokens != chunk.completion_tokens
        if prompt_tokens is None or prompt_tokens > _most_prompt_tokens(self._job):
            prompt_tokens, is_estimated = _prompt_estimate(self._job), True
        return replace(
            chunk,
            finish_reason=self._finish_reason(chunk.finish_reason),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            reasoning_tokens=_optional_count(chunk.reasoning_tokens),
            stop_string=self._stop(chunk.stop_string),
            stop_token_id=_optional_count(chunk.stop_token_id),
            cached_tokens=_cached(chunk.cached_tokens, prompt_tokens),
            is_estimated=bool(chunk.is_estimated) or is_estimated,
        )

    def _completion_tokens(self, chunk: Chunk) -> int | None:
        """Returns how many tokens the answer has: no more than were asked for, whoever counts."""
        told = _optional_count(chunk.completion_tokens)
        if told is not None and told < self._ids:
            told = self._ids
        most = self._job.params.get("max_tokens")
        resumed = self._job.resume.tokens if self._job.resume else 0
        if most is not None and (self._tokens + resumed if told is None else told) > most:
            return most
        return told

    def _stop(self, told: object) -> str:
        # Some servers say something else there.
        stop = _whole(told)
        return stop if stop in self._job.params.get("stop", ()) else ""

    def _finish_reason(self, told: object) -> str:
        if not isinstance(told, str):
            raise EngineAnswerInvalid("the engine ended the answer with a reason that is no text")
        # Some write `content-filter`, or the name of a constant: `FinishReason.SAFETY`.
        word = told.strip().lower().replace("-", "_").rpartition(".")[2]
        if word in _BROKEN:
            raise EngineFailed(f"the engine ended the answer with {word!r}")
        reason = _FINISHED.get(word, STOP)
        if reason in (STOP, TOOL_CALLS):
            return TOOL_CALLS if self._arguments else STOP
        return reason

    def _call(self, part: ToolCallPart) -> ToolCallPart:
        index = _count(part.index)
        # Models make up names, and servers ids.
        call_id, name = _whole(part.call_id), _NO_NAME.sub("_", _whole(part.name))[:_MOST_NAME]
        if index == len(self._arguments):
            if not name or index >= _MOST_CALLS:
                raise EngineAnswerInvalid("the engine asked for a call without a name, or too many")
            self._arguments.append(_Text())
            if not _CALL_ID.fullmatch(call_id):
                call_id = f"call_{uuid4().hex}"
        elif index > len(self._arguments):
            raise EngineAnswerInvalid("the engine numbered its calls with a gap")
        else:
            # Told with the first part of it.
            call_id = name = ""
        return ToolCallPart(index, call_id, name, self._arguments[index].take(part.arguments))

    def _weigh(self, chunk: Chunk) -> None:
        size = _bytes_in(chunk.text) + _bytes_in(chunk.reasoning)
        for part in chunk.tool_calls:
            size += _bytes_in(part.arguments) + len(part.name) + len(part.call_id)
        for one in chunk.logprobs:
            size += _logprob_bytes(one)
        size += _ID_BYTES * len(chunk.token_ids)
        if chunk.prompt_details is not None:
            size += _details_bytes(chunk.prompt_details)
        self._bytes += size
        if self._bytes > self._most_bytes:
            raise ResultTooLarge(f"the answer is larger than {self._most_bytes} bytes")


class _Text:
    """A text in pieces, which an engine may have cut between the halves of a character."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def take(self, piece: object, *, is_last: bool = False) -> str:
        """Returns the piece as it can be encoded; half a character waits for the next one."""
        if not isinstance(piece, str):
            raise EngineAnswerInvalid("the engine said something that is no text")
        if not self._half and piece.isascii():
            return piece
        text = self._half + piece
        self._half = ""
        if text and not is_last and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return encodable(text)


def encodable(text: str) -> str:
    """Returns a text with its halves of characters joined, and U+FFFD for those that have none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _bytes_in(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def tokens_in(text: str) -> int:
    """Returns about how many tokens a text has, where nobody counts."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN)


def _whole(text: object) -> str:
    return _Text().take(text, is_last=True)


def _count(number: object) -> int:
    # A bool counts as the number that it is: `tokens=bool(text)`.
    if not isinstance(number, int) or not 0 <= number <= MOST_TOKENS:
        raise EngineAnswerInvalid("the engine counted what is no number of tokens")
    return int(number)


def _optional_count(number: object) -> int | None:
    return None if number is None else _count(number)


def _token_ids(ids: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(_count, ids))


def _cached(number: object, prompt_tokens: int) -> int | None:
    cached = _optional_count(number)
    return None if cached is None else min(cached, prompt_tokens)


def _details(told: PromptDetails, most: int | None) -> PromptDetails:
    logprobs = () if most is None else told.logprobs
    return PromptDetails(
        text=_whole(told.text),
        token_ids=_token_ids(told.token_ids),
        logprobs=tuple(_logprob(one, most or 0, has_id=True) for one in logprobs),
    )


def _details_bytes(details: PromptDetails) -> int:
    size = _bytes_in(details.text) + _ID_BYTES * len(details.token_ids)
    return size + sum(map(_logprob_bytes, details.logprobs))


def _logprob_bytes(one: Logprob) -> int:
    # They count twice, as they do for the coordinator.
    return sum(2 * (_bytes_in(top.token) + 14) for top in (one, *one.top))


def _logprob(one: Logprob, most: int, *, has_id: bool) -> Logprob:
    """Returns a probability as it may be told. `most`: likeliest tokens beside."""
    value = one.logprob
    if not isinstance(value, int | float) or math.isnan(value) or value == math.inf:
        raise EngineAnswerInvalid("the engine told a log probability that is no number")
    top = [_logprob(other, 0, has_id=has_id) for other in one.top]
    if len(top) > most:
        # Servers that tell more begin with the one that stands there, however likely it was.
        top = sorted(top, key=lambda other: -other.logprob)[:most]
    return replace(
        one,
        token=_whole(one.token),
        logprob=max(float(value), _IMPOSSIBLE),
        top=tuple(top),
        token_id=_optional_count(one.token_id) if has_id else None,
        rank=_count(one.rank) if has_id else 0,
    )


def _prompt_estimate(job: Job) -> int:
    if job.prompt_token_ids:
        return len(job.prompt_token_ids)
    return max(1, sum(map(tokens_in, _prompt_texts(job))))


def _most_prompt_tokens(job: Job) -> int:
    """Returns how many tokens a prompt can have: one a byte, and what a chat template adds."""
    if any("parts" in one for one in job.messages):
        # What an image or a film has in tokens, only the model knows.
        return MOST_TOKENS
    most = sum(map(_bytes_in, _prompt_texts(job))) + len(job.prompt_token_ids)
    documents = job.options.documents or ()
    for text in (text for document in documents for text in document.values()):
        most += _bytes_in(text)
    return most + _TEMPLATE_TOKENS


def _prompt_texts(job: Job) -> list[str]:
    return [job.prompt] if job.prompt is not None else [one["content"] for one in job.messages]
