"""Vectors and scores of a model that vLLM loaded to pool, made as vLLM's own server makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from aitbc_miner.engines.base import Job
from aitbc_miner.engines.tasks import Input, Made, Output, Task
from aitbc_miner.engines.vllm_adapters import VllmAdapters
from aitbc_miner.engines.vllm_prompts import Prompts
from aitbc_miner.engines.vllm_refusals import refused
from aitbc_miner.errors import BadRequest, EngineFailed

# vLLM's names of the ways to score: of two vectors, of a pair, of the vectors of all tokens.
_SCORERS = ("bi-encoder", "cross-encoder", "late-interaction")


class Pooling:
    """What one model makes of inputs."""

    def __init__(
        self, llm: Any, supported: Sequence[str], prompts: Prompts, adapters: VllmAdapters
    ) -> None:
        """`supported`: vLLM's names of what the model does; `prompts`: of conversations."""
        from vllm.entrypoints.pooling.factories import init_pooling_io_processors
        from vllm.renderers.chat_utils import ChatTemplateConfig

        self._llm = llm
        self._prompts = prompts
        self._adapters = adapters
        processors: dict[str, Any] = init_pooling_io_processors(
            tuple(supported), llm.vllm_config, llm.renderer, ChatTemplateConfig(prompts.template)
        )
        self._embedder = processors.get("embed")
        self._scorer = next((processors[name] for name in _SCORERS if name in processors), None)

    @property
    def names(self) -> tuple[Task, ...]:
        """What the model does."""
        does = {Task.EMBED: self._embedder, Task.SCORE: self._scorer}
        return tuple(task for task, processor in does.items() if processor is not None)

    async def perform(self, job: Job) -> Made:
        """Does what the job asks. Raises as vLLM does, and BadRequest."""
        processor = self._embedder if job.task is Task.EMBED else self._scorer
        if processor is None:
            raise EngineFailed(f"vLLM does not {job.task.value} with {job.model}")
        if job.dimensions is not None and not self._llm.model_config.is_matryoshka:
            raise BadRequest(f"dimensions: the vectors of {job.model} have one length only")
        made: dict[int, tuple[Any, int]] = {}
        try:
            if job.messages:
                made[0] = await self._pooled_chat(job, processor)
            for places, request in self._requests(job):
                told = await self._pooled(job, request, processor, f"{job.request_id}-{len(made)}")
                made |= dict(zip(places, told, strict=True))
        except ValueError as error:
            raise refused(job, error, "inputs") from error
        is_vector = job.task is Task.EMBED
        return Made(
            outputs=[
                Output(vector=pooled.float().tolist())
                if is_vector
                else Output(score=float(pooled.squeeze()))
                for _, (pooled, _) in sorted(made.items())
            ],
            prompt_tokens=sum(tokens for _, tokens in made.values()),
        )

    async def _pooled(
        self, job: Job, request: Any, processor: Any, request_id: str
    ) -> list[tuple[Any, int]]:
        """Returns what the model made of each input, and the tokens that it read."""
        from vllm.entrypoints.pooling.typing import PoolingServeContext

        params = processor.create_pooling_params(request)
        params.verify(self._llm.model_config)
        context: Any = PoolingServeContext(
            request=request,
            model_name=job.model,
            request_id=request_id,
            pooling_params=params,
            lora_request=self._adapters.request(job.model),
            priorities=0,
            prompt_extras={"cache_salt": job.cache_salt} if job.cache_salt else {},
        )
        asked = processor.get_request_factory_online(context)
        prompts = await asyncio.gather(*map(processor.render_async, asked))
        context.final_res_batch = await _all(
            [self._answer(prompt, f"{request_id}-{n}") for n, prompt in enumerate(prompts)]
        )
        processor.post_process_online(context)
        # A score of two vectors stands in their place.
        return [(one.outputs.data, len(one.prompt_token_ids)) for one in context.final_res_batch]

    async def _pooled_chat(self, job: Job, processor: Any) -> tuple[Any, int]:
        """Returns the same of a conversation."""
        from vllm.entrypoints.pooling.embed.protocol import EmbeddingChatRequest

        options = job.options
        # Its messages are rendered here, where media are fetched.
        request = EmbeddingChatRequest(
            messages=[],
            add_generation_prompt=bool(options.add_generation_prompt),
            continue_final_message=options.continue_final_message,
            add_special_tokens=bool(options.add_special_tokens),
            chat_template_kwargs=options.chat_template_kwargs,
            **_pooling(job),
        )
        prompt = await self._prompts.render(job, request)
        if job.cache_salt:
            prompt["cache_salt"] = job.cache_salt
        params = processor.create_pooling_params(request)
        params.verify(self._llm.model_config)
        asked = {
            "prompts": prompt,
            "params": params,
            "lora_requests": self._adapters.request(job.model),
            "priorities": 0,
        }
        answer = await self._answer(asked, job.request_id)
        return answer.outputs.data, len(answer.prompt_token_ids)

    def _requests(self, job: Job) -> Iterator[tuple[list[int], Any]]:
        """Yields requests to vLLM's server, with the places of their inputs."""
        from vllm.entrypoints.pooling.embed.protocol import EmbeddingCompletionRequest
        from vllm.entrypoints.pooling.scoring.protocol import ScoreTextRequest

        asked, inputs = _pooling(job), job.inputs
        if job.task is Task.SCORE:
            texts = [one.text for one in inputs]
            # The same one is read once.
            first = texts[:1] if len(set(texts)) == 1 else texts
            pairs = [one.text_pair for one in inputs]
            asked |= {
                "max_tokens_per_query": job.options.max_tokens_per_query,
                "max_tokens_per_doc": job.options.max_tokens_per_document,
                "chat_template_kwargs": job.options.chat_template_kwargs,
            }
            yield [*range(len(inputs))], ScoreTextRequest(text_1=first, text_2=pairs, **asked)
            return
        if job.options.add_special_tokens is not None:
            asked["add_special_tokens"] = job.options.add_special_tokens
        for has_tokens in (False, True):
            places = [at for at, one in enumerate(inputs) if bool(one.token_ids) == has_tokens]
            if places:
                given = [self._given(at, inputs[at]) for at in places]
                yield places, EmbeddingCompletionRequest(input=given, **asked)

    def _given(self, place: int, one: Input) -> str | list[int]:
        size = self._llm.model_config.get_vocab_size()
        most = max(one.token_ids, default=0)
        if most >= size:
            raise BadRequest(
                f"inputs[{place}]: token {most} is none of the model's, which has {size}"
            )
        return list(one.token_ids) or one.text

    async def _answer(self, prompt: Any, request_id: str) -> Any:
        outputs = self._llm.encode(
            prompt["prompts"],
            prompt["params"],
            request_id,
            lora_request=prompt["lora_requests"],
            priority=prompt["priorities"],
        )
        last = None
        async for output in outputs:
            last = output
        if last is None or last.error is not None:
            raise EngineFailed("vLLM made nothing of an input")
        return last


def _pooling(job: Job) -> dict[str, Any]:
    """Returns what requests of all kinds have."""
    asked: dict[str, Any] = {
        "model": job.model,
        "truncate_prompt_tokens": job.options.truncate_prompt_tokens,
        "truncation_side": job.options.truncation_side or None,
        "use_activation": job.use_activation,
    }
    return asked | ({"dimensions": job.dimensions} if job.task is Task.EMBED else {})


async def _all(works: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Does all at once; when one fails, or when it is cancelled, none goes on."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
