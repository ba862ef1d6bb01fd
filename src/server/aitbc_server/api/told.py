"""What an answer has beside its text, held against what its job asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aitbc.v1 import jobs_pb2, work_pb2
from aitbc_server.domain.asks import MOST_CALLS, PLAIN, Asks
from aitbc_server.domain.plausibility import Told
from aitbc_server.domain.tasks import Task

# Fields that an output of each task has.
_FIELDS = {
    Task.EMBED: {"vector"},
    Task.SCORE: {"score"},
    Task.TOKENIZE: {"token_ids", "tokens"},
    Task.DETOKENIZE: {"text"},
}

# Of a vector whose job does not say how many: more than any model makes.
_MOST_NUMBERS = 16_384


def asks_of(request: jobs_pb2.SubmitJobRequest, task: Task, media: int) -> Asks:
    """Returns what a job with so many images and the like asks that bounds its answer."""
    params = request.params
    asks = Asks(
        # A conversation has one.
        outputs=0 if task is Task.GENERATE else len(request.inputs) or 1,
        dimensions=request.dimensions,
        media=media,
        token_ids=params.return_token_ids,
        logprobs=params.logprobs if params.HasField("logprobs") else None,
        prompt_logprobs=params.prompt_logprobs if params.HasField("prompt_logprobs") else None,
        calls=_calls_of(request),
        stop_strings=bool(params.stop),
    )
    # Most are the same one, by which they are known.
    return PLAIN if asks == PLAIN else asks


def _calls_of(request: jobs_pb2.SubmitJobRequest) -> int:
    if not request.tools or request.tool_choice == "none":
        return 0
    is_single = request.HasField("parallel_tool_calls") and not request.parallel_tool_calls
    return 1 if is_single else MOST_CALLS


def told_by(completion: work_pb2.Completion, task: Task, asks: Asks) -> Told:
    """Returns what an answer to a job that asks this has beside its text."""
    usage, outputs = completion.usage, completion.outputs
    told = Told(
        outputs=len(outputs),
        token_ids=len(completion.token_ids),
        logprobs=len(completion.logprobs),
        cached_tokens=usage.cached_tokens if usage.HasField("cached_tokens") else None,
    )
    if told.outputs and told.outputs == asks.outputs:
        told = told._replace(wrong_output=_wrong_one(outputs, task, asks))
    return told


def _wrong_one(
    outputs: Sequence[jobs_pb2.TaskOutput], task: Task, asks: Asks
) -> tuple[int, str] | None:
    """Returns the first output that its task cannot make, and why."""
    length = asks.dimensions
    for place, output in enumerate(outputs):
        if not length and len(output.vector) > _MOST_NUMBERS:
            return place, f"must have a vector of at most {_MOST_NUMBERS} numbers"
        problem = _problem_of(output, task, length, has_texts=asks.token_ids)
        if problem is not None:
            return place, problem
        length = length or len(output.vector)
    return None


def _problem_of(
    output: jobs_pb2.TaskOutput, task: Task, length: int, *, has_texts: bool
) -> str | None:
    other = next((f.name for f, _ in output.ListFields() if f.name not in _FIELDS[task]), None)
    if other is not None:
        return f"must not have {other}, which the task {task} does not make"
    if task is Task.EMBED:
        if not output.vector or len(output.vector) != (length or len(output.vector)):
            return f"must have a vector of {length or 'some'} numbers"
        # What is not finite stays so in a sum, and finite singles never become it.
        if not math.isfinite(sum(output.vector)):
            return "must have finite numbers"
    if task is Task.SCORE and not (output.HasField("score") and math.isfinite(output.score)):
        return "must have a finite score"
    if output.token_ids and min(output.token_ids) < 0:
        return "must have tokens of at least 0"
    # Not every engine knows the texts of tokens.
    if output.tokens and not (has_texts and len(output.tokens) == len(output.token_ids)):
        return "must have a text for each token where they were asked for, and else none"
    return None
