"""What tests of several clients share."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from scripts.processes import Coordinator


@pytest.fixture
def client(vllm: Coordinator) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of the coordinator with the real model."""
    with openai.OpenAI(
        base_url=f"{vllm.url}/v1", api_key="unused", max_retries=0, timeout=120
    ) as client:
        yield client
