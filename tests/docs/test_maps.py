"""The reference pages show a map as a map, whatever its values are."""

from __future__ import annotations

import pytest
from scripts.docs import pages
from scripts.protodoc import load

PAGES = pages()
MAPS = [
    (message.name, field.name, f"map of `{field.key_type}` to `{field.type}`")
    for message in load().messages.values()
    for field in message.fields
    if field.key_type
]


def test_the_maps_of_the_protos_are_found() -> None:
    texts = "map of `string` to `string`"
    assert {
        ("Job", "metadata", texts),
        ("SubmitJobRequest", "metadata", texts),
        ("Hello", "parents", texts),
        ("GenerationParams", "logit_bias", "map of `int32` to `double`"),
    } <= set(MAPS)


@pytest.mark.parametrize(("message", "field", "kind"), MAPS)
def test_a_map_is_one_in_the_grpc_reference(message: str, field: str, kind: str) -> None:
    section = PAGES["grpc.md"].partition(f"\n### {message}\n")[2].partition("\n### ")[0]
    assert f"| `{field}` | {kind} |" in section


def test_a_map_is_one_in_the_rest_reference() -> None:
    rows = [line for line in PAGES["rest.md"].splitlines() if line.startswith("| `metadata` |")]
    assert rows
    assert all(row.startswith("| `metadata` | map of string to string |") for row in rows)


def test_no_page_names_the_entries_of_a_map() -> None:
    assert not [name for name, page in PAGES.items() if "Entry`" in page]
