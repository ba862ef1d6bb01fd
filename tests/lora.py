"""A LoRA adapter for the embedded model, which answers nonsense of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
from safetensors.numpy import save_file

# Of SmolLM2-135M.
_LAST_LAYER = 29
_SHAPES = {"mlp.down_proj": (1536, 576), "self_attn.q_proj": (576, 576)}


def write_adapter(
    directory: Path, seed: int, *, rank: int = 8, module: str = "mlp.down_proj"
) -> Path:
    """Writes an adapter, as PEFT does; another seed gives other answers.

    It adds so much to the last layer alone that each of its tokens is far likelier than the next:
    no rounding changes its answers.
    """
    directory.mkdir()
    random = numpy.random.default_rng(seed)
    inputs, outputs = _SHAPES[module]
    path = f"base_model.model.model.layers.{_LAST_LAYER}.{module}"
    shapes = {f"{path}.lora_A.weight": (rank, inputs), f"{path}.lora_B.weight": (outputs, rank)}
    save_file(
        {name: random.standard_normal(shape, numpy.float32) for name, shape in shapes.items()},
        directory / "adapter_model.safetensors",
    )
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "smollm2",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": [module.rpartition(".")[2]],
        "bias": "none",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory
