"""Parts of an answer that its job did not ask for, or that no engine makes.

A miner that sends some loses the lease: engines/border.py of the miner lets none of them through,
so none is sent in good faith. What a model makes up itself, such as the name of a tool that there
is not, is its answer, and stays within the form that names and ids have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import isfinite

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.domain.asks import Asks

# As those of tools that jobs may name, and printable.
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,256}")
_ID = re.compile(r"[!-~]{1,256}")
_UNASKED_TEXT = "text was not asked for: its task generates none"
_UNASKED_CALLS = "tool_calls were not asked for"


def unasked_in(update: work_pb2.Update, asks: Asks) -> str | None:
    """Returns what is wrong with the parts of an update of a job that asks this, if some is."""
    kind = update.WhichOneof("event")
    if kind == "delta":
        return _in_delta(update.delta, asks)
    if kind == "completion":
        return _in_completion(update.completion, asks)
    return None


def _in_delta(said: work_pb2.Delta, asks: Asks) -> str | None:
    if asks.outputs and (said.text or said.reasoning):
        return _UNASKED_TEXT
    if said.tool_calls and (problem := _in_parts(said.tool_calls, asks.calls)):
        return problem
    if said.token_ids:
        if not asks.token_ids:
            return "token_ids were not asked for"
        if len(said.token_ids) > said.tokens:
            return f"token_ids are more than its {said.tokens} tokens"
    return _in_tokens(said.logprobs, asks) if said.logprobs else None


def _in_completion(said: work_pb2.Completion, asks: Asks) -> str | None:
    if said.outputs and not asks.outputs:
        return "outputs were not asked for"
    if asks.outputs and (said.result or said.reasoning):
        return _UNASKED_TEXT
    if said.token_ids and not asks.token_ids:
        return "token_ids were not asked for"
    if said.stop_string and not asks.stop_strings:
        return "stop_string was not asked for"
    if said.tool_calls and (problem := _in_calls(said.tool_calls, asks.calls)):
        return problem
    if said.logprobs and (problem := _in_tokens(said.logprobs, asks)):
        return problem
    return _in_details(said.prompt_details, asks) if said.HasField("prompt_details") else None


def _in_details(details: jobs_pb2.PromptDetails, asks: Asks) -> str | None:
    if not asks.prompt_details:
        return "prompt_details were not asked for"
    if details.token_ids and min(details.token_ids) < 0:
        return "prompt_details.token_ids have a token below 0"
    if not details.logprobs:
        return None
    problem = _in_logprobs(details.logprobs, asks.prompt_logprobs, has_ids=True)
    return problem and f"prompt_details.logprobs {problem}"


def _in_tokens(logprobs: Sequence[jobs_pb2.TokenLogprob], asks: Asks) -> str | None:
    problem = _in_logprobs(logprobs, asks.logprobs, has_ids=asks.token_ids)
    return problem and f"logprobs {problem}"


def _in_logprobs(
    logprobs: Iterable[jobs_pb2.TokenLogprob], most: int | None, *, has_ids: bool
) -> str | None:
    """Returns what is wrong with probabilities. `most`: likeliest tokens at each place."""
    if most is None:
        return "were not asked for"
    # Some engines always tell the likeliest.
    most = max(most, 1)
    for one in logprobs:
        top = one.top
        if len(top) > most:
            return f"have {len(top)} of the likeliest tokens at a place, and {most} were asked for"
        # What is not finite stays so in a sum.
        if not isfinite(one.logprob + sum([other.logprob for other in top])):
            return "have one that is not finite"
        for told in (one, *top):
            if told.HasField("token_id") and (not has_ids or told.token_id < 0):
                return "have ids of tokens that were not asked for, or below 0"
            if told.rank < 0:
                return "have a rank below 0"
        if any(other.top for other in top):
            return "have probabilities within those of the likeliest tokens"
    return None


def _in_calls(calls: Sequence[jobs_pb2.ToolCall], most: int) -> str | None:
    if len(calls) > most:
        return _too_many(most)
    return _in_names((call.id, call.name) for call in calls)


def _in_parts(parts: Sequence[jobs_pb2.ToolCallPart], most: int) -> str | None:
    if max(part.index for part in parts) >= most:
        return _too_many(most)
    # Those after the first of a call have neither, or both again.
    return _in_names((part.id, part.name) for part in parts if part.id or part.name)


def _too_many(most: int) -> str:
    return f"tool_calls are more than {most}, as the job asks" if most else _UNASKED_CALLS


def _in_names(named: Iterable[tuple[str, str]]) -> str | None:
    for call_id, name in named:
        if not _ID.fullmatch(call_id):
            return "tool_calls have an id that is not 1 to 256 printable characters of ASCII"
        if not _NAME.fullmatch(name):
            return "tool_calls have a name that no tool may have"
    return None
