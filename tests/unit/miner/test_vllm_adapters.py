"""What vLLM is told of adapters. That it then answers right is shown with vLLM itself."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import pytest

from aitbc_miner.adapters import Adapter
from aitbc_miner.engines.vllm_adapters import VllmAdapters
from aitbc_miner.errors import Misconfigured
from tests.lora import write_adapter


class FakeVllm:
    """Takes adapters as an AsyncLLM does; `hidden_size` is its model's."""

    def __init__(self, hidden_size: int = 576, error: str | None = None) -> None:
        text_config = SimpleNamespace(hidden_size=hidden_size)
        self.model_config = SimpleNamespace(hf_text_config=text_config)
        self.loaded: list[Any] = []
        self._error = error

    async def add_lora(self, request: Any) -> None:
        if self._error:
            raise RuntimeError(self._error)
        self.loaded.append(request)


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for the parts of vLLM that are asked, on a machine with a GPU."""
    platform = SimpleNamespace(is_cuda_alike=lambda: True)
    modules: dict[str, dict[str, Any]] = {
        "vllm": {},
        "vllm.platforms": {"current_platform": platform},
        "vllm.config": {},
        "vllm.config.lora": {"MaxLoRARanks": Literal[1, 8, 16, 32]},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": lambda *fields: fields},
    }
    for name, parts in modules.items():
        module = ModuleType(name)
        module.__dict__.update(parts)
        monkeypatch.setitem(sys.modules, name, module)
    return platform


def located(directory: Path, *ranks: int, module: str = "mlp.down_proj") -> VllmAdapters:
    adapters = VllmAdapters(
        [
            Adapter(
                name=f"a{rank}",
                source=str(write_adapter(directory / f"a{rank}", rank, rank=rank, module=module)),
                model="m",
            )
            for rank in ranks
        ]
    )
    adapters.locate()
    return adapters


def test_without_adapters_vllm_is_told_nothing() -> None:
    adapters = VllmAdapters([])
    adapters.locate()
    assert adapters.names == ()
    assert adapters.arguments({}) == {}
    assert adapters.request("m") is None


def test_there_is_room_for_every_adapter_and_for_the_largest(
    tmp_path: Path, platform: SimpleNamespace
) -> None:
    adapters = located(tmp_path, 4, 12)
    expected = {"enable_lora": True, "max_loras": 2, "max_cpu_loras": 2, "max_lora_rank": 16}
    assert adapters.arguments({}) == expected
    # Fewer in one batch are still all kept in memory.
    fewer = {**expected, "max_loras": 1, "max_lora_rank": 32}
    assert adapters.arguments({"max_loras": 1, "max_lora_rank": 32}) == fewer


def test_without_a_gpu_one_slot_stays_empty(tmp_path: Path, platform: SimpleNamespace) -> None:
    platform.is_cuda_alike = lambda: False
    adapters = located(tmp_path, 4, 12)
    assert adapters.arguments({})["max_loras"] == 3
    assert adapters.arguments({"max_loras": 5})["max_cpu_loras"] == 5
    with pytest.raises(Misconfigured, match=r"--engine-opt max_loras=2: .* one more, 3"):
        adapters.arguments({"max_loras": 2})


def test_a_rank_above_the_limit_is_refused(tmp_path: Path, platform: SimpleNamespace) -> None:
    adapters = located(tmp_path, 4, 33)
    with pytest.raises(Misconfigured, match=r"--lora a33=.*rank is 33.*32 fits: vLLM takes no"):
        adapters.arguments({})
    with pytest.raises(Misconfigured, match=r"rank is 33.*raise --engine-opt max_lora_rank"):
        adapters.arguments({"max_lora_rank": 8})


async def test_all_are_loaded_at_the_start_and_found_by_name(
    tmp_path: Path, platform: SimpleNamespace
) -> None:
    adapters = located(tmp_path, 4, 8)
    vllm = FakeVllm()
    await adapters.load(vllm)
    assert vllm.loaded == [("a4", 1, str(tmp_path / "a4")), ("a8", 2, str(tmp_path / "a8"))]
    assert adapters.request("a8") == vllm.loaded[1]
    assert adapters.request("m") is None


async def test_what_vllm_refuses_is_told_with_the_option(
    tmp_path: Path, platform: SimpleNamespace
) -> None:
    adapters = located(tmp_path, 4)
    with pytest.raises(Misconfigured, match=r"--lora a4=.* for m: no DoRA"):
        await adapters.load(FakeVllm(error="no DoRA"))


async def test_an_adapter_of_a_narrower_model_is_refused(
    tmp_path: Path, platform: SimpleNamespace
) -> None:
    adapters = located(tmp_path, 4, module="self_attn.q_proj")
    with pytest.raises(Misconfigured, match=r"--lora a4=.* models that are 576 wide, not 960"):
        await adapters.load(FakeVllm(hidden_size=960))
