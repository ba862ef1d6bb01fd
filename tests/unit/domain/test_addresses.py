"""Addresses are Bech32 and find mistakes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.domain.addresses import _polymod, address_of, is_address
from aitbc_server.domain.caller import ANONYMOUS

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def test_an_address_is_the_same_at_every_call_and_differs_between_subjects() -> None:
    assert address_of("key:1") == address_of("key:1") != address_of("key:2")
    assert address_of("anonymous") == ANONYMOUS


def test_the_checksum_is_that_of_bip_173() -> None:
    # A valid string of the standard's test vectors: prefix `a`, no data, checksum 2uel5l.
    prefix = [ord("a") >> 5, 0, ord("a") & 31]
    assert _polymod([*prefix, *(_ALPHABET.index(c) for c in "2uel5l")]) == 1


@given(st.text())
def test_an_address_has_its_form(subject: str) -> None:
    address = address_of(subject)
    assert address.startswith("ait1")
    assert len(address) == 42
    assert is_address(address)


@given(st.integers(4, 41), st.sampled_from(_ALPHABET))
def test_one_wrong_character_is_found(place: int, character: str) -> None:
    address = address_of("key:1")
    changed = address[:place] + character + address[place + 1 :]
    assert is_address(changed) == (changed == address)


@given(st.text())
def test_other_texts_are_not_addresses(text: str) -> None:
    assert not is_address(text)
