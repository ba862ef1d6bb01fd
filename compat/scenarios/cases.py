"""What the clients' scripts share. Each case is tried; one line of JSON says how it went.

The scripts run in environments that have one client each and nothing of this project.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Callable
from typing import Any

URL = os.environ["COMPAT_URL"]
BASE_URL = f"{URL}/v1"
MODEL = os.environ["COMPAT_MODEL"]
KEY = "sk-unused"
# Its first token leads by far, so that the answer is the same wherever it is generated.
QUESTION = "What is the capital of Japan?"

os.environ.setdefault("OPENAI_API_KEY", KEY)
os.environ.setdefault("OPENAI_BASE_URL", BASE_URL)

_LONGEST = 400


def case(name: str) -> Callable[[Callable[[], Any]], None]:
    """Runs what it decorates, at once. What it returns is what the two servers are compared by."""

    def run(function: Callable[[], Any]) -> None:
        try:
            told = function()
            if inspect.isawaitable(told):
                told = asyncio.run(_awaited(told))
            line = {"case": name, "ok": True, "told": told}
        except Exception as error:
            words = " ".join(str(error).split())
            line = {"case": name, "ok": False, "told": f"{type(error).__name__}: {words}"}
        text = line["told"] if isinstance(line["told"], str) else json.dumps(line["told"])
        sys.stdout.write("\n" + json.dumps({**line, "told": text[:_LONGEST]}) + "\n")
        sys.stdout.flush()

    return run


async def _awaited(told: Any) -> Any:
    return await told
