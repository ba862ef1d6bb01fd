"""What of the ledger the tests ask the explorer for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Ids, hashes, a height and an address that are in the ledger."""

    height: int
    block: str
    transaction: str
    receipt: str
    job: str
    miner: str
    address: str

    @classmethod
    def of(cls, url: str) -> Ledger:
        """Reads them from the API, as programs do."""
        with httpx.Client(base_url=url) as api:
            block = _get(api, "/explorer/blocks")["blocks"][0]
            receipt = next(
                one
                for one in _get(api, "/explorer/receipts", limit=100)["receipts"]
                if one.get("block_height") == block["height"]
            )
        return cls(
            height=block["height"],
            block=block["hash"],
            transaction=receipt["leaf_hash"],
            receipt=receipt["receipt_id"],
            job=receipt["job_id"],
            miner=receipt["miner_id"],
            address=receipt["miner"],
        )

    def fill(self, text: str) -> str:
        """Returns the text with the names in braces replaced."""
        return text.format(**{name: getattr(self, name) for name in self.__slots__})


def _get(api: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    response = api.get(path, params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())
