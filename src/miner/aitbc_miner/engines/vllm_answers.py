"""Turns what vLLM generates into the chunks of an answer: text, calls of tools, probabilities."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

from aitbc_miner.engines.base import Chunk, Job, Logprob, ToolCall
from aitbc_miner.engines.tools import AUTO, called, forced_calls, is_calling
from aitbc_miner.errors import BadRequest, EngineFailed

_FINISHED = {"stop": "stop", "length": "length", "repetition": "stop"}


class AnswerReader:
    """Reads the answers of one model."""

    def __init__(self, tokenizer: Any, tool_parser: str | None) -> None:
        """`tool_parser`: name of vLLM's parser of the model's own way to call tools."""
        self._tokenizer = tokenizer
        self._tool_parser = tool_parser

    def check(self, job: Job) -> None:
        """Raises BadRequest for a job whose answer could not be read."""
        if is_calling(job) and job.tool_choice == AUTO and self._tool_parser is None:
            raise BadRequest(
                "tools: the miner was started without a parser of this model's calls"
                " (--engine-opt tool_parser=NAME): set tool_choice to required, or to one tool"
            )

    async def read(
        self, job: Job, outputs: AsyncIterator[Any], resumed_tokens: int
    ) -> AsyncGenerator[Chunk, None]:
        """Yields the answer. `resumed_tokens`: of the prompt, those of a resumed text."""
        held = "" if is_calling(job) else None
        top = job.params.get("logprobs")
        async for output in outputs:
            chunk = _chunk(output, resumed_tokens)
            if top is not None and output.outputs[0].logprobs:
                chunk = replace(chunk, logprobs=self._logprobs(output.outputs[0], top))
            if held is not None:
                # Only its end shows whether it calls a tool.
                held += chunk.text
                chunk = self._called(job, held, chunk)
            yield chunk

    def _called(self, job: Job, text: str, chunk: Chunk) -> Chunk:
        if chunk.finish_reason is None:
            return replace(chunk, text="")
        if chunk.finish_reason == "length":
            # What was cut is no call that anybody could make.
            return replace(chunk, text=text)
        calls, content = self._calls(job, text)
        reason = "tool_calls" if calls else chunk.finish_reason
        return replace(chunk, text=content, tool_calls=calls, finish_reason=reason)

    def _calls(self, job: Job, text: str) -> tuple[tuple[ToolCall, ...], str]:
        """Returns the calls in an answer, and what it says beside them."""
        if job.tool_choice != AUTO:
            return forced_calls(job, text), ""
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.tool_parsers import ToolParserManager

        request = ChatCompletionRequest(
            model=job.model,
            messages=[{"role": "user", "content": ""}],
            tools=[tool.as_openai() for tool in job.tools],
        )
        parser = ToolParserManager.get_tool_parser(self._tool_parser)
        found = parser(self._tokenizer, request.tools).extract_tool_calls(text, request)
        if not found.tools_called:
            return (), text
        calls = tuple(called(one.function.name, one.function.arguments) for one in found.tool_calls)
        return calls, found.content or ""

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
