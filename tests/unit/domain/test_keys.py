from __future__ import annotations

import random
import secrets

from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.domain.addresses import is_address
from aitbc_server.domain.keys import (
    digest_of,
    is_key_id,
    is_well_formed,
    key_id_of,
    new_key,
)
from tests.factories import START_US, key_record


def test_a_new_key_is_well_formed_and_names_its_id() -> None:
    key = new_key(secrets.randbelow)
    prefix, key_id, secret = key.split("_")
    assert (prefix, key_id_of(key)) == ("aitbc", key_id)
    assert is_well_formed(key)
    assert is_key_id(key_id)
    assert len(secret) == 38


def test_the_form_of_a_key_does_not_change() -> None:
    # Keys that were given out must stay valid.
    key = new_key(random.Random(1).randrange)
    assert key == "aitbc_84g7vsuod6v1_vrORcmn0iSHkpEby6vK111fY0yuOhDRk3DhqgG"
    assert digest_of(key).hex().startswith("f7ffd9735128f70f")


@given(st.data())
def test_one_wrong_character_is_found_without_asking_anybody(data: st.DataObject) -> None:
    key = new_key(secrets.randbelow)
    place = data.draw(st.integers(0, len(key) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda one: one != key[place]))
    assert not is_well_formed(key[:place] + other + key[place + 1 :])


@given(st.text())
def test_any_text_may_be_asked_about(text: str) -> None:
    assert not is_well_formed(text)
    assert not is_key_id(key_id_of(text)) or len(text) > len("aitbc_")


def test_each_key_has_an_address_of_its_own() -> None:
    first, second = key_record(), key_record()
    assert is_address(first.owner)
    assert first.owner != second.owner


def test_a_key_is_valid_until_it_expires_or_is_revoked() -> None:
    assert key_record().problem(START_US) is None
    expiring = key_record(expires_us=START_US + 1)
    assert expiring.problem(START_US) is None
    assert expiring.problem(START_US + 1) == "the API key has expired"
    assert key_record(revoked_us=START_US).problem(START_US) == "the API key was revoked"
