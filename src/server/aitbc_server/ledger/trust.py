"""What a verifier knows of a ledger from elsewhere, and how a ledger is held against it.

A ledger that verifies by itself may still be another one than was shown before: whoever has its key
can write it anew. A pinned key, an older checkpoint and the cosignatures of witnesses find that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aitbc_server.ledger import note
from aitbc_server.ledger.blocks import Block, parse_block
from aitbc_server.ledger.cosignatures import Witness, cosigned_at
from aitbc_server.ledger.findings import LedgerWrong
from aitbc_server.ledger.keys import LedgerKey, endorsed, is_signed_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What is known of a ledger."""

    # One of its public keys: it, or one that it endorsed, must sign the newest block.
    key: bytes | None = None
    # An older checkpoint of it, as a signed note: the ledger must go on from there.
    checkpoint: str | None = None
    # Each must have cosigned a checkpoint that the ledger goes on from.
    witnesses: tuple[Witness, ...] = ()


NO_TRUST = Trust()


def chained(keys: Iterable[LedgerKey]) -> list[bytes]:
    """Returns the public keys, each endorsed by the one before. Raises LedgerWrong."""
    known: list[bytes] = []
    for number, key in enumerate(keys):
        if number == 0:
            is_right = key.endorsement is None
        else:
            is_right = key.endorsement is not None and is_signed_by(
                known[-1], key.endorsement, endorsed(key.public_key)
            )
        if not is_right:
            raise LedgerWrong(f"key {number}", "it is not endorsed by the key before it")
        known.append(key.public_key)
    return known


class Trusted:
    """Holds the blocks of a ledger against what is known, in their order."""

    def __init__(
        self, trust: Trust, origin: str, keys: Sequence[bytes], cosigned: Iterable[str]
    ) -> None:
        """`cosigned`: the ledger's checkpoints with cosignatures. Raises LedgerWrong."""
        self._origin = origin
        self._keys = keys
        # From which of the keys on they are trusted to sign what is new.
        self._first_key = 0
        # Blocks that must be there, by height, each with who says so.
        self._expected: dict[int, list[tuple[str, bytes]]] = {}
        self._last: tuple[Block, note.Note] | None = None
        # Receipts that every witness covers.
        self.witnessed = 0
        if trust.key is not None:
            if trust.key not in keys:
                raise LedgerWrong("keys", "the pinned key is none of the ledger's")
            self._first_key = keys.index(trust.key)
        if trust.checkpoint is not None:
            self._expect_kept(trust.checkpoint)
        if trust.witnesses:
            self._expect_cosigned(trust.witnesses, list(cosigned))

    def check_block(self, block: Block, signed: note.Note) -> None:
        """Takes the next block. Raises LedgerWrong when another one should be there."""
        for who, hash_ in self._expected.pop(block.height, ()):
            if block.hash != hash_:
                raise LedgerWrong(
                    f"block {block.height}", f"it is another one than {who}: history was rewritten"
                )
        self._last = block, signed

    def check_end(self, blocks: int) -> None:
        """Takes the end of the ledger. Raises LedgerWrong when something is missing."""
        for height, expected in self._expected.items():
            who, _ = expected[0]
            raise LedgerWrong(
                f"block {height}", f"it is missing after {blocks} blocks, and {who} has it"
            )
        if self._last is None:
            return
        block, signed = self._last
        if not any(signed.is_signed_by(block.origin, key) for key in self._keys[self._first_key :]):
            raise LedgerWrong(
                f"block {block.height}", "a key signed it that the trusted one replaced"
            )

    def _expect_kept(self, kept: str) -> None:
        who = "the checkpoint that was kept"
        try:
            signed = note.parse(kept)
            block = parse_block(signed.text)
        except ValueError as error:
            raise LedgerWrong(who, str(error)) from error
        if block.origin != self._origin:
            raise LedgerWrong(who, f"it is of {block.origin}, and this ledger is {self._origin}")
        signers = [
            number
            for number, key in enumerate(self._keys)
            if signed.is_signed_by(block.origin, key)
        ]
        if not signers:
            raise LedgerWrong(who, "no key of this ledger signed it")
        self._first_key = max(self._first_key, signers[0])
        self._expected.setdefault(block.height, []).append((who, block.hash))

    def _expect_cosigned(self, witnesses: Iterable[Witness], cosigned: Sequence[str]) -> None:
        sizes = []
        for witness in witnesses:
            block = _newest(witness, self._origin, cosigned)
            if block is None:
                raise LedgerWrong(
                    f"witness {witness.name}", "it has cosigned no checkpoint that is shown"
                )
            who = f"what the witness {witness.name} cosigned"
            self._expected.setdefault(block.height, []).append((who, block.hash))
            sizes.append(block.tree_size)
        self.witnessed = min(sizes)


def _newest(witness: Witness, origin: str, cosigned: Iterable[str]) -> Block | None:
    blocks = []
    for text in cosigned:
        try:
            signed = note.parse(text)
            block = parse_block(signed.text)
        except ValueError:
            continue
        if block.origin == origin and cosigned_at(signed, witness) is not None:
            blocks.append(block)
    return max(blocks, key=lambda block: block.tree_size, default=None)
