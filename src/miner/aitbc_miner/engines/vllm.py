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
from collections.abc import AsyncGenerator, Mapping, Sequence
from multiprocessing import resource_tracker
from typing import Any, cast

from aitbc_miner import weights
from aitbc_miner.adapters import Adapter
from aitbc_miner.engines.base import Chunk, EngineLoad, Job, Params, Resume
from aitbc_miner.engines.tools import is_calling
from aitbc_miner.engines.vllm_adapters import VllmAdapters
from aitbc_miner.engines.vllm_answers import AnswerReader
from aitbc_miner.engines.vllm_prompts import Prompts
from aitbc_miner.engines.vllm_tools import CallReader, ToolParsing, check_parser
from aitbc_miner.errors import (
    BadRequest,
    EngineBusy,
    EngineDead,
    EngineFailed,
    Misconfigured,
)

# Used where neither the client nor the model's generation_config.json says.
DEFAULT_MAX_TOKENS = 256
# Prompt and answer of a usual job. The KV cache takes this many jobs at once; when longer ones
# come, vLLM preempts rather than fails.
_USUAL_JOB_TOKENS = 1024
# Without a GPU: enough for a small model, and no more than a small machine has.
_CPU_MAX_CONTEXT = 4096
_CPU_KV_CACHE_BYTES = 512 * 2**20
# vLLM's own 5 s is about what a small CPU engine takes, and then kills it.
_SHUTDOWN_S = 20.0
# The miner's own options.
_PARSER, _TEMPLATE = "tool_parser", "chat_template"
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
        own = (_PARSER, _TEMPLATE)
        self.options = {key: value for key, value in options.items() if key not in own}
        self._own_options = {key: value for key, value in options.items() if key in own}
        # Whether nothing need ever be asked of Hugging Face.
        self._is_offline = is_offline
        # All of them known after `start`.
        self._llm: Any = None
        self._prompts: Any = None
        self._parsing: Any = None
        self._defaults: Params = {}
        self._gauge = _Gauge()

    @property
    def slots(self) -> int:
        """What --slots says, or what the KV cache holds."""
        if self._slots is not None:
            return self._slots
        config = self._llm.vllm_config
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
        parser = self._own_options.get(_PARSER)
        self._prompts = Prompts(self._llm, self._own_options.get(_TEMPLATE), parser)
        self._parsing = ToolParsing(self._llm, parser)
        of_model = cast("Params", self._llm.model_config.get_diff_sampling_param())
        self._defaults = {"max_tokens": DEFAULT_MAX_TOKENS, **of_model}

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
        if _PARSER in self._own_options:
            check_parser(self._own_options[_PARSER])
        # vLLM's processes inherit the mask: Ctrl-C in a terminal reaches the whole process group,
        # and must not stop the engine under the jobs that the miner still finishes. The resource
        # tracker unblocks the signal when it starts, so it starts before.
        resource_tracker.ensure_running()
        former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            args = _engine_args(path, self.options, self._adapters)
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
        from vllm.exceptions import GracefulHTTPError, VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        has_begun = False
        self._parsing.check(job)
        reader = AnswerReader(self._llm.get_tokenizer())
        try:
            prompt = await self._prompts.render(job)
            calls = self._parsing.reader(job, prompt["prompt_token_ids"])
            sampling, resumed_tokens = self._sampling(job, calls), 0
            if job.resume is not None:
                prompt, resumed_tokens = self._resumed(prompt, job.resume)
                sampling.max_tokens -= job.resume.tokens
                if sampling.max_tokens <= 0:
                    yield Chunk(
                        finish_reason="length",
                        prompt_tokens=len(prompt["prompt_token_ids"]) - resumed_tokens,
                    )
                    return
            adapter = self._adapters.request(job.model)
            outputs = self._llm.generate(prompt, sampling, job.request_id, lora_request=adapter)
            async with contextlib.aclosing(outputs):
                async for chunk in reader.read(job, outputs, calls, resumed_tokens=resumed_tokens):
                    has_begun = True
                    yield chunk
        except VLLMClientError as error:
            raise BadRequest(_refusal(job, error)) from error
        except GracefulHTTPError as error:
            raise EngineBusy(error.message) from error
        except EngineDeadError as error:
            raise EngineDead("vLLM's engine process died") from error
        except EngineGenerateError as error:
            cause = type(error.__cause__)
            if issubclass(cause, ValueError) and not has_begun:
                raise BadRequest("vLLM refuses what the job asks for") from error
            raise EngineFailed(f"vLLM failed: {cause.__name__}") from error

    def _resumed(self, prompt: Any, resume: Resume) -> tuple[Any, int]:
        """Returns the prompt with a text after it that was generated before, and its tokens."""
        said = self._llm.get_tokenizer().encode(resume.text, add_special_tokens=False)
        resumed = {**prompt, "prompt_token_ids": [*prompt["prompt_token_ids"], *said]}
        # Its text would no longer be that of its tokens.
        resumed.pop("prompt", None)
        return resumed, len(said)

    def can_resume(self, job: Job) -> bool:
        """Can, with the text before what it generates, where no state beside the text is lost."""
        is_free = job.json_schema is None and not is_calling(job)
        resume = job.resume
        return is_free and ("logprobs" not in job.params or (resume is None or resume.is_exact))

    def _sampling(self, job: Job, calls: CallReader | None) -> Any:
        from vllm.sampling_params import (
            RequestOutputKind,
            SamplingParams,
            StructuredOutputsParams,
        )

        params: dict[str, Any] = {**self._defaults, **job.params}
        if calls is not None:
            params |= calls.sampling
        elif job.json_schema is not None:
            schema = job.json_schema
            form: dict[str, Any] = {"json": schema} if schema else {"json_object": True}
            params["structured_outputs"] = StructuredOutputsParams(**form)
        return SamplingParams(**params, output_kind=RequestOutputKind.DELTA)

    def load(self) -> EngineLoad:
        """Says what vLLM's scheduler last said."""
        if self._llm.errored:
            raise EngineDead("vLLM's engine process died")
        return self._gauge.load

    async def close(self) -> None:
        """Stops vLLM's processes."""
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown, _SHUTDOWN_S)
            # Its finaliser shuts down again, as late as the interpreter's own end, and fails then.
            self._llm.shutdown = lambda: None


def _refusal(job: Job, error: Exception) -> str:
    # Its text with str() would show the refused value, which may be the prompt's.
    message = str(error.args[0])
    if "grammar" not in message:
        return message
    field = "tools" if is_calling(job) else "response_format"
    return f"{field}: vLLM cannot hold an answer to this JSON Schema ({message})"


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


def _engine_args(path: str, options: Mapping[str, str], adapters: VllmAdapters) -> Any:
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
        _apply_cpu_defaults(args, options)
    return args


def _apply_cpu_defaults(args: Any, options: Mapping[str, str]) -> None:
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
