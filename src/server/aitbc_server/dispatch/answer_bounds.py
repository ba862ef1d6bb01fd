"""Holds what a miner answers against what its job can have: counts that can be true, and a size."""

from __future__ import annotations

from aitbc_server.dispatch.live import Lease
from aitbc_server.dispatch.refusals import Refusal
from aitbc_server.domain.asks import PLAIN
from aitbc_server.domain.jobs import Completion
from aitbc_server.domain.plausibility import (
    NOTHING_BESIDE,
    Told,
    answer_problem,
    bytes_in,
    most_answer_bytes,
    usage_problem,
)

ANSWER_REFUSED = "ANSWER_REFUSED"
RESULT_TOO_LARGE = "RESULT_TOO_LARGE"


class AnswerBounds:
    """The bounds of answers that come over streams."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: what an answer may have whatever its job asks for."""
        self._most_bytes = most_bytes

    def refusal_of_size(self, lease: Lease, size: int) -> Refusal | None:
        """Returns why an answer of so many bytes is not taken, if it is not."""
        job = lease.job
        most = most_answer_bytes(job.max_tokens, self._most_bytes, job.asks)
        if size <= most:
            return None
        return Refusal(RESULT_TOO_LARGE, f"answered with more than {most} bytes, too many for it")

    def refusal_of(self, lease: Lease, completion: Completion, told: Told) -> Refusal | None:
        """Returns why a result is not taken, if it is not."""
        job = lease.job
        problem = usage_problem(
            completion.prompt_tokens,
            completion.completion_tokens,
            job_bytes=lease.spec_bytes,
            max_tokens=job.max_tokens,
            media=job.asks.media,
            cached_tokens=told.cached_tokens,
        )
        if problem is not None:
            return Refusal(ANSWER_REFUSED, f"reported usage.{problem[0]}, which {problem[1]}")
        # Most are a text that nothing else was asked of.
        if told is not NOTHING_BESIDE or job.asks is not PLAIN:
            problem = answer_problem(
                job.asks,
                told,
                completion_tokens=completion.completion_tokens,
                max_tokens=job.max_tokens,
            )
            if problem is not None:
                return Refusal(ANSWER_REFUSED, f"answered with {problem[0]}, which {problem[1]}")
        # Of log probabilities, JSON is several times the bytes: they count twice.
        beside = len(completion.details) + told.logprob_bytes
        return self.refusal_of_size(lease, bytes_in(completion.result) + beside)
