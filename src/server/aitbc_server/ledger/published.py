"""A ledger as a coordinator publishes it over HTTP: tiles, signatures, blocks and keys."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from aitbc_server.domain.receipts import BatchRecord
from aitbc_server.domain.times import micros_of
from aitbc_server.ledger.audit import LedgerWrong, StoredBlock, StoredReceipt
from aitbc_server.ledger.blocks import parse_block
from aitbc_server.ledger.keys import LedgerKey
from aitbc_server.ledger.merkle import TILE_WIDTH
from aitbc_server.ledger.note import parse
from aitbc_server.ledger.tiles import ENTRIES, tile_path, unbundle

# Returns what is at a path; None for 404. Raises whatever its transport raises.
Get = Callable[[str], bytes | None]
_PAGE = 100


class PublishedLedger:
    """The source of an audit, up to the newest block at its beginning."""

    def __init__(self, get: Get) -> None:
        self._get = get
        published = self._json("/.well-known/aitbc-keys.json")
        self.origin: str = published["origin"]
        self._keys = published["keys"]
        checkpoint = get("/checkpoint")
        self.size = 0
        if checkpoint is not None:
            self.size = parse_block(parse(checkpoint.decode()).text).tree_size

    def keys(self) -> Sequence[LedgerKey]:
        """Returns its keys."""
        return [
            LedgerKey(
                b64decode(key["public_key"]),
                b64decode(key["endorsement"]) if "endorsement" in key else None,
                micros_of(key["created_at"]),
            )
            for key in self._keys
        ]

    def receipts(self) -> Iterator[StoredReceipt]:
        """Yields its receipts."""
        for start in range(0, self.size, TILE_WIDTH):
            width = min(TILE_WIDTH, self.size - start)
            path = tile_path(ENTRIES, start // TILE_WIDTH, width)
            data = self._get(path)
            if data is None:
                raise LedgerWrong(f"receipt {start}", f"{path} is missing")
            for place, body in enumerate(unbundle(data)):
                yield StoredReceipt(start + place, body)

    def batches(self) -> Iterator[BatchRecord]:
        """Yields what was signed together."""
        for number in range(-(-self.size // TILE_WIDTH)):
            for batch in self._json(f"/ledger/signatures/{number}")["batches"]:
                if batch["first_index"] >= self.size:
                    return
                yield BatchRecord(
                    first_index=batch["first_index"],
                    size=batch["size"],
                    stored_us=micros_of(batch["time"]),
                    public_key=b64decode(batch["public_key"]),
                    signature=b64decode(batch["signature"]),
                )

    def blocks(self) -> Iterator[StoredBlock]:
        """Yields its blocks."""
        found: list[StoredBlock] = []
        token = ""
        while True:
            page = self._json(f"/explorer/blocks?limit={_PAGE}&page_token={token}")
            found += [
                StoredBlock(block["checkpoint"], block["height"], block["tree_size"])
                for block in page.get("blocks", ())
            ]
            token = page.get("next_page_token", "")
            if not token:
                break
        return (
            StoredBlock(block.note, block.height)
            for block in reversed(found)
            # Not those that were sealed since.
            if block.tree_size is not None and block.tree_size <= self.size
        )

    def nodes(self) -> Mapping[tuple[int, int], bytes] | None:
        """Returns nothing: they follow from the entries."""
        return None

    def unreceipted(self) -> str | None:
        """Returns nothing: jobs are not public."""
        return None

    def counts(self) -> Sequence[tuple[str, int, int]]:
        """Returns nothing: jobs are not public."""
        return ()

    def _json(self, path: str) -> Any:
        data = self._get(path)
        if data is None:
            raise LedgerWrong(path, "it is missing")
        return orjson.loads(data)
