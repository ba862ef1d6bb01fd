"""The command `aitbc-coordinator openapi`."""

from __future__ import annotations

from typing import Annotated

import typer


def print_openapi(
    server: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Base URL to name in the document; may be repeated."),
    ] = None,
) -> None:
    """Print the OpenAPI document of the REST API, as `/openapi.json` serves it."""
    # Here, so that no other command waits for the REST layer to load.
    import orjson

    from aitbc_server.described import whole_document

    made = whole_document(server or ("/", "/api"))
    typer.echo(orjson.dumps(made, option=orjson.OPT_INDENT_2))
