"""How calls are repeated."""

from __future__ import annotations

from typing import Any

import tenacity

from aitbc_client.errors import AitbcError, LimitExceeded, Unavailable

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0


def retries(timeout_s: float) -> dict[str, Any]:
    """Returns the arguments of a tenacity retrier for a call that may take so long in all.

    Repeated is what may succeed next time: the coordinator is away, drains, or says when to come
    back. Every operation may be repeated, because those that make something are named.
    """
    return {
        "retry": tenacity.retry_if_exception(may_succeed_later),
        "wait": _wait_s,
        "stop": tenacity.stop_before_delay(timeout_s),
        "reraise": True,
    }


def may_succeed_later(error: BaseException) -> bool:
    """Says whether the same call may succeed when it is made again."""
    if isinstance(error, LimitExceeded):
        return error.retry_after_s is not None
    return isinstance(error, Unavailable)


_backoff = tenacity.wait_exponential_jitter(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)


def _wait_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, AitbcError) else None
    return max(_backoff(state), asked_s or 0.0)
