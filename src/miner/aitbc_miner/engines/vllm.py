"""Runs a model with vLLM in this process, with continuous batching.

vLLM is imported only when an engine starts: it is heavy, lives in an environment of its own, and
its child processes import this module again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from multiprocessing import resource_tracker
from typing import Any

from aitbc_miner import weights
from aitbc_miner.adapters import Adapter
from aitbc_miner.engines.base import Chunk, EngineLoad, Job, Resume
from aitbc_miner.engines.media import Media
from aitbc_miner.engines.resuming import is_resumable
from aitbc_miner.engines.tasks import Made, ModelInfo
from aitbc_miner.engines.vllm_adapters import VllmAdapters
from aitbc_miner.engines.vllm_answers import AnswerReader
from aitbc_miner.engines.vllm_forms import Forms, arguments_in, arguments_of
from aitbc_miner.engines.vllm_parsing import (
    REASONING,
    TOOLS,
    Parsing,
    check_parsers,
)
from aitbc_miner.engines.vllm_pooling import Pooling
from aitbc_miner.engines.vllm_prompts import Prompts
from aitbc_miner.engines.vllm_refusals import refusing
from aitbc_miner.engines.vllm_requests import request_of
from aitbc_miner.engines.vllm_sampling import Sampling
from aitbc_miner.engines.vllm_tasks import Tasks
from aitbc_miner.errors import (
    BadRequest,
    EngineBusy,
    EngineDead,
    EngineFailed,
    Misconfigured,
)

# Prompt and answer of a usual job. The KV cache takes this many jobs at once; when longer ones
# come, vLLM preempts rather than fails.
_USUAL_JOB_TOKENS = 1024
# Jobs at once of a model that generates nothing: each may have many inputs.
_POOLING_JOBS = 32
# Without a GPU: enough for a small model, and no more than a small machine has.
_CPU_MAX_CONTEXT = 4096
_CPU_KV_CACHE_BYTES = 512 * 2**20
# vLLM's own 5 s is about what a small CPU engine takes, and then kills it.
_SHUTDOWN_S = 20.0
# The miner's own options.
_TEMPLATE, _PRIVATE_MEDIA = "chat_template", "allow_private_media"
# As of `vllm serve`.
_HIDES_TOOLS = "exclude_tools_when_tool_choice_none"
# Set by the miner itself.
_RESERVED_OPTIONS = ("model", "served_model_name")


class VllmEngine:
    """One model in one vLLM engine, under one or several names, with its LoRA adapters."""

    def __init__(
        self,
        names: tuple[str, ...],
        source: str,
        slots: int | None,
        options: Mapping[str, str],
        *,
        adapters: Sequence[Adapter] = (),
        is_offline: bool = False,
    ) -> None:
        self._adapters = VllmAdapters(adapters)
        self.models = (*names, *self._adapters.names)
        self._source = source
        self._slots = slots
        own = (TOOLS, _TEMPLATE, _PRIVATE_MEDIA, _HIDES_TOOLS)
        self.options = {key: value for key, value in options.items() if key not in own}
        self._own_options = {key: value for key, value in options.items() if key in own}
        self._media = Media(allows_private=_is_set(_PRIVATE_MEDIA, options))
        self._hides_tools = _is_set(_HIDES_TOOLS, options)
        # Whether nothing need ever be asked of Hugging Face.
        self._is_offline = is_offline
        # All of them known after `start`.
        self._llm: Any = None
        self._prompts: Any = None
        self._parsing: Any = None
        self._sampling: Any = None
        self._forms: Any = None
        self._tasks: Any = None
        self._gauge = _Gauge()

    @property
    def slots(self) -> int:
        """What --slots says, or what the KV cache holds."""
        if self._slots is not None:
            return self._slots
        config = self._llm.vllm_config
        if config.model_config.runner_type == "pooling":
            # It holds no answer while it grows.
            return min(_POOLING_JOBS, int(config.scheduler_config.max_num_seqs))
        usual = min(_USUAL_JOB_TOKENS, config.model_config.max_model_len)
        usual_jobs = int((config.cache_config.kv_cache_size_tokens or 0) // usual)
        longest_jobs = int(config.cache_config.kv_cache_max_concurrency or 0)
        most = int(config.scheduler_config.max_num_seqs)
        return max(1, min(most, max(usual_jobs, longest_jobs)))

    async def start(self) -> None:
        """Fetches the weights when needed and loads them."""
        path = await asyncio.to_thread(weights.locate, self._source)
        await asyncio.to_thread(self._adapters.locate)
        # In a thread: loading takes seconds to minutes, and signals must be heard meanwhile.
        self._llm = await asyncio.to_thread(self._load, path)
        await self._adapters.load(self._llm)
        parser = self._own_options.get(TOOLS)
        template = self._own_options.get(_TEMPLATE)
        self._prompts = Prompts(
            self._llm, template, parser, self._media, hides_tools=self._hides_tools
        )
        self._tasks = Tasks(self._llm, self._prompts, await self._pooling())
        self._parsing = Parsing(self._llm, parser, self.options.get(REASONING))
        self._sampling = Sampling(self._llm.model_config)
        self._forms = Forms(self._llm.vllm_config)

    async def _pooling(self) -> Pooling | None:
        """Returns what makes vectors and scores, if that is what the model was loaded for."""
        if self._llm.model_config.runner_type != "pooling":
            return None
        supported = await self._llm.get_supported_tasks()
        return Pooling(self._llm, supported, self._prompts, self._adapters)

    def _load(self, path: str) -> Any:
        _prepare_environment(is_offline=self._is_offline)
        try:
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise Misconfigured(
                f"--engine vllm: vLLM cannot be imported ({error}). Run the miner in an environment"
                " that has it (pip install 'aitbc-coordinator[vllm]'), or use --engine openai with"
                " a server that runs elsewhere"
            ) from error
        check_parsers({**self.options, **self._own_options})
        # vLLM's processes inherit the mask: Ctrl-C in a terminal reaches the whole process group,
        # and must not stop the engine under the jobs that the miner still finishes. The resource
        # tracker unblocks the signal when it starts, so it starts before.
        resource_tracker.ensure_running()
        former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            args = _engine_args(self._source, path, self.options, self._adapters)
            return AsyncLLM.from_engine_args(args, stat_loggers=[lambda *_: self._gauge])
        except Misconfigured:
            raise
        except Exception as error:
            raise Misconfigured(
                f"--model {self.models[0]}={self._source}: vLLM cannot load it: {error}"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)

    async def generate(self, job: Job) -> AsyncGenerator[Chunk, None]:
        """Streams the answer. Closing the iterator aborts the request in vLLM."""
        job = self._parsing.accepted(job)
        with _blaming() as begun, refusing(job):
            async for chunk in self._answer(job):
                begun.set()
                yield chunk

    async def _answer(self, job: Job) -> AsyncGenerator[Chunk, None]:
        is_chat = self._prompts.is_chat(job)
        await self._forms.check(job, arguments_of(job.form))
        request = request_of(job, is_chat=is_chat)
        prompt = await self._prompts.render(job, request)
        if job.cache_salt:
            prompt["cache_salt"] = job.cache_salt
        ids: list[int] = prompt["prompt_token_ids"]
        most, resumed_tokens = self._sampling.most_tokens(job, len(ids)), 0
        parser = self._parsing.reader(
            job, request, ids, self._prompts.variables(job, request), is_chat=is_chat
        )
        if parser is not None:
            # Together with the tools that it may call.
            held = parser.request.extract_structured_outputs()
            await self._forms.check(job, arguments_in(held))
        if job.resume is not None:
            prompt, resumed_tokens = self._resumed(prompt, job.resume)
            most -= job.resume.tokens
        if most <= 0 and not job.wants_details:
            yield Chunk(finish_reason="length", prompt_tokens=len(ids))
            return
        # What is asked of the prompt alone, vLLM tells with a first token.
        sampling = self._sampling.params(
            job, request if parser is None else parser.request, max(1, most)
        )
        outputs = self._llm.generate(
            prompt,
            sampling,
            job.request_id,
            lora_request=self._adapters.request(job.model),
            **(parser.engine_arguments if parser is not None else {}),
        )
        reader = AnswerReader(self._llm.get_tokenizer(), job, resumed_tokens=resumed_tokens)
        async with contextlib.aclosing(outputs):
            async for chunk in reader.read(outputs, parser):
                yield chunk if most > 0 else chunk.without_answer()

    def _resumed(self, prompt: Any, resume: Resume) -> tuple[Any, int]:
        """Returns the prompt with a text after it that was generated before, and its tokens."""
        said = self._llm.get_tokenizer().encode(resume.text, add_special_tokens=False)
        resumed = {**prompt, "prompt_token_ids": [*prompt["prompt_token_ids"], *said]}
        # Its text would no longer be that of its tokens.
        resumed.pop("prompt", None)
        return resumed, len(said)

    async def perform(self, job: Job) -> Made:
        """Asks vLLM what is no answer."""
        with _blaming(), refusing(job):
            made: Made = await self._tasks.perform(job)
        return made

    def describe(self, model: str) -> ModelInfo:
        """Says what vLLM does with the model."""
        config = self._llm.model_config
        return ModelInfo(tasks=self._tasks.names, max_model_len=config.max_model_len)

    def can_resume(self, job: Job) -> bool:
        """Can, with the text before what it generates, where no state beside the text is lost."""
        is_thought_about = self._parsing.has_reasoning and self._prompts.is_chat(job)
        if is_thought_about or not is_resumable(job):
            return False
        return "logprobs" not in job.params or job.resume is None or job.resume.is_exact

    def load(self) -> EngineLoad:
        """Says what vLLM's scheduler last said."""
        if self._llm.errored:
            raise EngineDead("vLLM's engine process died")
        return self._gauge.load

    async def close(self) -> None:
        """Stops vLLM's processes."""
        if self._forms is not None:
            await asyncio.to_thread(self._forms.close)
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown, _SHUTDOWN_S)
            # Its finaliser shuts down again, as late as the interpreter's own end, and fails then.
            self._llm.shutdown = lambda: None


