"""Has a model follow its script. vLLM loads it in a process of its own."""

from __future__ import annotations

from typing import Any

from vllm.v1.sample.logits_processor import LogitsProcessor

_BEGIN, _END = 0, 1
# Markers as a script has them, and how far from those that are meant.
_WRITTEN, _APART = range(6, 10), 4


# vLLM is not there where types are checked.
class Script(LogitsProcessor):  # type: ignore[misc]
    """Makes each token of a script far likelier than all others; a grammar goes before."""

    def __init__(self, *_: Any) -> None:
        # By place in the batch: the script, and what was said of it.
        self._rows: dict[int, tuple[list[int], list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """Chooses the tokens."""
        return False

    def update_state(self, update: Any) -> None:
        """Keeps up with the batch."""
        if update is None:
            return
        for row in update.removed:
            self._rows.pop(row, None)
        for row, _, prompt, said in update.added:
            script = [
                token - _APART if token in _WRITTEN else token
                for token in prompt[: prompt.index(_BEGIN)]
            ]
            self._rows[row] = ([*script, _END], said)
        for one, other, direction in update.moved:
            moved, stayed = self._rows.pop(one, None), self._rows.pop(other, None)
            if moved is not None:
                self._rows[other] = moved
            if stayed is not None and direction.name == "SWAP":
                self._rows[one] = stayed

    def apply(self, logits: Any) -> Any:
        """Makes the next token of each script the likeliest that the grammar allows."""
        for row, (script, said) in self._rows.items():
            logits[row, script[min(len(said), len(script) - 1)]] += 1000.0
        return logits
