"""A call by GET, whose message is in the query: of methods that change nothing."""

from __future__ import annotations

import binascii
from typing import NamedTuple
from urllib.parse import parse_qsl

from aitbc_server.domain.errors import InvalidArgument

_MOST_PARAMETERS = 16
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Query(NamedTuple):
    """What the query says."""

    # Name of the codec.
    encoding: str
    message: bytes
    # How it is packed; empty where it is not.
    compression: str


def read_query(query: bytes) -> Query:
    """Returns what a query says. Raises InvalidArgument."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            # As it was, whatever bytes it stands for.
            encoding="latin-1",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise InvalidArgument("query", "is malformed") from None
    said = dict(pairs)
    if said.get("connect", "v1") != "v1":
        raise InvalidArgument("connect", "must be v1")
    for name in ("encoding", "message"):
        if name not in said:
            raise InvalidArgument(name, "is missing from the query")
    message = said["message"].encode("latin-1")
    if said.get("base64") == "1":
        message = _from_base64(message)
    return Query(said["encoding"], message, said.get("compression", ""))


def _from_base64(text: bytes) -> bytes:
    # Padding is left out, mostly.
    plain = text.translate(_URL_SAFE).rstrip(b"=")
    try:
        return binascii.a2b_base64(plain + b"=" * (-len(plain) % 4), strict_mode=True)
    except binascii.Error:
        raise InvalidArgument("message", "is not Base64 of the kind for URLs") from None
