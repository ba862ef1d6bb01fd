"""What an answer has beside its text, in the parts in which it is told."""

from __future__ import annotations

from typing import NamedTuple


class CallPart(NamedTuple):
    """A part of a call of a tool."""

    # Which call of the answer, from 0.
    number: int
    # Name of the call, and its function: in its first part.
    call_id: str
    name: str
    # More of its arguments.
    arguments: str


class Parts(NamedTuple):
    """Calls and probabilities that belong to one piece of an answer, or to all of it."""

    calls: tuple[CallPart, ...] = ()
    # How likely each token was: a serialised aitbc.v1.TokenLogprob, opaque here.
    logprobs: tuple[bytes, ...] = ()


NO_PARTS = Parts()
