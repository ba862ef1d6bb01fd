"""What a whole coordinator serves over HTTP, as one OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aitbc_server.anthropic.part import ANTHROPIC_PART
from aitbc_server.openai.part import OPENAI
from aitbc_server.rest.ledger_part import LEDGER_FILES
from aitbc_server.rest.openapi.document import document, packaged_methods
from aitbc_server.telemetry.site import HEALTH, METRICS

# What a coordinator serves beside its methods.
PARTS = (HEALTH, METRICS, OPENAI, ANTHROPIC_PART, LEDGER_FILES)


def whole_document(servers: Sequence[str]) -> dict[str, Any]:
    """Returns the document, with the base URLs of these servers."""
    return document(packaged_methods(), is_key_required=True, parts=PARTS, servers=servers)
