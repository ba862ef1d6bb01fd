"""What the document says of the ledger's files: see `rest/ledger.py`."""

from __future__ import annotations

from functools import partial

from aitbc_server.ledger.merkle import TILE_WIDTH
from aitbc_server.ledger.published import (
    CHECKPOINT_PATH,
    KEYS_PATH,
    SIGNATURES_PATH,
)
from aitbc_server.rest.openapi.part import (
    JSON,
    PUBLIC,
    Contents,
    Part,
    failures,
    get,
    path_parameter,
    success,
)
from aitbc_server.rest.openapi.schemas import Schema

TILES_PATH = "/tile/"
_NAME = "LedgerFiles"
_BYTES: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_BASE64: Schema = {"type": "string", "contentEncoding": "base64"}


def _described() -> Contents:
    describe = partial(get, _NAME, security=PUBLIC)
    index = path_parameter(
        "index",
        "Number of the tile in three digits. From 1,000 on, more segments go before the last, each "
        "with an `x`: tile 1,234,067 is at `x001/x234/067`.",
        {"type": "string", "pattern": "^[0-9]{3}$"},
        "000",
    )
    level = path_parameter(
        "level",
        "Level of the hashes, from 0: those of the leaves.",
        {"type": "integer", "minimum": 0, "maximum": 63},
        0,
    )
    width = path_parameter(
        "width",
        f"How many of its {TILE_WIDTH}, while there are no more.",
        {"type": "integer", "minimum": 1, "maximum": TILE_WIDTH - 1},
        1,
    )
    number = path_parameter(
        "number",
        "Number of the tile of entries.",
        {"type": "integer", "minimum": 0, "maximum": 10**12 - 1},
        0,
    )
    tile = {
        "200": success("The tile.", "application/octet-stream", _BYTES),
        **failures([404, 500, 503]),
    }
    return Contents(
        {
            CHECKPOINT_PATH: describe(
                "getCheckpoint",
                "Gets the newest block as a signed checkpoint",
                {
                    "200": success(
                        "The checkpoint, a signed note.", "text/plain", {"type": "string"}
                    ),
                    **failures([404, 500, 503]),
                },
                description="Format: https://c2sp.org/tlog-checkpoint",
            ),
            **{
                f"{TILES_PATH}{path}": describe(
                    operation_id,
                    summary,
                    tile,
                    description="Format: https://c2sp.org/tlog-tiles",
                    parameters=parameters,
                )
                for path, operation_id, summary, parameters in (
                    ("{level}/{index}", "getTile", "Gets a full tile of hashes", [level, index]),
                    (
                        "{level}/{index}.p/{width}",
                        "getPartialTile",
                        "Gets the first hashes of a tile",
                        [level, index, width],
                    ),
                    ("entries/{index}", "getEntries", "Gets a full tile of entries", [index]),
                    (
                        "entries/{index}.p/{width}",
                        "getPartialEntries",
                        "Gets the first entries of a tile",
                        [index, width],
                    ),
                )
            },
            f"{SIGNATURES_PATH}{{number}}": describe(
                "getSignatures",
                "Gets the signatures of the batches that begin in a tile of entries",
                {
                    "200": success("The signatures.", JSON, _SIGNATURES),
                    **failures([404, 500, 503]),
                },
                parameters=[number],
            ),
            KEYS_PATH: describe(
                "getLedgerKeysFile",
                "Gets the public keys of the ledger, the oldest first",
                {"200": success("The keys.", JSON, _KEYS), **failures([500, 503])},
            ),
        },
        {},
    )


def _list_of(properties: Schema, *, optional: str = "") -> Schema:
    required = [name for name in properties if name != optional]
    item = {"type": "object", "properties": properties, "required": required}
    return {"type": "array", "items": item}


_SIGNATURES: Schema = {
    "type": "object",
    "properties": {
        "batches": _list_of(
            {
                "first_index": {"type": "integer"},
                "size": {"type": "integer"},
                "time": _TIME,
                "public_key": _BASE64,
                "signature": _BASE64,
            }
        )
    },
    "required": ["batches"],
}
_KEYS: Schema = {
    "type": "object",
    "properties": {
        "origin": {"type": "string"},
        "keys": _list_of(
            {
                "public_key": _BASE64,
                "verifier_key": {"type": "string"},
                "created_at": _TIME,
                "endorsement": {**_BASE64, "description": "By the key before it."},
            },
            optional="endorsement",
        ),
    },
    "required": ["origin", "keys"],
}
LEDGER_FILES = Part(
    _NAME,
    "The ledger as static files, for witnesses and verifiers: https://c2sp.org/tlog-tiles.",
    _described,
)
