"""Miners, and one miner."""

from __future__ import annotations

from aitbc.v1 import miners_pb2
from aitbc_server.web.page import Page, Read, Visit

_PAGE = 50


async def index(read: Read, visit: Visit) -> Page:
    """Lists miners by id."""
    listed = await read(miners_pb2.ListMinersRequest(limit=_PAGE, page_token=visit.page_token))
    return Page(
        template="miners.html",
        values={"miners": listed.miners, "next": listed.next_page_token, "token": visit.page_token},
    )


async def detail(read: Read, visit: Visit) -> Page:
    """Shows what one miner is and does."""
    miner = await read(miners_pb2.GetMinerRequest(miner_id=visit.name))
    return Page(template="miner.html", values={"miner": miner})
