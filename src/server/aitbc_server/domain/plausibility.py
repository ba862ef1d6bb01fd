"""What can be true of an answer: miners are paid by what they report, so it has bounds.

The bounds are wide. They are not to catch a miner that counts a little too much, but to keep what
nobody could have done out of receipts, budgets and usage.
"""

from __future__ import annotations

from typing import NamedTuple

from aitbc_server.domain.asks import PLAIN, Asks

# Tokens that a chat template, its system prompt and the tools' instructions may add to a prompt.
TEMPLATE_TOKENS = 16_384
# Tokens that one image, video or audio may be.
MEDIA_TOKENS = 65_536
# Most tokens of an answer whose job named no bound: as `params.max_tokens` may.
MOST_TOKENS = 1_000_000
# Bytes of text that a token may stand for, and that an answer may have beside.
_TOKEN_BYTES = 512
_BYTES_BESIDE = 65_536

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "repetition"})


class Told(NamedTuple):
    """What an answer has beside its text, as far as its job bounds it."""

    # Of its outputs: how many there are, and which one is wrong and how.
    outputs: int = 0
    wrong_output: tuple[int, str] | None = None
    token_ids: int = 0
    logprobs: int = 0
    cached_tokens: int | None = None
    # Of its log probabilities, the prompt's among them.
    logprob_bytes: int = 0


NOTHING_BESIDE = Told()


def usage_problem(
    prompt_tokens: int | None,
    completion_tokens: int | None,
    *,
    job_bytes: int,
    max_tokens: int | None,
    media: int = 0,
    cached_tokens: int | None = None,
) -> tuple[str, str] | None:
    """Returns which count cannot be true and why, as (field, problem); None when all can.

    `job_bytes`: size of what was submitted, prompt and tools among it; `media`: images and the
    like.
    """
    if prompt_tokens is not None:
        most = job_bytes + TEMPLATE_TOKENS + media * MEDIA_TOKENS
        if not 0 <= prompt_tokens <= most:
            return "prompt_tokens", f"must be between 0 and {most}, for a job of {job_bytes} bytes"
    if completion_tokens is not None:
        most = MOST_TOKENS if max_tokens is None else max_tokens
        if not 0 <= completion_tokens <= most:
            return "completion_tokens", f"must be between 0 and {most}, as the job asks"
    if cached_tokens is not None and not 0 <= cached_tokens <= (prompt_tokens or 0):
        return "cached_tokens", "must be between 0 and prompt_tokens, of which they are a part"
    return None


def answer_problem(
    asks: Asks,
    told: Told,
    *,
    completion_tokens: int | None,
    max_tokens: int | None,
) -> tuple[str, str] | None:
    """Returns what an answer cannot have and why, as (field, problem); None when it can."""
    if told.outputs != asks.outputs:
        return "outputs", f"must be {asks.outputs}: one for each input"
    if told.wrong_output is not None:
        place, problem = told.wrong_output
        return f"outputs[{place}]", problem
    most = MOST_TOKENS if max_tokens is None else max_tokens
    counted = most if completion_tokens is None else completion_tokens
    if told.token_ids > counted:
        return "token_ids", f"must be at most {counted}, as many as it counts"
    if told.logprobs > most:
        return "logprobs", f"must be at most {most}, as many as its tokens may be"
    return None


def bytes_in(text: str) -> int:
    """Returns how many bytes a text has."""
    return len(text) if text.isascii() else len(text.encode())


def most_answer_bytes(max_tokens: int | None, most_bytes: int, asks: Asks = PLAIN) -> int:
    """Returns how many bytes of text an answer may have, of at most so many in all."""
    if max_tokens is None or asks.outputs or asks.prompt_details:
        return most_bytes
    # With probabilities, each place has the token once more, and the likeliest ones.
    tokens_each = 1 if asks.logprobs is None else asks.logprobs + 2
    return min(most_bytes, max_tokens * tokens_each * _TOKEN_BYTES + _BYTES_BESIDE)
