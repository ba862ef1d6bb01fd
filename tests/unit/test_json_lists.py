from __future__ import annotations

from typing import Any

import orjson
import pytest

from aitbc_server.json_lists import json_list, json_pieces

LONG = "é\n\x01\U0001f600" * 50_000
VALUES: dict[str, Any] = {
    "nothing": None,
    "an empty object": {},
    "empty lists": [[], (), {"a": []}],
    "a long text": LONG,
    "long texts in lists": {"a": [LONG, {"b": LONG}], "c": (1, LONG)},
    "numbers": [*range(1000), 1.5, True, None],
    "short texts": ["a", "é"] * 500,
    "numbers among texts": [*range(300), "x", *range(300), {"y": 2}],
    "what is written already": {"a": json_list({"n": n} for n in range(600)), 'b"': [LONG]},
}


@pytest.mark.parametrize("name", VALUES)
def test_pieces_are_what_orjson_writes_at_once(name: str) -> None:
    value = VALUES[name]
    pieces = json_pieces(value)
    assert b"".join(pieces) == orjson.dumps(value)
    assert max(map(len, pieces)) < 1024 * 1024
