"""Other people's clients, unmodified, with the real model. `make compat` runs many more."""

from __future__ import annotations

import pytest
from compat.environments import Client, clients
from compat.outcomes import outcomes
from scripts.processes import Coordinator

QUICK = [client for client in clients() if client.is_quick]


@pytest.mark.vllm
@pytest.mark.parametrize("client", QUICK, ids=lambda client: client.name)
def test_a_client_works_as_it_does_with_vllm_serve(vllm: Coordinator, client: Client) -> None:
    # CI installs them first. Elsewhere it takes some seconds, once.
    client.install()
    found = outcomes(client, vllm.url, tokenizer="")
    assert found
    assert not {case: outcome.told for case, outcome in found.items() if not outcome.is_ok}