@contextlib.contextmanager
def _blaming() -> Iterator[asyncio.Event]:
    """Turns what vLLM raises into an EngineError; an answer that has begun is no BadRequest."""
    from vllm.exceptions import GracefulHTTPError
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    has_begun = asyncio.Event()
    try:
        yield has_begun
    except GracefulHTTPError as error:
        raise EngineBusy(error.message) from error
    except EngineDeadError as error:
        raise EngineDead("vLLM's engine process died") from error
    except EngineGenerateError as error:
        cause = type(error.__cause__)
        if issubclass(cause, ValueError) and not has_begun.is_set():
            raise BadRequest("vLLM refuses what the job asks for") from error
        raise EngineFailed(f"vLLM failed: {cause.__name__}") from error


def _is_set(name: str, options: Mapping[str, str]) -> bool:
    told = options.get(name, "false")
    if told not in ("true", "false"):
        raise Misconfigured(f"--engine-opt {name}={told}: give true or false")
    return told == "true"


class _Gauge:
    """Keeps what vLLM's scheduler says of itself. Stands in for vLLM's StatLoggerBase."""

    def __init__(self) -> None:
        self.load = EngineLoad()

    def record(self, scheduler_stats: Any = None, *_: Any, **__: Any) -> None:
        if scheduler_stats is not None:
            self.load = EngineLoad(
                waiting_jobs=scheduler_stats.num_waiting_reqs,
                kv_cache_usage=scheduler_stats.kv_cache_usage,
            )

    def log_engine_initialized(self) -> None:
        pass

    def log(self) -> None:
        pass

    def record_sleep_state(self, *_: Any) -> None:
        pass


