from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from aitbc_miner import gpu


def fail() -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


def test_a_machine_without_a_gpu_tells_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    info = gpu.describe()
    assert info.name
    assert info.memory.endswith("GB")
    assert info.count == 0


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 2,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetName": "NVIDIA RTX 4090",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=24 * 2**30 - 12345),
        "nvmlSystemGetDriverVersion": "580.1",
    }.items():
        monkeypatch.setattr(pynvml, name, lambda *_, value=value: value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("two_gpus")
def test_a_machine_with_gpus_tells_them() -> None:
    info = gpu.describe()
    assert (info.name, info.memory, info.count, info.driver) == (
        "NVIDIA RTX 4090",
        "24GB",
        2,
        "580.1",
    )


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(("visible", "count"), [("1", 1), ("0,1", 2), ("GPU-uuid", 1), ("", 0)])
def test_only_the_gpus_that_the_process_may_use_count(
    visible: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu.describe().count == count
