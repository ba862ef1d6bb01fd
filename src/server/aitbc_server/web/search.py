"""Finds what any id, hash, height or address stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from google.protobuf.message import Message

from aitbc.v1 import explorer_pb2, miners_pb2
from aitbc_server.domain.addresses import is_address
from aitbc_server.domain.errors import InvalidArgument, NotFound
from aitbc_server.web.page import Page, Read, Redirect, Visit

_MAX_CHARACTERS = 200
_HEIGHT = re.compile(r"#?([0-9]{1,18})")
_HASH = re.compile(r"(?:0x|sha256:)?([0-9a-f]{64})")
_RECEIPT_OR_JOB = re.compile(r"(?:rcpt|job)-([0-9a-z]+)")


class _Place(NamedTuple):
    """A page that a query may mean."""

    kind: str
    # Answered when the page has something to show.
    request: Message
    # From that answer to the path.
    path: Callable[[Any], str]


async def search(read: Read, visit: Visit) -> Page | Redirect:
    """Goes to the page of what was asked for, or says what was looked for and not found."""
    query = visit.query.get("q", "").strip()[:_MAX_CHARACTERS]
    if not query:
        raise InvalidArgument("q", "say what to look for: an id, a hash, a height or an address")
    if query.lower().startswith("ait1"):
        if is_address(query.lower()):
            return Redirect(f"explorer/addresses/{query.lower()}")
        return _nothing(query, 400, "As an address it is not complete, or a character is wrong")
    places = list(_places(query))
    for place in places:
        try:
            return Redirect(place.path(await read(place.request)))
        except (NotFound, IndexError):
            continue
    kinds = " and no ".join(dict.fromkeys(place.kind for place in places))
    return _nothing(query, 404, f"There is no {kinds}")


def _nothing(query: str, status: int, why: str) -> Page:
    values = {"query": query, "status": status, "why": why}
    return Page(template="nothing.html", values=values, status=status)


def _places(query: str) -> Iterator[_Place]:
    lower = query.lower()
    if match := _HEIGHT.fullmatch(lower):
        block = explorer_pb2.GetBlockRequest(height=int(match[1]))
        yield _Place("block of this height", block, _block_path)
    if match := _HASH.fullmatch(lower):
        transaction = explorer_pb2.GetTransactionRequest(hash=match[1])
        yield _Place(
            "transaction of this hash", transaction, lambda one: f"explorer/transactions/{one.hash}"
        )
        listed = explorer_pb2.ListBlocksRequest(hash=match[1])
        yield _Place("block of this hash", listed, lambda found: _block_path(found.blocks[0]))
    if match := _RECEIPT_OR_JOB.fullmatch(lower):
        # A job and its receipt share the unique part of their ids.
        receipt = explorer_pb2.GetPublicReceiptRequest(receipt_id=f"rcpt-{match[1]}")
        kind = "receipt of this job" if lower.startswith("job-") else "receipt of this id"
        yield _Place(kind, receipt, lambda one: f"explorer/receipts/{one.receipt_id}")
    miner = miners_pb2.GetMinerRequest(miner_id=query)
    yield _Place(
        "miner of this id", miner, lambda one: f"explorer/miners/{quote(one.miner_id, safe='')}"
    )


def _block_path(block: explorer_pb2.Block) -> str:
    return f"explorer/blocks/{block.height}"
