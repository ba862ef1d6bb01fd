"""The names of the package are loaded when they are asked for."""

from __future__ import annotations

import pytest

import aitbc_client


@pytest.mark.parametrize("name", aitbc_client.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(aitbc_client, name).__module__.startswith("aitbc_client.")


def test_other_names_are_not() -> None:
    assert dir(aitbc_client) == sorted(aitbc_client.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        _ = aitbc_client.Nobody  # type: ignore[attr-defined]
