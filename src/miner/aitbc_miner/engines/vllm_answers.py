"""Turns what vLLM generates into the chunks of an answer: what is said, and how likely it was."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from aitbc_miner.engines.base import Chunk, Job, Logprob, PromptDetails
from aitbc_miner.engines.vllm_parsing import AnswerParser
from aitbc_miner.errors import EngineFailed

_FINISHED = {"stop": "stop", "length": "length", "repetition": "repetition"}


class AnswerReader:
    """Reads the answer to one job."""

    def __init__(self, tokenizer: Any, job: Job, *, resumed_tokens: int = 0) -> None:
        """`resumed_tokens`: of the prompt, those of a resumed text."""
        self._tokenizer = tokenizer
        self._top = job.params.get("logprobs")
        self._top_of_prompt = job.params.get("prompt_logprobs", 0)
        self._wants_ids = job.params.get("return_token_ids", False)
        self._wants_details = job.wants_details
        self._resumed_tokens = resumed_tokens
        # Whether the text of the prompt may have more than its tokens.
        self._is_cut = job.options.truncate_prompt_tokens is not None

    async def read(
        self, outputs: AsyncIterator[Any], parser: AnswerParser | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the answer. `parser`: reads one that is not all text."""
        async for output in outputs:
            completion = output.outputs[0]
            chunk = _chunk(output, self._resumed_tokens)
            if self._top is not None and completion.logprobs:
                chunk = replace(chunk, logprobs=self._logprobs(completion, self._top))
            if self._wants_ids:
                chunk = replace(chunk, token_ids=tuple(completion.token_ids))
            if self._wants_details:
                # vLLM tells the prompt with each piece, and its probabilities with the first one.
                chunk = replace(chunk, prompt_details=self._details(output))
                self._wants_details = False
            if parser is not None:
                chunk = _parsed(chunk, completion.token_ids, parser)
            yield chunk

    def _details(self, output: Any) -> PromptDetails:
        ids = output.prompt_token_ids
        text = output.prompt
        return PromptDetails(
            text=self._tokenizer.decode(ids) if text is None or self._is_cut else text,
            token_ids=tuple(ids),
            logprobs=tuple(
                self._ranked(token_id, ranked, self._top_of_prompt)
                for token_id, ranked in zip(ids, output.prompt_logprobs or (), strict=False)
            ),
        )

    def _ranked(self, token_id: int, ranked: Any, top: int) -> Logprob:
        if ranked is None:  # the first one follows nothing
            return Logprob(self._tokenizer.decode([token_id]), 0.0, token_id=token_id)
        likeliest = sorted(ranked.items(), key=lambda item: item[1].rank or 0)
        others = tuple(self._logprob(*item) for item in likeliest[:top])
        return replace(self._logprob(token_id, ranked[token_id]), top=others)

    def _logprobs(self, completion: Any, top: int) -> tuple[Logprob, ...]:
        return tuple(
            self._ranked(token_id, ranked, top)
            for token_id, ranked in zip(completion.token_ids, completion.logprobs, strict=True)
        )

    def _logprob(self, token_id: int, one: Any) -> Logprob:
        token = one.decoded_token
        if token is None:
            token = self._tokenizer.decode([token_id])
        return Logprob(token, one.logprob, token_id=token_id, rank=one.rank or 0)


def _parsed(chunk: Chunk, token_ids: Sequence[int], parser: AnswerParser) -> Chunk:
    reason = chunk.finish_reason
    read = parser.read(chunk.text, token_ids, is_last=reason is not None)
    # One that was cut is told as far as it came.
    if parser.has_calls and reason == "stop":
        reason = "tool_calls"
    return replace(
        chunk,
        text=read.text,
        reasoning=read.reasoning,
        tool_calls=read.calls,
        finish_reason=reason,
        reasoning_tokens=read.reasoning_tokens,
    )


def _chunk(output: Any, resumed_tokens: int) -> Chunk:
    (completion,) = output.outputs
    reason = completion.finish_reason
    if reason is not None and reason not in _FINISHED:
        raise EngineFailed(f"vLLM ended the generation with {reason!r}")
    # What vLLM says of a repetition is no string of the answer.
    stop = completion.stop_reason if reason == "stop" else None
    return Chunk(
        text=completion.text,
        # vLLM merges chunks for a slow reader: tokens count, not chunks.
        tokens=len(completion.token_ids),
        finish_reason=_FINISHED[reason] if reason else None,
        prompt_tokens=(
            len(output.prompt_token_ids) - resumed_tokens if output.prompt_token_ids else None
        ),
        cached_tokens=output.num_cached_tokens,
        stop_string=stop if isinstance(stop, str) else "",
        stop_token_id=stop if isinstance(stop, int) else None,
    )
