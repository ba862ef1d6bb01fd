"""Transactions, and one transaction."""

from __future__ import annotations

from aitbc.v1 import explorer_pb2
from aitbc_server.web.page import Page, Read, Visit, listing

_PAGE = 25


async def index(read: Read, visit: Visit) -> Page:
    """Lists transactions, the newest first."""
    listed = await read(
        explorer_pb2.ListTransactionsRequest(limit=_PAGE, page_token=visit.page_token)
    )
    return listing("transactions.html", visit, listed.transactions, listed.next_page_token)


async def detail(read: Read, visit: Visit) -> Page:
    """Shows who paid whom, and for what."""
    transaction = await read(explorer_pb2.GetTransactionRequest(hash=visit.name))
    receipt = await read(explorer_pb2.GetPublicReceiptRequest(receipt_id=transaction.receipt_id))
    return Page(
        template="transaction.html", values={"transaction": transaction, "receipt": receipt}
    )
