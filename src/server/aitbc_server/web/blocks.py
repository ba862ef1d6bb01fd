"""Blocks, and one block with its receipts."""

from __future__ import annotations

from aitbc.v1 import explorer_pb2
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.web.page import Page, Read, Visit, listing

_PAGE = 25
# Fewer than the largest number of the protocol has.
_MAX_DIGITS = 18


async def index(read: Read, visit: Visit) -> Page:
    """Lists blocks, the newest first."""
    listed = await read(explorer_pb2.ListBlocksRequest(limit=_PAGE, page_token=visit.page_token))
    return listing("blocks.html", visit, listed.blocks, listed.next_page_token)


async def detail(read: Read, visit: Visit) -> Page:
    """Shows what a block says, and the receipts that it holds."""
    height = height_of(visit.name)
    block = await read(explorer_pb2.GetBlockRequest(height=height))
    receipts = await read(
        explorer_pb2.ListPublicReceiptsRequest(
            block_height=height, limit=_PAGE, page_token=visit.page_token
        )
    )
    newest = await read(explorer_pb2.ListBlocksRequest(limit=1))
    return listing(
        "block.html",
        visit,
        receipts.receipts,
        receipts.next_page_token,
        block=block,
        is_newest=newest.blocks[0].height == height,
    )


def height_of(text: str) -> int:
    """Returns the height that a path names. Raises InvalidArgument."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise InvalidArgument("height", "must be the number of a block, such as 0")
    return int(text)