def _prepare_environment(*, is_offline: bool) -> None:
    """Sets what vLLM and its child processes read from the environment, unless the user did."""
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        # gRPC's threads do not survive a fork.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if is_offline:
        defaults["HF_HUB_OFFLINE"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _engine_args(source: str, path: str, options: Mapping[str, str], adapters: VllmAdapters) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)} - {*_RESERVED_OPTIONS}
    for key in options:
        if key not in known:
            raise Misconfigured(
                f"--engine-opt {key}: vLLM has no such engine argument; they are those of"
                " `vllm serve --help`, with underscores"
            )
    quiet = {"disable_log_stats": True, "use_tqdm_on_load": False}
    given = {key: _value(text) for key, text in options.items()}
    args = AsyncEngineArgs(model=path, **{**quiet, **given, **adapters.arguments(given)})
    if current_platform.is_cpu():
        _apply_cpu_defaults(args, options, is_embedded=source in weights.EMBEDDED_MODELS)
    return args


def _apply_cpu_defaults(args: Any, options: Mapping[str, str], *, is_embedded: bool) -> None:
    if is_embedded and "dtype" not in options:
        # vLLM's choice has 16 bits, which some processors compute with and others only keep: each
        # rounds its own way, and so small a model answers by the rounding.
        args.dtype = "float32"
    if "enforce_eager" not in options:
        args.enforce_eager = True
        # vLLM compiles some of its sampling all the same, for half a minute at the first job that
        # asks for log probabilities.
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    if "kv_cache_memory_bytes" not in options and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
        args.kv_cache_memory_bytes = _CPU_KV_CACHE_BYTES
    if "max_model_len" not in options:
        args.max_model_len = min(_CPU_MAX_CONTEXT, args.create_model_config().max_model_len)


def _value(text: str) -> Any:
    """Reads numbers, booleans and objects as JSON; the rest is text."""
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text
