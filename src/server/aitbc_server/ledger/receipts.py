"""Makes receipts: their canonical bytes, and one signature for those of a commit."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from aitbc_server.domain.addresses import address_of
from aitbc_server.domain.ids import lease_id_of
from aitbc_server.domain.prices import PriceTable, UnitType
from aitbc_server.domain.receipts import BatchSignature, Work, receipt_id_of
from aitbc_server.domain.times import rfc3339
from aitbc_server.ledger.canonical import canonical
from aitbc_server.ledger.keys import Signer
from aitbc_server.ledger.merkle import leaf_hash, root_of
from aitbc_server.ledger.signing import RECEIPTS, sign_root

_NONCE_BYTES = 16

# Fields of a receipt that are signed, and whether each receipt has them.
SIGNED_FIELDS = {
    "receipt_id": True,
    "job_id": True,
    "client": True,
    "miner_id": True,
    "miner": True,
    "model": True,
    "units": True,
    "unit_type": True,
    "prompt_tokens": False,
    "completion_tokens": False,
    "price": True,
    "currency": True,
    "prompt_hash": True,
    "result_hash": True,
    "started_at": True,
    "completed_at": True,
    "attempt": True,
    "coordinator": True,
    "nonce": True,
    "miner_signature": False,
    "version": False,
    "answer_hash": False,
    "request_hash": False,
    "resumed": False,
}
# What receipts have since version 2. Those of version 1 say no version.
VERSION = 2
_OF_VERSION_2 = ("answer_hash", "request_hash")


class Entry(NamedTuple):
    """A new receipt."""

    work: Work
    body: bytes
    leaf_hash: bytes


class Receipts:
    """Makes receipts for one ledger."""

    def __init__(
        self, coordinator: str, prices: PriceTable, randbytes: Callable[[int], bytes]
    ) -> None:
        """`coordinator` is the ledger's name, `randbytes(n)` gives n random bytes."""
        self._coordinator = coordinator
        self._prices = prices
        self._randbytes = randbytes

    def make(self, works: Sequence[Work]) -> list[Entry]:
        """Returns the receipts of work that was done."""
        nonces = self._randbytes(_NONCE_BYTES * len(works)).hex()
        width = 2 * _NONCE_BYTES
        entries = []
        for at, work in enumerate(works):
            body = canonical(self._fields(work, nonces[at * width : (at + 1) * width]))
            entries.append(Entry(work, body, leaf_hash(body)))
        return entries

    def _fields(self, work: Work, nonce: str) -> dict[str, Any]:
        units, unit_type = units_of(work.prompt_tokens, work.completion_tokens, work.characters)
        fields = {
            "receipt_id": receipt_id_of(work.job_id),
            "job_id": work.job_id,
            "client": work.client,
            "miner_id": work.miner_id,
            "miner": miner_address(work.miner_id),
            "model": work.model,
            "units": units,
            "unit_type": unit_type.value,
            "price": self._prices.price(work.model, units, unit_type),
            "currency": self._prices.currency,
            "prompt_hash": work.prompt_hash.hex(),
            "result_hash": work.result_hash.hex(),
            "version": VERSION,
            "request_hash": work.request_hash.hex(),
            "answer_hash": work.answer_hash.hex(),
            "started_at": rfc3339(work.started_us),
            "completed_at": rfc3339(work.completed_us),
            "attempt": work.attempt,
            "coordinator": self._coordinator,
            "nonce": nonce,
        }
        if work.prompt_tokens is not None:
            fields["prompt_tokens"] = work.prompt_tokens
        if work.completion_tokens is not None:
            fields["completion_tokens"] = work.completion_tokens
        if work.miner_signature is not None:
            fields["miner_signature"] = signature_fields(work.miner_signature)
        if work.resumed:
            parts = [{"miner_id": who, "characters": length} for who, length in work.resumed]
            fields["resumed"] = {"parts": parts}
        return fields


