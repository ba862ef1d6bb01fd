"""A coordinator that requires keys."""

from __future__ import annotations

import pytest
from scripts.processes import Coordinator

from tests.conftest import CLEAN_ENV, Launcher

# Seconds for a message to arrive.
PATIENCE_S = 2


@pytest.fixture
def guarded(launcher: Launcher) -> Coordinator:
    """A coordinator that requires keys, with little patience."""
    env = CLEAN_ENV | {"AITBC_HTTP_BODY_SECONDS": str(PATIENCE_S)}
    return launcher.coordinator("--auth", "required", env=env)
