"""One address, and what it paid and was paid."""

from __future__ import annotations

from aitbc.v1 import explorer_pb2
from aitbc_server.domain.addresses import is_address
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.web.page import Page, Read, Visit, listing

_PAGE = 25


async def detail(read: Read, visit: Visit) -> Page:
    """Lists the payments of an address, the newest first."""
    address = visit.name
    if not is_address(address):
        raise InvalidArgument("address", "must be an address such as ait1...; is it complete?")
    listed = await read(
        explorer_pb2.ListTransactionsRequest(
            address=address, limit=_PAGE, page_token=visit.page_token
        )
    )
    return listing(
        "address.html", visit, listed.transactions, listed.next_page_token, address=address
    )
