"""The command `aitbc-coordinator openapi`."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from aitbc_server.openai.part import OPENAI
from aitbc_server.rest.ledger_part import LEDGER_FILES
from aitbc_server.rest.openapi.document import document, packaged_methods
from aitbc_server.telemetry.site import HEALTH, METRICS

# What a coordinator serves beside its methods.
PARTS = (HEALTH, METRICS, OPENAI, LEDGER_FILES)


def print_openapi(
    server: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Base URL to name in the document; may be repeated."),
    ] = None,
) -> None:
    """Print the OpenAPI document of the REST API, as `/openapi.json` serves it."""
    made = document(
        packaged_methods(),
        is_key_required=True,
        parts=PARTS,
        servers=server or ("/", "/api"),
    )
    typer.echo(orjson.dumps(made, option=orjson.OPT_INDENT_2))
