"""Where the outputs of tasks enter: holds what any engine made to what may be told.

As engines/border.py does for answers.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

from aitbc_miner.engines.base import Job
from aitbc_miner.engines.border import MOST_TOKENS, encodable
from aitbc_miner.engines.tasks import Made, Output, Task
from aitbc_miner.errors import EngineAnswerInvalid, ResultTooLarge

# Bytes that a number of a vector, a token, and what is around an output take in a message.
_NUMBER_BYTES, _TOKEN_BYTES, _OVERHEAD = 4, 5, 16
# Tokens that an output may have, and texts of them: the coordinator ends the stream of who tells
# more.
_MOST_TOKENS, _MOST_TEXTS = 1_048_576, 262_144


def checked(job: Job, made: Made, most_bytes: int) -> Made:
    """Returns what an engine made as it may be told. Raises EngineAnswerInvalid, ResultTooLarge."""
    if not isinstance(made, Made):
        raise EngineAnswerInvalid("the engine made something that is no outputs")
    # A conversation is one input.
    if len(made.outputs) != (len(job.inputs) or 1):
        raise EngineAnswerInvalid("the engine made outputs of more inputs than there are, or fewer")
    outputs = [_CHECKS[job.task](output) for output in made.outputs]
    if not job.params.get("return_token_ids", False):
        outputs = [replace(output, tokens=()) for output in outputs]
    for output in outputs:
        if len(output.token_ids) > _MOST_TOKENS or len(output.tokens) > _MOST_TEXTS:
            raise ResultTooLarge("an input has too many tokens to be told: give a shorter one")
    if sum(map(_size_of, outputs)) > most_bytes:
        raise ResultTooLarge(f"the outputs are larger than {most_bytes} bytes: give fewer inputs")
    if not 0 <= made.prompt_tokens <= MOST_TOKENS:
        raise EngineAnswerInvalid("the engine counted what is no number of tokens")
    return replace(made, outputs=outputs)


def _embedded(output: Output) -> Output:
    try:
        vector = array("f", output.vector)
    except (TypeError, ValueError) as error:
        raise EngineAnswerInvalid("the engine made a vector of what are no numbers") from error
    # What is too large for a number of 32 bits is infinite now.
    if not vector or not math.isfinite(sum(vector)):
        raise EngineAnswerInvalid("the engine made a vector that is empty or not finite")
    return Output(vector=vector)


def _scored(output: Output) -> Output:
    score = output.score
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise EngineAnswerInvalid("the engine made a score that is no number")
    return Output(score=float(score))


def _tokenized(output: Output) -> Output:
    try:
        token_ids = array("i", output.token_ids)
    except (TypeError, OverflowError) as error:
        raise EngineAnswerInvalid("the engine made tokens that are no numbers") from error
    if token_ids and min(token_ids) < 0:
        raise EngineAnswerInvalid("the engine made a token below 0")
    if output.tokens and len(output.tokens) != len(token_ids):
        raise EngineAnswerInvalid("the engine told more tokens than texts of them, or fewer")
    return Output(token_ids=token_ids, tokens=[_text(token) for token in output.tokens])


def _detokenized(output: Output) -> Output:
    return Output(text=_text(output.text))


# What an output of each task has: nothing else of it is told.
_CHECKS = {
    Task.EMBED: _embedded,
    Task.SCORE: _scored,
    Task.TOKENIZE: _tokenized,
    Task.DETOKENIZE: _detokenized,
}


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise EngineAnswerInvalid("the engine made something that is no text")
    return encodable(text)


def _size_of(output: Output) -> int:
    texts = sum(len(token.encode()) + _OVERHEAD for token in output.tokens)
    numbers = len(output.vector) * _NUMBER_BYTES + len(output.token_ids) * _TOKEN_BYTES
    return _OVERHEAD + numbers + texts + len(output.text.encode())
