"""Cosignatures as https://c2sp.org/tlog-cosignature has them, checked by other code than ours."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aitbc_server.ledger import note
from aitbc_server.ledger.cosignatures import Witness, cosign, cosigned_at, line_of
from aitbc_server.ledger.keys import Signer

TEXT = "ledger.example\n2\nLq6DGnt2b9B2cvsNiZyCDppSVABqzV+nxL33O8yKk+8=\n"
TIME_S = 1_769_266_805
LOG = Signer(Ed25519PrivateKey.from_private_bytes(b"\1" * 32))
KEY = Signer(Ed25519PrivateKey.from_private_bytes(b"\3" * 32))
WITNESS = Witness("witness.example", KEY.public_key)


def cosigned(text: str = TEXT, time_s: int = TIME_S) -> note.Note:
    signed = note.sign(text, "ledger.example", LOG)
    return note.parse(signed + cosign(text, WITNESS, KEY, time_s))


def test_the_line_is_what_the_specification_says() -> None:
    dash, name, encoded = cosign(TEXT, WITNESS, KEY, TIME_S).rstrip("\n").split(" ")
    raw = b64decode(encoded)
    key_hash = hashlib.sha256(b"witness.example\n\x04" + KEY.public_key).digest()[:4]
    assert (dash, name, raw[:4]) == ("\u2014", "witness.example", key_hash)
    assert int.from_bytes(raw[4:12], "big") == TIME_S
    message = f"cosignature/v1\ntime {TIME_S}\n{TEXT}".encode()
    Ed25519PublicKey.from_public_bytes(KEY.public_key).verify(raw[12:], message)


def test_a_verifier_key_names_the_witness_and_its_key() -> None:
    encoded = b64encode(b"\x04" + KEY.public_key).decode()
    assert WITNESS.verifier_key == f"witness.example+{WITNESS.key_hash.hex()}+{encoded}"
    assert Witness.parse(WITNESS.verifier_key) == WITNESS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "witness.example",
        "witness.example+00000000+" + b64encode(b"\x04" + KEY.public_key).decode(),
        # The key of a ledger, which does not cosign.
        note.verifier_key("witness.example", KEY.public_key),
        WITNESS.verifier_key + "\n",
        "witness example" + WITNESS.verifier_key.removeprefix("witness.example"),
    ],
)
def test_what_is_no_verifier_key_of_a_witness_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="verifier key"):
        Witness.parse(text)


def test_a_cosignature_holds_for_its_text_its_time_and_its_witness_alone() -> None:
    assert cosigned_at(cosigned(), WITNESS) == TIME_S
    other = Witness("witness.example", LOG.public_key)
    assert cosigned_at(cosigned(), other) is None
    assert cosigned_at(cosigned(), Witness("another.example", KEY.public_key)) is None
    signed = cosigned()
    name, key_hash, stamped = signed.signatures[1]
    later = (TIME_S + 1).to_bytes(8, "big") + stamped[8:]
    moved = note.Note(signed.text, (signed.signatures[0], (name, key_hash, later)))
    assert cosigned_at(moved, WITNESS) is None
    changed = note.Note(signed.text.replace("\n2\n", "\n3\n"), signed.signatures)
    assert cosigned_at(changed, WITNESS) is None


def test_the_ledger_s_own_signature_stands_beside_it() -> None:
    signed = cosigned()
    assert signed.is_signed_by("ledger.example", LOG.public_key)
    assert line_of(signed, WITNESS) == cosign(TEXT, WITNESS, KEY, TIME_S)
    with pytest.raises(ValueError, match="no cosignature"):
        line_of(note.parse(note.sign(TEXT, "ledger.example", LOG)), WITNESS)


def test_a_note_with_too_many_lines_is_refused() -> None:
    line = cosign(TEXT, WITNESS, KEY, TIME_S)
    with pytest.raises(ValueError, match="more than 64"):
        note.parse(note.sign(TEXT, "ledger.example", LOG) + line * 64)
