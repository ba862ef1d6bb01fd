"""How an answer is generated: what the client asked for, else the model's, else vLLM's defaults."""

from __future__ import annotations

from typing import Any

from aitbc_miner.engines.base import Job
from aitbc_miner.engines.vllm_refusals import refusing
from aitbc_miner.errors import CONTEXT_LENGTH_EXCEEDED, BadRequest


class Sampling:
    """The defaults of one model."""

    def __init__(self, model_config: Any) -> None:
        self.max_model_len: int = model_config.max_model_len
        self._defaults: dict[str, Any] = model_config.get_diff_sampling_param()
        # As vLLM's server does: what its operator says holds for every job, and what the model says
        # for those that say nothing.
        is_of_operator = model_config.generation_config not in ("auto", "vllm")
        overridden = model_config.override_generation_config.get("max_new_tokens")
        self._most = self._defaults.get("max_tokens") if is_of_operator else overridden

    def most_tokens(self, job: Job, prompt_tokens: int) -> int:
        """Returns how many tokens the answer may have: at most the rest of the context.

        Raises BadRequest when none is left.
        """
        from vllm.entrypoints.serve.utils.api_utils import get_max_tokens

        if prompt_tokens >= self.max_model_len:
            raise BadRequest(
                f"This model's maximum context length is {self.max_model_len} tokens. However, your"
                f" prompt contains {prompt_tokens} input tokens, which leaves none for the answer."
                " Please reduce the length of the input prompt.",
                reason=CONTEXT_LENGTH_EXCEEDED,
            )
        most: int = get_max_tokens(
            self.max_model_len,
            job.params.get("max_tokens"),
            prompt_tokens,
            self._defaults,
            self._most,
        )
        return most

    def params(self, job: Job, request: Any, max_tokens: int) -> Any:
        """Returns vLLM's SamplingParams. Raises BadRequest.

        `request`: the job as vLLM's server is asked; `max_tokens`: that are still to be generated.
        """
        from vllm.sampling_params import RequestOutputKind

        if job.resume is not None:
            request.min_tokens = max(0, request.min_tokens - job.resume.tokens)
        with refusing(job):
            params = request.to_sampling_params(max_tokens, self._defaults)
        params.output_kind = RequestOutputKind.DELTA
        return params
