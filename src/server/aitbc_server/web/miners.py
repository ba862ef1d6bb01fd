"""Miners, and one miner."""

from __future__ import annotations

from aitbc.v1 import explorer_pb2, miners_pb2
from aitbc_server.web.page import Page, Read, Visit

_PAGE = 50
_RECEIPTS = 25


async def index(read: Read, visit: Visit) -> Page:
    """Lists miners by id."""
    listed = await read(miners_pb2.ListMinersRequest(limit=_PAGE, page_token=visit.page_token))
    return Page(
        template="miners.html",
        values={"miners": listed.miners, "next": listed.next_page_token, "token": visit.page_token},
    )


async def detail(read: Read, visit: Visit) -> Page:
    """Shows what one miner is and does, and what it did."""
    miner = await read(miners_pb2.GetMinerRequest(miner_id=visit.name))
    listed = await read(
        explorer_pb2.ListPublicReceiptsRequest(
            miner_id=visit.name, limit=_RECEIPTS, page_token=visit.page_token
        )
    )
    return Page(
        template="miner.html",
        values={
            "miner": miner,
            "receipts": listed.receipts,
            "next": listed.next_page_token,
            "token": visit.page_token,
        },
    )
