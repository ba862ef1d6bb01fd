"""Reads for pages by the methods that REST and gRPC answer with, as a visitor without a key."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message

from aitbc_server.api.endpoint import Endpoint
from aitbc_server.domain.caller import Caller
from aitbc_server.web.page import Read

# Owns nothing, so that no method shows it what only owners see, whoever looks at the page.
_VISITOR = Caller(owner="")


def reader(endpoints: Mapping[str, Endpoint]) -> Read:
    """Returns what answers a request message by the one method that takes it."""
    by_request = {endpoint.request_class: endpoint for endpoint in endpoints.values()}

    async def read(request: Message) -> Message:
        return await by_request[type(request)](request, _VISITOR)

    return read
