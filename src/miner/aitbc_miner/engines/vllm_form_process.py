"""Compiles forms as vLLM's engine does, in a process that may be ended: some never get done.

This is the process. engines/vllm_forms.py starts it, and says what becomes of the job.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
from concurrent.futures import Future
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

# Beyond what it takes to begin with.
_MOST_BYTES = 2 * 2**30
# Tokens of an answer for which it is asked what may follow.
_STEPS = 4
# The library that vLLM compiles with unless it cannot.
_USUAL = "xgrammar"
_NAME = "form"


def run(pipe: Connection, vllm_config: Any) -> None:
    """Says that it is ready, and then of each form why it is refused, or None."""
    # Ctrl-C in a terminal is for the miner.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    trial = _Trial(vllm_config)
    _limit_memory()
    pipe.send(None)
    while True:
        try:
            form = pipe.recv()
        except EOFError:
            return
        pipe.send(trial.refusal(form))


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MOST_BYTES, size + _MOST_BYTES))


class _Trial:
    """Does with forms what the engine does."""

    def __init__(self, vllm_config: Any) -> None:
        from vllm.v1.structured_output import StructuredOutputManager

        self._config = vllm_config
        # By the library that compiles. The engine keeps to that of its first form, whatever the
        # others are.
        self._managers = {_USUAL: StructuredOutputManager(vllm_config)}

    def refusal(self, form: dict[str, Any]) -> str | None:
        """Returns why a form is refused; None when it is not."""
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import SamplingParams, StructuredOutputsParams

        try:
            params = SamplingParams(structured_outputs=StructuredOutputsParams(**form))
            how, tokenizer = (
                self._config.structured_outputs_config,
                self._managers[_USUAL].tokenizer,
            )
            params.verify(self._config.model_config, None, how, tokenizer)
            own = params.structured_outputs._backend
            self._compile(own, params)
        except VLLMClientError as error:
            return str(error.args[0])
        except Exception as error:
            return f"it cannot be compiled: {error}"[:1024]
        if own != _USUAL:
            with contextlib.suppress(Exception):
                self._compile(_USUAL, params)
        return None

    def _compile(self, library: str, params: Any) -> None:
        from vllm.v1.structured_output import StructuredOutputManager
        from vllm.v1.structured_output.request import StructuredOutputRequest

        if library not in self._managers:
            self._managers[library] = StructuredOutputManager(self._config)
        manager = self._managers[library]
        params.structured_outputs._backend = library
        asked: Any = StructuredOutputRequest.from_sampling_params(params)
        manager.grammar_init(
            SimpleNamespace(
                structured_output_request=asked, sampling_params=params, request_id=_NAME
            )
        )
        begun = asked._grammar
        grammar = begun.result() if isinstance(begun, Future) else begun
        mask = manager.backend.allocate_token_bitmask(1)
        for _ in range(_STEPS):
            if grammar.is_terminated():
                break
            grammar.fill_bitmask(mask, 0)
            allowed = _first(mask[0].tolist())
            if allowed is None or not grammar.accept_tokens(_NAME, [allowed]):
                break


def _first(mask: list[int]) -> int | None:
    """Returns the first token that a mask of 32 tokens a number allows."""
    for place, word in enumerate(mask):
        if word:
            return 32 * place + (word & -word).bit_length() - 1
    return None
