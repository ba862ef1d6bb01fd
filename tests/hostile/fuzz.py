"""Attacks a border again and again, and says how to repeat what found something."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tests.conftest import Launcher
from tests.hostile.borders import BORDERS


class FoundError(Exception):
    """An attack did what none should. Its cause says what."""


def _silent(_made: int) -> None:
    pass


async def fuzz(
    border: str,
    launcher: Launcher,
    *,
    seed: str,
    seconds: float,
    first: int = 0,
    most: int | None = None,
    told: Callable[[int], None] = _silent,
) -> int:
    """Attacks for so long, or so often at most; returns how often.

    Each attack has a number, and depends on that and the seed alone. Raises FoundError.
    """
    made = 0
    until = time.monotonic() + seconds
    try:
        async with BORDERS[border](launcher) as attack:
            while made == 0 or (time.monotonic() < until and (most is None or made < most)):
                await attack(random.Random(f"{seed}:{border}:{first + made}"))
                made += 1
                told(made)
    except Exception as error:
        number = first + made
        raise FoundError(
            f"found at the {border} border by attack {number} of seed {seed}. "
            f"Repeat it: make fuzz ARGS='--border {border} --seed {seed} --first {number} "
            f"--most 1'; with all before it: --first {first} --most {made + 1}"
        ) from error
    return made
