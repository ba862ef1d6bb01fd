"""The vLLM engines of a miner: one for each model that is loaded, side by side in its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aitbc_miner import weights
from aitbc_miner.adapters import Adapter
from aitbc_miner.engines.vllm import VllmEngine
from aitbc_miner.errors import Misconfigured

# vLLM's option for its part of the GPU's memory, and of the machine's without a GPU; and how much
# it takes by itself when it is alone.
_PART = "gpu_memory_utilization"
_WHOLE = 0.92


def create_vllm_engines(
    models: Mapping[str, str],
    slots: int | None,
    options: Mapping[str, str],
    adapters: Sequence[Adapter],
) -> list[VllmEngine]:
    """Returns the engines: names of one source with the same options share one."""
    of_model = _by_model(options, models)
    loaded: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for name, source in models.items():
        loaded.setdefault((source, tuple(of_model[name].items())), []).append(name)
    parts = _parts([dict(chosen) for _, chosen in loaded])
    # Told to all: vLLM learns it from the environment, which they share.
    is_offline = all(map(weights.is_local, models.values()))
    is_offline = is_offline and all(adapter.is_local for adapter in adapters)
    return [
        VllmEngine(
            tuple(names),
            source,
            slots,
            chosen,
            adapters=[adapter for adapter in adapters if adapter.model in names],
            is_offline=is_offline,
        )
        for ((source, _), names), chosen in zip(loaded.items(), parts, strict=True)
    ]


def _by_model(options: Mapping[str, str], models: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Returns each model's options: KEY is for all of them, MODEL:KEY for one, and goes before."""
    common = {key: value for key, value in options.items() if ":" not in key}
    of_model = {name: dict(common) for name in models}
    for key, value in options.items():
        name, has_model, option = key.rpartition(":")
        if not has_model:
            continue
        if name not in models:
            raise Misconfigured(
                f"--engine-opt {key}: no --model is named {name}; give one of {', '.join(models)}"
            )
        of_model[name][option] = value
    return of_model


def _parts(engines: list[dict[str, str]]) -> list[dict[str, str]]:
    """Divides what memory is left among the engines that do not say what part they take."""
    if len(engines) == 1:
        return engines
    said = [_part(options[_PART]) for options in engines if _PART in options]
    silent = len(engines) - len(said)
    if sum(said) > 1 or (silent and sum(said) >= _WHOLE):
        raise Misconfigured(
            f"--engine-opt {_PART}: {len(engines)} models share the memory, and these parts leave"
            f" not enough for all; give --engine-opt MODEL:{_PART}=PART for each, or for none"
        )
    rest = {_PART: f"{(_WHOLE - sum(said)) / silent:.4f}"} if silent else {}
    return [{**rest, **options} for options in engines]


def _part(text: str) -> float:
    try:
        part = float(text)
    except ValueError:
        part = 0.0
    if not 0 < part <= 1:
        raise Misconfigured(f"--engine-opt {_PART}={text}: give a number above 0, at most 1")
    return part
