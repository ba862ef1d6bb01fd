"""A witness: follows a ledger, and cosigns each checkpoint that is consistent with all before.

It reads only what the coordinator publishes. What it cosigns is on its own disk first: a witness
that was killed never cosigns a second history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import orjson

from aitbc_server.ledger import note
from aitbc_server.ledger.blocks import Block, parse_block
from aitbc_server.ledger.checkpoint_file import CheckpointFile
from aitbc_server.ledger.cosignatures import Witness, cosign
from aitbc_server.ledger.findings import LedgerWrong
from aitbc_server.ledger.keys import Signer
from aitbc_server.ledger.merkle import is_consistent
from aitbc_server.ledger.published import CHECKPOINT_PATH, COSIGNATURES_PATH, KEYS_PATH, keys_in
from aitbc_server.ledger.trust import Trust, Trusted, chained

_CONSISTENCY_PATH = "/explorer/consistency?from_height={}&to_height={}"


class Coordinator(Protocol):
    """What a witness needs of a coordinator."""

    def get(self, path: str) -> bytes | None:
        """Returns what is at a path; None when nothing is."""
        ...

    def post(self, path: str, document: dict[str, Any]) -> str | None:
        """Posts JSON; returns why it was refused, or None."""
        ...


class CosignatureRefused(Exception):
    """The coordinator does not take this witness's cosignatures. The text says why."""


class WitnessLog:
    """What one witness knows of one ledger."""

    def __init__(
        self,
        coordinator: Coordinator,
        witness: Witness,
        signer: Signer,
        kept: CheckpointFile,
        now_s: Callable[[], int],
        key: bytes | None = None,
    ) -> None:
        """`key`: one of the ledger's public keys, if it is known from elsewhere."""
        self._coordinator = coordinator
        self._witness = witness
        self._signer = signer
        self._kept = kept
        self._now_s = now_s
        self._key = key
        self._cosigned: int | None = None

    def follow(self) -> Block | None:
        """Cosigns the newest checkpoint, unless it did; returns its block, or None.

        Raises LedgerWrong when the ledger is not the one that it followed so far,
        CosignatureRefused, OSError, and ValueError, KeyError and TypeError for answers that are
        none.
        """
        published = self._document(KEYS_PATH)
        origin, keys = published["origin"], chained(keys_in(published))
        shown = self._coordinator.get(CHECKPOINT_PATH)
        if shown is None:
            if self._kept.read() is not None:
                raise LedgerWrong("checkpoint", "there is none any more")
            return None
        block, signed = _parsed(shown.decode(), origin)
        if block.height == self._cosigned:
            return None
        self._check(block, signed, origin, keys)
        bare = signed_by_ledger(signed, origin)
        self._kept.write(bare)
        line = cosign(block.text, self._witness, self._signer, self._now_s())
        refusal = self._coordinator.post(COSIGNATURES_PATH, {"checkpoint": bare + line})
        if refusal is not None:
            raise CosignatureRefused(refusal)
        self._cosigned = block.height
        return block

    def _check(self, block: Block, signed: note.Note, origin: str, keys: Sequence[bytes]) -> None:
        kept = self._kept.read()
        trusted = Trusted(Trust(key=self._key, checkpoint=kept), origin, keys, ())
        if kept is not None:
            before, _ = _parsed(kept, origin)
            if block.height < before.height:
                raise LedgerWrong(
                    f"block {before.height}",
                    f"it was cosigned, and block {block.height} is the last",
                )
            if block.height > before.height:
                self._check_growth(before, block)
                trusted.check_block(before, signed)
        trusted.check_block(block, signed)
        trusted.check_end(block.height + 1)
        if not any(signed.is_signed_by(origin, key) for key in keys):
            raise LedgerWrong(f"block {block.height}", "no key of the ledger signed it")

    def _check_growth(self, before: Block, after: Block) -> None:
        proof = self._document(_CONSISTENCY_PATH.format(before.height, after.height))
        path = [bytes.fromhex(hash_) for hash_ in proof.get("path", ())]
        if not is_consistent(before.tree_size, before.root, after.tree_size, after.root, path):
            raise LedgerWrong(
                f"block {after.height}",
                f"it does not go on from block {before.height}, which was cosigned",
            )

    def _document(self, path: str) -> Any:
        data = self._coordinator.get(path)
        if data is None:
            raise LedgerWrong(path, "it is missing")
        return orjson.loads(data)


def signed_by_ledger(signed: note.Note, origin: str) -> str:
    """Returns the note with the signatures of the ledger alone."""
    lines = (
        note.signature_line(name, key_hash + signature)
        for name, key_hash, signature in signed.signatures
        if name == origin
    )
    return signed.text + "\n" + "".join(lines)


def _parsed(checkpoint: str, origin: str) -> tuple[Block, note.Note]:
    try:
        signed = note.parse(checkpoint)
        block = parse_block(signed.text)
    except ValueError as error:
        raise LedgerWrong("checkpoint", str(error)) from error
    if block.origin != origin:
        raise LedgerWrong("checkpoint", f"it is of {block.origin}, not of {origin}")
    return block, signed
