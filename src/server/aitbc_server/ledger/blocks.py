"""Blocks: checkpoints of the ledger (https://c2sp.org/tlog-checkpoint) that name the one before.

    <name of the ledger>
    <leaves>
    <Merkle root in Base64>
    height <number of the block, from 0>
    previous <hash of the block before, in hex>
    time <when the last of its receipts was stored>

The last three are the format's extension lines. The hash of a block is the SHA-256 of this text,
without the signatures.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from dataclasses import dataclass

from aitbc_server.domain.times import micros_of, rfc3339
from aitbc_server.ledger import note
from aitbc_server.ledger.keys import Signer

NO_BLOCK = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a block says."""

    origin: str
    tree_size: int
    root: bytes
    height: int
    previous: bytes
    time_us: int

    @property
    def text(self) -> str:
        """What is signed."""
        return (
            f"{self.origin}\n{self.tree_size}\n{b64encode(self.root).decode()}\n"
            f"height {self.height}\nprevious {self.previous.hex()}\ntime {rfc3339(self.time_us)}\n"
        )

    @property
    def hash(self) -> bytes:
        """What the next block names it by."""
        return hashlib.sha256(self.text.encode()).digest()

    def signed(self, signer: Signer) -> str:
        """Returns it as a signed note."""
        return note.sign(self.text, self.origin, signer)


def parse_block(text: str) -> Block:
    """Returns what a checkpoint's text says. Raises ValueError when it is not written this way."""
    lines = text.split("\n")
    if len(lines) != 7:
        raise ValueError("is not a checkpoint of six lines")
    origin, size, root, height, previous, time, _ = lines
    block = Block(
        origin=origin,
        tree_size=int(size),
        root=b64decode(root, validate=True),
        height=int(height.removeprefix("height ")),
        previous=bytes.fromhex(previous.removeprefix("previous ")),
        time_us=micros_of(time.removeprefix("time ")),
    )
    if block.text != text:
        raise ValueError("is not written as a checkpoint of this ledger is")
    return block
