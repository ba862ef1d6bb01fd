"""Keys as rows of the table `keys`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from aitbc_server.domain.caller import Role
from aitbc_server.domain.keys import KeyRecord
from aitbc_server.store.statements import statements

SQL = statements("keys.sql")


def key_of(row: Sequence[Any]) -> KeyRecord:
    """Returns the key that a row of `keys` is."""
    return KeyRecord(
        key_id=row[0],
        digest=row[1],
        role=Role(row[2]),
        name=row[3],
        created_us=row[4],
        expires_us=row[5],
        revoked_us=row[6],
        last_used_us=row[7],
        limits=orjson.loads(row[8]),
        models=tuple(orjson.loads(row[9])),
    )
