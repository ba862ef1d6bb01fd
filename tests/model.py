"""Questions that the embedded model answers alike on any processor, and how sure it is of that.

So small a model, of 4 bits besides, knows some capitals by so little that a rounding decides. It is
sure about these: tests/integration/miner/test_any_cpu.py measures it.
"""

from __future__ import annotations

import json
from typing import Any, Final

# What `make run` asks first, and what it and the README go on with.
QUESTION: Final = "What is the capital of Japan?"
ANSWER: Final = "The capital of Japan is Tokyo."
CITY: Final = "Tokyo"
NEXT_QUESTION: Final = "What is the capital of Sweden?"
NEXT_ANSWER: Final = "The capital of Sweden is Stockholm."
# Without a chat template.
RAW_PROMPT: Final = "1 2 3 4 5 6"
RAW_ANSWER: Final = " 7 8 9"

MESSAGES: Final[list[Any]] = [{"role": "user", "content": QUESTION}]
TOOL: Final[dict[str, Any]] = {
    "name": "look_up",
    "description": "Looks a city up.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
LOOK_UP: Final = f"Look up {CITY}."
FOUND: Final = f"{CITY} is in Japan."
# It calls a tool when it has seen how that is done.
_CITIES = {"Rome": "Italy", "Berlin": "Germany", "Madrid": "Spain", "Athens": "Greece"}


def conversation(last: str) -> list[Any]:
    """Returns a conversation in which `TOOL` was called, and a last message of the user."""
    turns: list[Any] = []
    for city, country in _CITIES.items():
        function = {"name": TOOL["name"], "arguments": json.dumps({"city": city})}
        call = {"id": f"call_{city}", "type": "function", "function": function}
        answer = f"{city} is in {country}."
        turns += [
            {"role": "user", "content": f"Look up {city}."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{city}", "content": answer},
            {"role": "assistant", "content": answer},
        ]
    return [*turns, {"role": "user", "content": last}]
