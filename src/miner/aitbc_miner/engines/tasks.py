"""What an engine may be asked beside generating: of inputs one by one, without a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Task(Enum):
    """What a job asks of its model."""

    GENERATE = "generate"
    EMBED = "embed"
    SCORE = "score"
    TOKENIZE = "tokenize"
    DETOKENIZE = "detokenize"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input of a task."""

    text: str = ""
    # Instead of a text.
    token_ids: tuple[int, ...] = ()
    # What the text is compared with.
    text_pair: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a task made of one input."""

    vector: Sequence[float] = ()
    score: float | None = None
    token_ids: Sequence[int] = ()
    # Texts of these tokens, one by one, when they were asked for.
    tokens: Sequence[str] = ()
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a task made of all inputs, in their order."""

    outputs: Sequence[Output]
    # Tokens that the model read: none where no model ran.
    prompt_tokens: int = 0
    # Whether that is a guess.
    is_estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What may be asked of a model."""

    tasks: tuple[Task, ...] = (Task.GENERATE,)
    # Tokens that a prompt and its answer may have together, when it is known.
    max_model_len: int | None = None
