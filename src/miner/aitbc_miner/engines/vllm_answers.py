"""Turns what vLLM generates into the chunks of an answer: text, calls of tools, probabilities."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from aitbc_miner.engines.base import Chunk, Job, Logprob
from aitbc_miner.engines.vllm_tools import CallReader
from aitbc_miner.errors import EngineFailed

_FINISHED = {"stop": "stop", "length": "length", "repetition": "stop"}


class AnswerReader:
    """Reads the answers of one model."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    async def read(
        self,
        job: Job,
        outputs: AsyncIterator[Any],
        calls: CallReader | None = None,
        *,
        resumed_tokens: int = 0,
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the answer.

        `calls`: reads those of an answer that may have some; `resumed_tokens`: of the prompt, those
        of a resumed text.
        """
        top = job.params.get("logprobs")
        async for output in outputs:
            chunk = _chunk(output, resumed_tokens)
            if top is not None and output.outputs[0].logprobs:
                chunk = replace(chunk, logprobs=self._logprobs(output.outputs[0], top))
            if calls is not None:
                chunk = _read_calls(chunk, output.outputs[0].token_ids, calls)
            yield chunk

    def _logprobs(self, completion: Any, top: int) -> tuple[Logprob, ...]:
        told = []
        for token_id, ranked in zip(completion.token_ids, completion.logprobs, strict=True):
            likeliest = sorted(ranked.items(), key=lambda item: item[1].rank or 0)[:top]
            others = tuple(self._logprob(*item) for item in likeliest)
            told.append(replace(self._logprob(token_id, ranked[token_id]), top=others))
        return tuple(told)

    def _logprob(self, token_id: int, one: Any) -> Logprob:
        token = one.decoded_token
        if token is None:
            token = self._tokenizer.decode([token_id])
        return Logprob(token, one.logprob)


def _read_calls(chunk: Chunk, token_ids: Sequence[int], calls: CallReader) -> Chunk:
    reason = chunk.finish_reason
    text, parts = calls.read(chunk.text, token_ids, is_last=reason is not None)
    # One that was cut is told as far as it came.
    if calls.has_calls and reason == "stop":
        reason = "tool_calls"
    return replace(chunk, text=text, tool_calls=parts, finish_reason=reason)


def _chunk(output: Any, resumed_tokens: int) -> Chunk:
    (completion,) = output.outputs
    reason = completion.finish_reason
    if reason is not None and reason not in _FINISHED:
        raise EngineFailed(f"vLLM ended the generation with {reason!r}")
    return Chunk(
        text=completion.text,
        # vLLM merges chunks for a slow reader: tokens count, not chunks.
        tokens=len(completion.token_ids),
        finish_reason=_FINISHED[reason] if reason else None,
        prompt_tokens=(
            len(output.prompt_token_ids) - resumed_tokens if output.prompt_token_ids else None
        ),
    )
