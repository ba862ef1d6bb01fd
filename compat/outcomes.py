"""What a client's cases came to, and how two servers compare by them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from enum import StrEnum

from scripts.vllm_serve import MODEL

from compat.environments import Client

_LONGEST_S = 1200
# Paths of the machine that it ran on, which say nothing to anybody else.
_PLACES = re.compile(r"(?<![:\w/])(?:/[\w.@+-]+){2,}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case went: whether the client was content, and what it was told or complained of."""

    is_ok: bool
    told: str


class Verdict(StrEnum):
    """How a case compares."""

    SAME = "same"
    # Both answer, not in the same words.
    OTHER_TEXT = "other text"
    BETTER = "works here only"
    # Neither works: the model or the client.
    NEITHER = "neither"
    WORSE = "works with vllm serve only"


def outcomes(client: Client, url: str, tokenizer: str) -> dict[str, Outcome]:
    """Runs a client's cases against a server; returns the outcomes by the cases' names."""
    argv, more = client.command()
    with tempfile.TemporaryDirectory(prefix="aitbc-compat-") as home:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AITBC_")},
            **more,
            "HOME": home,
            "COMPAT_URL": url,
            "COMPAT_MODEL": MODEL,
            "COMPAT_TOKENIZER": tokenizer,
            "PYTHONWARNINGS": "ignore",
        }
        try:
            done = subprocess.run(
                [str(part) for part in argv],
                capture_output=True,
                text=True,
                timeout=_LONGEST_S,
                env=env,
                cwd=home,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return {"(the script)": Outcome(False, f"still ran after {_LONGEST_S} s")}
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith('{"case"'):
            one = json.loads(line)
            found[one["case"]] = Outcome(one["ok"], _PLACES.sub("...", one["told"]))
    if done.returncode:
        found["(the script)"] = Outcome(False, _PLACES.sub("...", done.stderr.strip()[-400:]))
    return found


def verdict(ours: Outcome, theirs: Outcome) -> Verdict:
    """Compares the outcomes of one case here and with `vllm serve`."""
    if ours.is_ok and theirs.is_ok:
        return Verdict.SAME if ours.told == theirs.told else Verdict.OTHER_TEXT
    if ours.is_ok:
        return Verdict.BETTER
    return Verdict.WORSE if theirs.is_ok else Verdict.NEITHER
