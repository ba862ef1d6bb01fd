"""Decides what an attempt makes of a delivery."""

from __future__ import annotations

from dataclasses import replace

from aitbc_server.domain.webhooks import (
    LOGGED_ATTEMPTS,
    Attempt,
    Delivery,
    DeliveryStatus,
    Outcome,
)
from aitbc_server.webhooks.answer import Answer
from aitbc_server.webhooks.schedule import Schedule

_GONE = 410
# The receiver, or a proxy before it, has too much to do.
_OVERLOADED = frozenset({429, 502, 503, 504})


def outcome_of(delivery: Delivery, answer: Answer, began_us: int, schedule: Schedule) -> Outcome:
    """Returns what is stored of an attempt: delivered, to be tried again, or given up."""
    tries = delivery.tries + 1
    delay_s = None
    if answer.error and answer.status_code != _GONE and answer.is_repeatable:
        delay_s = schedule.next_delay_s(tries, answer.retry_after_s)
    outcome = once(delivery, answer, began_us)
    if delay_s is None:
        return outcome
    ended_us = began_us + answer.duration_ms * 1000
    return replace(outcome, status=DeliveryStatus.PENDING, next_us=ended_us + int(delay_s * 1e6))


def once(delivery: Delivery, answer: Answer, began_us: int) -> Outcome:
    """Returns what is stored of an attempt that is the last: delivered or given up."""
    attempt = Attempt(
        at_us=began_us,
        duration_ms=answer.duration_ms,
        status_code=answer.status_code,
        error=answer.error,
    )
    return Outcome(
        number=delivery.number,
        webhook_id=delivery.webhook_id,
        status=DeliveryStatus.FAILED if answer.error else DeliveryStatus.DELIVERED,
        tries=delivery.tries + 1,
        next_us=None,
        attempts=(*delivery.attempts, attempt)[-LOGGED_ATTEMPTS:],
        disables="its receiver answered 410 Gone" if answer.status_code == _GONE else None,
    )


def pause_s(answer: Answer) -> float:
    """Returns for how long the receiver wants to be sent nothing at all."""
    return answer.retry_after_s or 0.0 if answer.status_code in _OVERLOADED else 0.0
