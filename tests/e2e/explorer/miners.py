"""The miners of the coordinator that the tests look at, and what they serve."""

from __future__ import annotations

MINERS = {
    "berlin-4090": ("llama3.2", "qwen3"),
    "oslo-h100": ("llama3.2", "mistral-large"),
    "kyoto-7900xtx": ("llama3.2",),
}
# As often as each is asked for.
MODELS = ("llama3.2", "llama3.2", "llama3.2", "qwen3", "mistral-large")
