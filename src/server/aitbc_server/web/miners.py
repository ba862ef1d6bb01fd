"""Miners, and one miner."""

from __future__ import annotations

from aitbc.v1 import explorer_pb2, miners_pb2
from aitbc_server.web.page import Page, Read, Visit, listing

_PAGE = 50
_RECEIPTS = 25


async def index(read: Read, visit: Visit) -> Page:
    """Lists miners by id."""
    listed = await read(miners_pb2.ListMinersRequest(limit=_PAGE, page_token=visit.page_token))
    return listing("miners.html", visit, listed.miners, listed.next_page_token)


async def detail(read: Read, visit: Visit) -> Page:
    """Shows what one miner is and does, and what it did."""
    miner = await read(miners_pb2.GetMinerRequest(miner_id=visit.name))
    listed = await read(
        explorer_pb2.ListPublicReceiptsRequest(
            miner_id=visit.name, limit=_RECEIPTS, page_token=visit.page_token
        )
    )
    return listing("miner.html", visit, listed.receipts, listed.next_page_token, miner=miner)
