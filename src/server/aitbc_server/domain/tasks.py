"""What may be asked of a model, and where the jobs that ask it wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Task(StrEnum):
    """What a job asks of its model."""

    GENERATE = "generate"
    EMBED = "embed"
    SCORE = "score"
    TOKENIZE = "tokenize"
    DETOKENIZE = "detokenize"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a miner says of one of its models."""

    # In the order of `Task`. A miner that says nothing generates.
    tasks: tuple[Task, ...] = (Task.GENERATE,)
    # Tokens that a prompt and its answer may have together.
    max_model_len: int | None = None


def lane_of(model: str, task: Task) -> str:
    """Returns where jobs wait that the same miners may take: the model's name, if to generate.

    A model's name has no space.
    """
    return model if task is Task.GENERATE else f"{model} {task}"


def lanes_of(models: Iterable[str], infos: Mapping[str, ModelInfo]) -> dict[str, tuple[str, ...]]:
    """Returns the lanes of a miner by model."""
    silent = ModelInfo()
    return {
        model: tuple(lane_of(model, task) for task in infos.get(model, silent).tasks)
        for model in models
    }
