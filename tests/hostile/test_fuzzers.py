"""Nothing is found at any border, shortly. `make fuzz` takes longer."""

from __future__ import annotations

import pytest

from tests.conftest import Launcher
from tests.hostile.borders import BORDERS
from tests.hostile.fuzz import fuzz

SEED = "20261128"
SECONDS = 5.0


@pytest.mark.parametrize("border", BORDERS)
async def test_nothing_is_found(border: str, launcher: Launcher) -> None:
    assert await fuzz(border, launcher, seed=SEED, seconds=SECONDS) >= 1
