"""The worked example of docs/reference/formats.md, checked by other code than the coordinator's."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from scripts.processes import ROOT

PAGE = (ROOT / "docs" / "reference" / "formats.md").read_text()
EXAMPLE = re.findall(r"```text\n(.*?)\n```", PAGE.partition("## Example")[2], re.DOTALL)
KEYS, BESIDE, *BLOCKS = EXAMPLE
ASKED, *ANSWERED = BESIDE.split("\n")
COORDINATOR, MINER = KEYS.split("\n")


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def check_signature(key: str, signature: str, message: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(b64decode(key)).verify(b64decode(signature), message)


def parsed(block: str) -> tuple[dict[str, Any], bytes]:
    text, hash_ = block.split("\n")
    value = json.loads(text)
    assert rfc8785.dumps(value) == text.encode()
    assert leaf(text.encode()).hex() == hash_
    return value, bytes.fromhex(hash_)


def test_the_statements_are_signed_together() -> None:
    (first, left), (second, right) = parsed(BLOCKS[0]), parsed(BLOCKS[1])
    root, signature = BLOCKS[2].split("\n")
    assert node(left, right).hex() == root
    check_signature(MINER, signature, b"aitbc-statements/v1\n" + bytes.fromhex(root))
    salt = bytes(range(16))
    for statement, result in ((first, "Paris."), (second, "R\u00f6ntgen")):
        hashed = hashlib.sha256(salt + result.encode()).hexdigest()
        assert statement["result_hash"] == hashed


def test_the_receipts_are_signed_together_and_hold_the_statements() -> None:
    (first, left), (second, right) = parsed(BLOCKS[3]), parsed(BLOCKS[4])
    root, signature = BLOCKS[5].split("\n")
    assert node(left, right).hex() == root
    check_signature(COORDINATOR, signature, b"aitbc-receipts/v1\n" + bytes.fromhex(root))
    for receipt, block in ((first, BLOCKS[0]), (second, BLOCKS[1])):
        statement, _ = parsed(block)
        assert {name: receipt[name] for name in statement if name != "lease_id"} == {
            name: value for name, value in statement.items() if name != "lease_id"
        }
        attempt = f"{receipt['job_id'].removeprefix('job-')}-{receipt['attempt']}"
        assert statement["lease_id"] == f"lease-{attempt}"
        assert receipt["miner_signature"]["public_key"] == MINER
    paths = [receipt["miner_signature"]["path"] for receipt in (first, second)]
    assert paths == [[parsed(BLOCKS[1])[1].hex()], [parsed(BLOCKS[0])[1].hex()]]


def test_the_block_is_a_signed_note() -> None:
    text, _, signature = BLOCKS[6].partition("\n\n")
    signed = f"{text}\n".encode()
    assert hashlib.sha256(signed).hexdigest() == BLOCKS[7]
    name, size, root, *_ = text.split("\n")
    assert (name, size) == ("ledger.example", "2")
    assert b64decode(root) == node(parsed(BLOCKS[3])[1], parsed(BLOCKS[4])[1])
    dash, signer, encoded = signature.split(" ")
    assert (dash, signer) == ("\u2014", name)
    key_hash = hashlib.sha256(name.encode() + b"\n\x01" + b64decode(COORDINATOR)).digest()[:4]
    assert b64decode(encoded)[:4] == key_hash
    key = Ed25519PublicKey.from_public_bytes(b64decode(COORDINATOR))
    key.verify(b64decode(encoded)[4:], signed)
    assert f"{name}+{key_hash.hex()}+" in PAGE


@pytest.mark.parametrize("line", ["previous " + "0" * 64, "height 0", "time 2026-01-24T15:00:05Z"])
def test_the_block_has_its_extension_lines(line: str) -> None:
    assert line in BLOCKS[6].split("\n")
