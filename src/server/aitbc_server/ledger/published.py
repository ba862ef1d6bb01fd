"""A ledger as a coordinator publishes it over HTTP: tiles, signatures, blocks and keys."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from aitbc_server.domain.receipts import BatchRecord
from aitbc_server.domain.times import micros_of
from aitbc_server.ledger.audit import StoredBlock, StoredReceipt
from aitbc_server.ledger.blocks import parse_block
from aitbc_server.ledger.findings import LedgerWrong
from aitbc_server.ledger.keys import LedgerKey
from aitbc_server.ledger.merkle import TILE_WIDTH
from aitbc_server.ledger.note import parse
from aitbc_server.ledger.tiles import ENTRIES, tile_path, unbundle

# Returns what is at a path; None for 404. Raises whatever its transport raises.
Get = Callable[[str], bytes | None]
KEYS_PATH = "/.well-known/aitbc-keys.json"
CHECKPOINT_PATH = "/checkpoint"
COSIGNATURES_PATH = "/explorer/cosignatures"
SIGNATURES_PATH = "/ledger/signatures/"
_PAGE = 100
# What reading it raises, where a document is anything else.
NO_LEDGER = (ValueError, KeyError, TypeError, AttributeError, OverflowError)


def keys_in(document: Any) -> list[LedgerKey]:
    """Returns the keys of a ledger from their file. Raises ValueError, KeyError and TypeError."""
    return [
        LedgerKey(
            b64decode(key["public_key"]),
            b64decode(key["endorsement"]) if "endorsement" in key else None,
            micros_of(key["created_at"]),
        )
        for key in document["keys"]
    ]


class PublishedLedger:
    """The source of an audit, up to the newest block at its beginning."""

    def __init__(self, get: Get) -> None:
        self._get = get
        published = self._json(KEYS_PATH)
        self.origin: str = published["origin"]
        self._keys = keys_in(published)
        # Before the checkpoint, which then has all that they cosigned.
        self._cosigned = get(COSIGNATURES_PATH)
        checkpoint = get(CHECKPOINT_PATH)
        self.size, self._height = 0, -1
        if checkpoint is not None:
            newest = parse_block(parse(checkpoint.decode()).text)
            self.size, self._height = newest.tree_size, newest.height

    def keys(self) -> Sequence[LedgerKey]:
        """Returns its keys."""
        return self._keys

    def receipts(self) -> Iterator[StoredReceipt]:
        """Yields its receipts."""
        for start in range(0, self.size, TILE_WIDTH):
            width = min(TILE_WIDTH, self.size - start)
            path = tile_path(ENTRIES, start // TILE_WIDTH, width)
            data = self._get(path)
            if data is None:
                raise LedgerWrong(f"receipt {start}", f"{path} is missing")
            bodies = unbundle(data)
            if len(bodies) != width:
                raise LedgerWrong(f"receipt {start}", f"{path} has {len(bodies)} entries")
            for place, body in enumerate(bodies):
                yield StoredReceipt(start + place, body)

    def batches(self) -> Iterator[BatchRecord]:
        """Yields what was signed together."""
        for number in range(-(-self.size // TILE_WIDTH)):
            for batch in self._json(f"{SIGNATURES_PATH}{number}")["batches"]:
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
        for first in range(0, self._height + 1, _PAGE):
            # Pages go back from a height: the first blocks come first only when they are asked for
            # so, and no more than a page of them is held.
            end = min(first + _PAGE, self._height + 1)
            page = self._json(f"/explorer/blocks?limit={end - first}&page_token=at-{end}")
            blocks = [StoredBlock(block["checkpoint"], block["height"]) for block in page["blocks"]]
            if [block.height for block in blocks] != list(reversed(range(first, end))):
                raise LedgerWrong(f"block {first}", f"not all up to block {end - 1} are shown")
            yield from reversed(blocks)

    def nodes(self) -> Mapping[tuple[int, int], bytes] | None:
        """Returns nothing: they follow from the entries."""
        return None

    def unreceipted(self) -> str | None:
        """Returns nothing: jobs are not public."""
        return None

    def counts(self) -> Sequence[tuple[str, int, int]]:
        """Returns nothing: jobs are not public."""
        return ()

    def cosigned(self) -> Sequence[str]:
        """Returns the checkpoints that witnesses cosigned."""
        if self._cosigned is None:
            return ()
        return [one["checkpoint"] for one in orjson.loads(self._cosigned).get("cosignatures", ())]

    def _json(self, path: str) -> Any:
        data = self._get(path)
        if data is None:
            raise LedgerWrong(path, "it is missing")
        return orjson.loads(data)
