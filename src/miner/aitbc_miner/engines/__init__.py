"""The engines, by the names that `--engine` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aitbc_miner.adapters import Adapter
from aitbc_miner.engines.base import Engine
from aitbc_miner.engines.options import EngineOptions

ENGINES = ("vllm", "openai", "echo")

__all__ = ["ENGINES", "create_engines"]


def create_engines(
    engine: str,
    models: Mapping[str, str],
    slots: int | None,
    options: Mapping[str, str],
    adapters: Sequence[Adapter] = (),
) -> list[Engine]:
    """Returns the engines that serve these models (name to source), not started yet.

    Only vLLM takes adapters.
    """
    if engine == "echo":
        from aitbc_miner.engines.echo import EchoEngine, EchoOptions

        parsed = EchoOptions.parse(EngineOptions(engine, options))
        return [EchoEngine(tuple(models), slots, parsed)]
    if engine == "openai":
        from aitbc_miner.engines.openai import OpenAIEngine, OpenAIOptions

        return [OpenAIEngine(models, slots, OpenAIOptions.parse(EngineOptions(engine, options)))]
    from aitbc_miner.engines.vllm_engines import create_vllm_engines

    return [*create_vllm_engines(models, slots, options, adapters)]
