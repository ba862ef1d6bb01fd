"""What a model in vLLM is asked beside generating: its tokens, and what it pools."""

from __future__ import annotations

from typing import Any

from aitbc_miner.engines.base import Job
from aitbc_miner.engines.tasks import Input, Made, Output, Task
from aitbc_miner.engines.vllm_pooling import Pooling
from aitbc_miner.engines.vllm_prompts import Prompts
from aitbc_miner.engines.vllm_requests import request_of


class Tasks:
    """What one model does of inputs."""

    def __init__(self, llm: Any, prompts: Prompts, pooling: Pooling | None) -> None:
        """`pooling`: of a model that generates nothing."""
        self._renderer = llm.renderer
        self._tokenizer = llm.get_tokenizer()
        self._prompts = prompts
        self._pooling = pooling

    @property
    def names(self) -> tuple[Task, ...]:
        """What the model does."""
        answers = (Task.GENERATE,) if self._pooling is None else self._pooling.names
        return (*answers, Task.TOKENIZE, Task.DETOKENIZE)

    async def perform(self, job: Job) -> Made:
        """Does what the job asks. Raises as vLLM does, and BadRequest."""
        if job.task in (Task.EMBED, Task.SCORE) and self._pooling is not None:
            return await self._pooling.perform(job)
        if job.task is Task.DETOKENIZE:
            return Made(outputs=[await self._text_of(one) for one in job.inputs])
        if job.messages:
            tokens = [await self._tokens_of_chat(job)]
        else:
            tokens = [await self._tokens_of(job, one) for one in job.inputs]
        told = self._tokenizer.convert_ids_to_tokens if job.params.get("return_token_ids") else None
        return Made(
            outputs=[Output(token_ids=ids, tokens=told(ids) if told else ()) for ids in tokens]
        )

    async def _tokens_of_chat(self, job: Job) -> list[int]:
        # Of any length: nothing is generated.
        from vllm.renderers import TokenizeParams

        request = request_of(job, is_chat=True)
        limits = TokenizeParams(
            max_total_tokens=None, add_special_tokens=request.add_special_tokens
        )
        prompt = await self._prompts.render(job, request, limits)
        return list(prompt["prompt_token_ids"])

    async def _tokens_of(self, job: Job, one: Input) -> list[int]:
        from vllm.renderers import TokenizeParams

        adds = job.options.add_special_tokens
        params = TokenizeParams(max_total_tokens=None, add_special_tokens=adds is not False)
        made = await self._renderer.tokenize_prompt_async({"prompt": one.text}, params)
        return list(made["prompt_token_ids"])

    async def _text_of(self, one: Input) -> Output:
        from vllm.renderers import TokenizeParams

        params = TokenizeParams(max_total_tokens=None, needs_detokenization=True)
        prompt = {"prompt_token_ids": list(one.token_ids)}
        made = await self._renderer.tokenize_prompt_async(prompt, params)
        return Output(text=made["prompt"])
