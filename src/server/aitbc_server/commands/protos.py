"""The command `aitbc-coordinator protos`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

# Beside the protos: what clients of gRPC may be configured with, what Rust's generator has to be
# told, and the licence of Google's.
_TOLD = (".proto", ".json", ".txt", "LICENSE")
_CLONED = Path(__file__).parents[4] / "protos"


def write_protos(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory to write them to; made if it is missing.")
    ],
) -> None:
    """Write the protos, and all that they import, for generators of stubs in any language."""
    count = 0
    try:
        for path, file in _files(_protos(), out):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.read_bytes())
            count += 1
    except OSError as error:
        raise typer.BadParameter(f"--out {out}: cannot write there: {error}") from error
    typer.echo(f"{count} files in {out}")


def _protos() -> Traversable:
    """Returns the folder of a wheel, or that of the clone that is installed as editable."""
    packaged = resources.files("aitbc_server") / "protos"
    return packaged if packaged.is_dir() else _CLONED


def _files(folder: Traversable, out: Path) -> Iterator[tuple[Path, Traversable]]:
    for one in folder.iterdir():
        if one.is_dir():
            yield from _files(one, out / one.name)
        elif one.name.endswith(_TOLD):
            yield out / one.name, one
