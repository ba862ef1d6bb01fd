"""Holds a receipt against the whole ledger: what was seen of it before, and what witnesses saw.

A receipt with a valid proof may still be from a ledger that was written for its reader alone. The
newest checkpoint, an older one that was kept, and those that witnesses cosigned must all be of one
ledger, of which each goes on from the one before, and which has the receipt.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from aitbc_client.checkpoints import Checkpoint
from aitbc_client.receipts import Check, Outcome, Receipt
from aitbc_client.signatures import is_signed, public_key, witness_key

_ENDORSEMENT = b"aitbc-ledger-key/v1\n"
_MOST_BYTES = 16_384


class LedgerKey(NamedTuple):
    """A public key of a ledger, and the signature of the key before over it."""

    public_key: bytes
    endorsement: bytes | None


class Ledger(NamedTuple):
    """What a coordinator shows of its ledger."""

    # The oldest first.
    keys: tuple[LedgerKey, ...]
    # Signed notes.
    newest: str | None
    cosigned: tuple[str, ...]
    # Returns the consistency proof between the blocks of two heights.
    proof: Callable[[int, int], Sequence[bytes]]


class CheckpointFile:
    """A file that keeps the newest checkpoint that was seen of a ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_ledger(cls, origin: str) -> CheckpointFile:
        """Returns this user's file for a ledger. Raises RuntimeError for a user without a home."""
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        name = f"{quote(origin, safe='')}.checkpoint"
        return cls(Path(state) / "aitbc" / "checkpoints" / name)

    def read(self) -> str | None:
        """Returns the checkpoint; None when there is no file. Raises OSError and ValueError."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > _MOST_BYTES:
            raise ValueError(f"{self.path} is too large for a checkpoint")
        return data.decode()

    def write(self, checkpoint: str) -> None:
        """Replaces it, whole or not at all. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        part.write_text(checkpoint, encoding="utf-8", newline="")
        part.replace(self.path)


def check_ledger(
    receipt: Receipt,
    ledger: Ledger,
    *,
    keys: Iterable[str] = (),
    kept: str | None = None,
    witnesses: Iterable[str] = (),
) -> list[Check]:
    """Returns the checks of a ledger that can be made for one of its receipts.

    `keys`: those that are trusted, if any; `kept`: an older checkpoint, as a signed note;
    `witnesses`: verifier keys of those who must have cosigned. Raises ValueError when a key is
    none.
    """
    trusted = [public_key(key) for key in keys]
    known = [witness_key(witness) for witness in witnesses]
    return list(_checks(receipt, ledger, trusted, kept, known))


def _checks(
    receipt: Receipt,
    ledger: Ledger,
    trusted: Sequence[bytes],
    kept: str | None,
    witnesses: Iterable[tuple[str, bytes]],
) -> Iterator[Check]:
    newest = ledger.newest
    if newest is None:
        yield Check("ledger_key", Outcome.SKIPPED, "no block is sealed yet")
    else:
        yield _made("ledger_key", lambda: _problem_of_keys(ledger.keys, newest, trusted, kept))

    def grow(older: Checkpoint) -> str | None:
        if newest is None:
            return "the coordinator shows no checkpoint any more"
        shown = Checkpoint(newest)
        if older.height > shown.height:
            return f"the ledger ends at block {shown.height}, before block {older.height}"
        path = () if older.height == shown.height else ledger.proof(older.height, shown.height)
        return None if shown.goes_on_from(older, path) else "the ledger does not go on from it"

    if kept is None:
        yield Check("history", Outcome.SKIPPED, "no checkpoint was kept from before")
    else:
        yield _made("history", lambda: grow(Checkpoint(kept)))
    proof = receipt.document.get("proof")
    if proof is None:
        yield Check("membership", Outcome.SKIPPED, "no block holds the receipt yet")
    else:
        yield _made("membership", lambda: grow(Checkpoint(str(proof["checkpoint"]))))
    for witness in witnesses:
        problem = partial(_problem_of_witness, witness, receipt, ledger, grow)
        yield _made(f"witness {witness[0]}", problem)


def _problem_of_keys(
    keys: Sequence[LedgerKey], newest: str, trusted: Sequence[bytes], kept: str | None
) -> str | None:
    """Says why the newest checkpoint is not signed by a key that is trusted, if it is not."""
    chain: list[bytes] = []
    for key in keys:
        if chain and not (
            key.endorsement and is_signed(chain[-1], key.endorsement, _ENDORSEMENT + key.public_key)
        ):
            return "one of the ledger's keys is not endorsed by the key before it"
        chain.append(key.public_key)
    first = 0
    if trusted:
        places = [chain.index(key) for key in trusted if key in chain]
        if not places:
            return "none of the ledger's keys is trusted"
        first = min(places)
    if kept is not None:
        signer = Checkpoint(kept).signer(chain)
        if signer is None:
            return "no key of the ledger signed the checkpoint that was kept"
        first = max(first, signer)
    if Checkpoint(newest).signer(chain[first:]) is None:
        return "no key that is trusted signed the newest checkpoint"
    return None


def _problem_of_witness(
    witness: tuple[str, bytes],
    receipt: Receipt,
    ledger: Ledger,
    grow: Callable[[Checkpoint], str | None],
) -> str | None:
    cosigned = [
        checkpoint
        for checkpoint in map(Checkpoint, ledger.cosigned)
        if checkpoint.is_cosigned_by(*witness)
    ]
    if not cosigned:
        return "it has cosigned no checkpoint that is shown"
    newest = max(cosigned, key=lambda checkpoint: checkpoint.tree_size)
    proof = receipt.document.get("proof")
    if proof is None or proof.get("leaf_index", 0) >= newest.tree_size:
        return "it has not cosigned the receipt's block yet"
    return grow(newest)


def _made(name: str, check: Callable[[], str | None]) -> Check:
    try:
        problem = check()
    except (KeyError, TypeError, ValueError, AttributeError):
        # What a coordinator shows may be anything.
        problem = "a part of it is missing, or no such thing"
    return (
        Check(name, Outcome.FAILED, problem) if problem else Check(name, Outcome.PASSED, "it holds")
    )


def ledger_key(fields: Any) -> LedgerKey:
    """Reads a key as the coordinator tells it. Raises ValueError."""
    endorsement = b64decode(fields.endorsement, validate=True) if fields.endorsement else None
    return LedgerKey(b64decode(fields.public_key, validate=True), endorsement)
