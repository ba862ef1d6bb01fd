"""Says what the miner runs on."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil
import pynvml

from aitbc.v1.work_pb2 import GpuInfo

_CPU_INFO = Path("/proc/cpuinfo")


def describe() -> GpuInfo:
    """Describes the NVIDIA GPUs that the process may use or, where there is none, the CPU."""
    try:
        with _nvml():
            return _gpus() or _cpu()
    except pynvml.NVMLError:
        return _cpu()


@contextlib.contextmanager
def _nvml() -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _gpus() -> GpuInfo | None:
    indices = _visible(pynvml.nvmlDeviceGetCount(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not indices:
        return None
    first = pynvml.nvmlDeviceGetHandleByIndex(indices[0])
    return GpuInfo(
        name=pynvml.nvmlDeviceGetName(first),
        memory=_gigabytes(pynvml.nvmlDeviceGetMemoryInfo(first).total),
        count=len(indices),
        driver=pynvml.nvmlSystemGetDriverVersion(),
    )


def _visible(count: int, cuda_visible_devices: str | None) -> list[int]:
    """Returns the devices that CUDA would use; ones named by UUID count as all."""
    if cuda_visible_devices is None:
        return list(range(count))
    names = [name.strip() for name in cuda_visible_devices.split(",") if name.strip()]
    if not all(name.removeprefix("-").isdigit() for name in names):
        return list(range(count))[: len(names)]
    return [int(name) for name in names if 0 <= int(name) < count]


def _cpu() -> GpuInfo:
    return GpuInfo(name=_cpu_name(), memory=_gigabytes(psutil.virtual_memory().total), count=0)


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "CPU"


def _gigabytes(size: int) -> str:
    return f"{round(size / 2**30)}GB"
