"""What answers tell beside their texts: why they ended, and the tokens of their prompts."""

from __future__ import annotations

from itertools import chain
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_server import __version__
from aitbc_server.json_lists import json_list

# What clients compare to know whether the same seed may give another answer.
FINGERPRINT = f"aitbc-{__version__}"


def finish_reason_of(job: jobs_pb2.Job, *, names_tool: bool) -> str:
    """Returns why an answer ended. `names_tool`: whether its request names the tool to call.

    Such an answer stops as one without a tool does: its call is no choice of the model.
    """
    reason = job.finish_reason or "stop"
    return "stop" if names_tool and reason == "tool_calls" else reason


def stop_reason_of(job: jobs_pb2.Job) -> str | int | None:
    """Returns the string or the token that ended an answer; None when something else did.

    Of one that repeated itself, what vLLM says of it.
    """
    if job.finish_reason == "repetition":
        return "repetition_detected"
    if job.HasField("stop_token_id"):
        return job.stop_token_id
    return job.stop_string or None


def token_of(one: jobs_pb2.TokenLogprob, *, as_ids: bool) -> str:
    """Returns the name of a token: its text, or its id where that is wanted and known."""
    return f"token_id:{one.token_id}" if as_ids and one.HasField("token_id") else one.token


def prompt_logprobs_of(details: jobs_pb2.PromptDetails) -> Any:
    """Returns how likely each token of a prompt was, by its id, with the likeliest ones."""
    following = (
        {_id_of(each): _likelihood(each) for each in (one, *one.top)}
        for one in details.logprobs[1:]
    )
    # The first one follows nothing.
    return json_list(chain([None], following)) if details.logprobs else []


def _id_of(one: jobs_pb2.TokenLogprob) -> str:
    return str(one.token_id) if one.HasField("token_id") else one.token


def _likelihood(one: jobs_pb2.TokenLogprob) -> dict[str, Any]:
    return {"logprob": one.logprob, "rank": one.rank or None, "decoded_token": one.token}
