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
    """What belongs to one piece of an answer, or to all of it."""

    calls: tuple[CallPart, ...] = ()
    # How likely each token was: a serialised aitbc.v1.TokenLogprob, opaque here.
    logprobs: tuple[bytes, ...] = ()
    # What the model thought before it answered, as UTF-8.
    reasoning: bytes = b""
    # Ids of its tokens.
    token_ids: tuple[int, ...] = ()


NO_PARTS = Parts()
