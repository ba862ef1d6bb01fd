"""Models are everybody's to list, and yet a key that is wrong is told to be."""

from __future__ import annotations

import secrets
from pathlib import Path

import httpx

from aitbc_server.domain.caller import Role
from aitbc_server.domain.keys import new_key
from tests.integration.server.harness import PATIENCE_S, coordinator
from tests.integration.server.test_limits import make_key
from tests.integration.server.test_refused_fields import gateway


async def test_a_wrong_key_is_one_for_models_too_and_any_role_may_list_them(
    tmp_path: Path,
) -> None:
    wrong = new_key(secrets.randbelow)
    async with coordinator(tmp_path) as client, gateway(client) as there:
        miner = make_key(tmp_path, Role.MINER)
        for url in (client.url, there):
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
                for headers in (
                    {"authorization": f"Bearer {wrong}"},
                    {"x-api-key": wrong},
                    {"x-api-key": wrong, "anthropic-version": "2023-06-01"},
                ):
                    for path in ("/v1/models", "/v1/models/m"):
                        refused = await http.get(path, headers=headers)
                        assert refused.status_code == 401, (url, path, headers)
                listed = await http.get("/v1/models", headers={"x-api-key": miner})
                assert (listed.status_code, listed.json()["data"]) == (200, [])
