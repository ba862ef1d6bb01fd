"""Blocks, and one block with its receipts."""

from __future__ import annotations

from aitbc.v1 import explorer_pb2
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.web.page import Page, Read, Visit

_PAGE = 25
# Heights have no more digits: the protocol's are signed numbers of 64 bits.
_MAX_HEIGHT = 2**63 - 1


async def index(read: Read, visit: Visit) -> Page:
    """Lists blocks, the newest first."""
    listed = await read(explorer_pb2.ListBlocksRequest(limit=_PAGE, page_token=visit.page_token))
    return Page(
        template="blocks.html",
        values={"blocks": listed.blocks, "next": listed.next_page_token, "token": visit.page_token},
    )


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
    return Page(
        template="block.html",
        values={
            "block": block,
            "is_newest": newest.blocks[0].height == height,
            "receipts": receipts.receipts,
            "next": receipts.next_page_token,
            "token": visit.page_token,
        },
    )


def height_of(text: str) -> int:
    """Returns the height that a path names. Raises InvalidArgument."""
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_HEIGHT:
        raise InvalidArgument("height", "must be the number of a block, such as 0")
    return int(text)
