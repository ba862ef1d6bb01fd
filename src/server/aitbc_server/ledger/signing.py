"""Signatures over many things at once: one over the Merkle root of their canonical bytes.

A thing is checked alone: its leaf hash and a path lead to the root that was signed. One signature a
commit rather than one a receipt keeps signing off the path of results, and lets a whole ledger be
verified at the speed of hashing.
"""

from __future__ import annotations

from collections.abc import Sequence

from aitbc_server.domain.receipts import BatchSignature
from aitbc_server.ledger.keys import Signer, is_signed_by
from aitbc_server.ledger.merkle import levels_of, path_in, root_by_path

# What comes before a root where it is signed, so that no signature counts for anything else.
RECEIPTS = b"aitbc-receipts/v1\n"
STATEMENTS = b"aitbc-statements/v1\n"


def sign_root(purpose: bytes, root: bytes, signer: Signer) -> bytes:
    """Signs the root of a batch."""
    return signer.sign(purpose + root)


def is_root_signed(purpose: bytes, root: bytes, *, public_key: bytes, signature: bytes) -> bool:
    """Says whether the signature over the root is the key's."""
    return is_signed_by(public_key, signature, purpose + root)


def covers(signed: BatchSignature, purpose: bytes, leaf: bytes) -> bool:
    """Says whether a signature holds for a member of its batch, by the member's leaf hash."""
    root = root_by_path(leaf, signed.index, signed.size, signed.path)
    return root is not None and is_root_signed(
        purpose, root, public_key=signed.public_key, signature=signed.signature
    )


def for_member(
    leaves: Sequence[bytes], index: int, public_key: bytes, signature: bytes
) -> BatchSignature:
    """Returns the signature of a batch for one of its members."""
    return _of(levels_of(leaves), index, public_key, signature)


def for_each(
    leaves: Sequence[bytes], public_key: bytes, signature: bytes, version: int = 1
) -> list[BatchSignature]:
    """Returns the signature of a batch for each of its members."""
    levels = levels_of(leaves)
    return [_of(levels, index, public_key, signature, version) for index in range(len(leaves))]


def _of(
    levels: Sequence[Sequence[bytes]],
    index: int,
    public_key: bytes,
    signature: bytes,
    version: int = 1,
) -> BatchSignature:
    return BatchSignature(
        public_key=public_key,
        signature=signature,
        index=index,
        size=len(levels[0]),
        path=path_in(levels, index),
        version=version,
    )
