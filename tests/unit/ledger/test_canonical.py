from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.ledger.canonical import canonical, parse

NAMES = st.text(st.characters(max_codepoint=127), max_size=12)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    TEXTS | st.integers(-(2**53) + 1, 2**53 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_the_bytes_are_those_of_rfc_8785(value: dict[str, Any]) -> None:
    assert canonical(value) == rfc8785.dumps(value)
    assert parse(canonical(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.5}',
        b'{"a":9007199254740992}',
        b'{"a":null}',
        b'{"a":true}',
        b'{"\xc3\xa9":1}',
        b'{"a":"\\u0061"}',
        b"[1]",
        b'{"a":1}\n',
        b"{",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not|holds|JSON|line"):
        parse(data)
