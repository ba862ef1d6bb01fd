"""Receipts, one receipt, and the page that verifies any."""

from __future__ import annotations

import orjson

from aitbc.v1 import explorer_pb2, receipts_pb2
from aitbc_server.rest.codec import encoder
from aitbc_server.web.formats import seconds_of
from aitbc_server.web.page import Page, Read, Visit, listing

_PAGE = 25
# As the REST API shows it: what is pasted elsewhere verifies there.
_encode = encoder(receipts_pb2.Receipt.DESCRIPTOR)


async def index(read: Read, visit: Visit) -> Page:
    """Lists receipts, the newest first."""
    listed = await read(
        explorer_pb2.ListPublicReceiptsRequest(limit=_PAGE, page_token=visit.page_token)
    )
    return listing("receipts.html", visit, listed.receipts, listed.next_page_token)


async def detail(read: Read, visit: Visit) -> Page:
    """Shows a receipt and what proves it."""
    receipt = await read(explorer_pb2.GetPublicReceiptRequest(receipt_id=visit.name))
    return Page(
        template="receipt.html",
        values={
            "receipt": receipt,
            "took": seconds_of(receipt.completed_at) - seconds_of(receipt.started_at),
            "text": orjson.dumps(_encode(receipt), option=orjson.OPT_INDENT_2).decode(),
        },
    )


async def verify(read: Read, visit: Visit) -> Page:
    """Asks for a receipt from wherever, which the browser then verifies by itself."""
    return Page(template="verify.html")