def sign_entries(entries: Sequence[Entry], signer: Signer) -> bytes:
    """Signs the receipts of one commit together."""
    return sign_root(RECEIPTS, root_of([entry.leaf_hash for entry in entries]), signer)


def units_of(
    prompt_tokens: int | None, completion_tokens: int | None, characters: int
) -> tuple[int, UnitType]:
    """Returns how much work it was: tokens where the miner counted them, else characters."""
    if prompt_tokens is None and completion_tokens is None:
        return characters, UnitType.CHARACTERS
    return (prompt_tokens or 0) + (completion_tokens or 0), UnitType.TOKENS


@lru_cache(maxsize=4096)
def miner_address(miner_id: str) -> str:
    """Returns the address that a miner is paid at."""
    return address_of(f"miner:{miner_id}")


def statement(
    *,
    miner_id: str,
    job_id: str,
    lease_id: str,
    result_hash: str,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    answer_hash: str | None = None,
) -> bytes:
    """Returns the canonical bytes of what a miner states and signs; hashes are in hex.

    With `answer_hash` it is of version 2.
    """
    fields: dict[str, Any] = {
        "miner_id": miner_id,
        "job_id": job_id,
        "lease_id": lease_id,
        "result_hash": result_hash,
    }
    if prompt_tokens is not None:
        fields["prompt_tokens"] = prompt_tokens
    if completion_tokens is not None:
        fields["completion_tokens"] = completion_tokens
    if answer_hash is not None:
        fields |= {"version": VERSION, "answer_hash": answer_hash}
    return canonical(fields)


def statement_in(body: dict[str, Any]) -> bytes:
    """Returns the statement that the miner of a receipt signed."""
    return statement(
        miner_id=body["miner_id"],
        job_id=body["job_id"],
        lease_id=lease_id_of(body["job_id"], body["attempt"]),
        result_hash=body["result_hash"],
        prompt_tokens=body.get("prompt_tokens"),
        completion_tokens=body.get("completion_tokens"),
        answer_hash=body["answer_hash"] if "version" in body["miner_signature"] else None,
    )


def problem_of_version(body: Mapping[str, Any]) -> str | None:
    """Returns why the fields of a receipt are not those of its version, if they are not."""
    version = body.get("version")
    signature = body.get("miner_signature")
    if signature is not None and signature.get("version") not in (None, version):
        return "its miner's signature is of another version"
    if version == VERSION:
        missing = [name for name in _OF_VERSION_2 if name not in body]
        return f"{missing[0]} is missing" if missing else None
    if version is not None:
        return f"it is of version {version}, which is not known here"
    early = [name for name in (*_OF_VERSION_2, "resumed") if name in body]
    return f"{early[0]} is not of its version" if early else None


def signature_fields(signature: BatchSignature) -> dict[str, Any]:
    """Returns a signature as a receipt holds it."""
    fields: dict[str, Any] = {
        "public_key": _base64(signature.public_key),
        "signature": _base64(signature.signature),
        "index": signature.index,
        "size": signature.size,
    }
    if signature.version != 1:
        fields["version"] = signature.version
    # Absent when empty, as the JSON of the REST API has it.
    if signature.path:
        fields["path"] = [hash_.hex() for hash_ in signature.path]
    return fields


@lru_cache(maxsize=256)
def _base64(data: bytes) -> str:
    # Many receipts share a key, and those of one message its signature.
    return b64encode(data).decode()


def signed_in(fields: dict[str, Any]) -> BatchSignature:
    """Returns a signature that a receipt holds. Raises ValueError, KeyError and TypeError."""
    return BatchSignature(
        public_key=b64decode(fields["public_key"], validate=True),
        signature=b64decode(fields["signature"], validate=True),
        index=fields["index"],
        size=fields["size"],
        path=[bytes.fromhex(hash_) for hash_ in fields.get("path", ())],
        version=fields.get("version", 1),
    )
