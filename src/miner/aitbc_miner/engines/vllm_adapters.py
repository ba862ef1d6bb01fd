"""The LoRA adapters of one model in vLLM: what it must make room for, and how a job names one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from aitbc_miner.adapters import Adapter, AdapterFiles
from aitbc_miner.errors import Misconfigured


class VllmAdapters:
    """Knows the adapters by the names under which they are served."""

    def __init__(self, adapters: Sequence[Adapter]) -> None:
        self._adapters = {adapter.name: adapter for adapter in adapters}
        self._files: dict[str, AdapterFiles] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Under which clients ask for them."""
        return tuple(self._adapters)

    def locate(self) -> None:
        """Finds their files, and fetches those that are not here. Raises Misconfigured."""
        self._files = {name: adapter.locate() for name, adapter in self._adapters.items()}

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns vLLM's engine arguments that they need, beside those that the user gave."""
        if not self._files:
            return {}
        slots = self._slots(given.get("max_loras"))
        return {
            "enable_lora": True,
            "max_loras": slots,
            # More would be read from disk again whenever their turn comes.
            "max_cpu_loras": given.get("max_cpu_loras", max(slots, len(self._files))),
            "max_lora_rank": self._max_rank(given.get("max_lora_rank")),
        }

    def _slots(self, given: int | None) -> int:
        """Returns how many adapters may be in one batch."""
        from vllm.platforms import current_platform

        # Without CUDA, vLLM's kernels take the last slot for a job that asks for no adapter, so it
        # must hold none: its weights stay zero (github.com/vllm-project/vllm/pull/48421).
        least = 1 if current_platform.is_cuda_alike() else len(self._files) + 1
        if given is not None and given < least:
            raise Misconfigured(
                f"--engine-opt max_loras={given}: on this machine vLLM needs a slot for each --lora"
                f" and one more, {least}. Leave it out, or give more"
            )
        return given or max(least, len(self._files))

    def _max_rank(self, given: int | None) -> int:
        from vllm.config.lora import MaxLoRARanks

        sizes: tuple[int, ...] = get_args(MaxLoRARanks)
        limit = given or max(sizes)
        for name, files in self._files.items():
            if files.rank > limit:
                remedy = "raise --engine-opt max_lora_rank" if given else "vLLM takes no larger one"
                raise Misconfigured(
                    f"{self._adapters[name]}: its rank is {files.rank}, and at most {limit} fits:"
                    f" {remedy}"
                )
        largest = max(files.rank for files in self._files.values())
        return given or min(size for size in sizes if size >= largest)

    async def load(self, llm: Any) -> None:
        """Loads them all: one that vLLM cannot run is found now and not by a client."""
        width = llm.model_config.hf_text_config.hidden_size
        for name, files in self._files.items():
            adapter = self._adapters[name]
            try:
                widths = files.widths()
                # Too narrow a one vLLM would take, and fill up with zeros.
                if widths and width not in widths:
                    raise ValueError(f"it changes models that are {max(widths)} wide, not {width}")
                await llm.add_lora(self.request(name))
            except Exception as error:
                raise Misconfigured(
                    f"{adapter}: vLLM cannot load it for {adapter.model}: {error}"
                ) from error

    def request(self, model: str) -> Any:
        """Returns what vLLM is to add to its model for a job; None for one that asks for itself."""
        if model not in self._files:
            return None
        from vllm.lora.request import LoRARequest

        number = self.names.index(model) + 1
        return LoRARequest(model, number, str(self._files[model].directory))
