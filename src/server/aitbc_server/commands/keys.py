"""The command `aitbc-coordinator keys`."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import typer

from aitbc_server.domain.allowed_models import parse_models
from aitbc_server.domain.caller import Role
from aitbc_server.domain.keys import KeyRecord, digest_of, is_key_id, key_id_of, new_key
from aitbc_server.domain.limits import NAMES, parse_limit
from aitbc_server.store.connection import SqliteTooOldError
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.store.key_file import KeyFile, open_keys
from aitbc_server.terminal import say

cli = typer.Typer(
    name="keys",
    help="Create, list and revoke API keys. A running server sees each change at once.",
    no_args_is_help=True,
)

_PERIOD = re.compile(r"([1-9][0-9]{0,5})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_COLUMNS = (
    "key_id",
    "role",
    "name",
    "status",
    "created",
    "expires",
    "last_used",
    "limits",
    "models",
    "address",
)

_Data = Annotated[Path, typer.Option(envvar="AITBC_DATA", help="Directory of the database.")]
_DATA = Path("aitbc-data")
_KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")]


def _expiry(text: str) -> datetime:
    """Returns when a key expires: after a period such as `30d`, or at a time."""
    if period := _PERIOD.fullmatch(text):
        return datetime.now(UTC) + timedelta(**{_UNITS[period[2]]: int(period[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("give a period such as 30d or 12h, or a time") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if at <= datetime.now(UTC):
        raise typer.BadParameter(f"{text} is over already")
    return at


def _name(text: str) -> str:
    if len(text) > 100 or not text.isprintable():
        raise typer.BadParameter("a name has at most 100 characters, all of them printable")
    return text


def _models(text: str) -> tuple[str, ...]:
    try:
        return parse_models(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


class _Limit(NamedTuple):
    name: str
    value: float | None


def _limit(text: str) -> _Limit:
    try:
        return _Limit(*parse_limit(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@cli.command()
def create(
    role: Annotated[
        Role,
        typer.Option(help="client submits jobs, miner takes them, admin may do everything."),
    ],
    name: Annotated[
        str, typer.Option(parser=_name, metavar="TEXT", help="What people call it.")
    ] = "",
    expires: Annotated[
        datetime | None,
        typer.Option(
            parser=_expiry,
            metavar="WHEN",
            help="When it ends: a period such as 30d or 12h, or a time such as 2027-01-31.",
            show_default="never",
        ),
    ] = None,
    limit: Annotated[
        list[_Limit] | None,
        typer.Option(
            parser=_limit, metavar="NAME=VALUE", help="A limit of its own, once for each."
        ),
    ] = None,
    models: Annotated[
        Any,
        typer.Option(
            parser=_models,
            metavar="NAME,...",
            help="Models that a miner may serve with it; `code*` is all that begin with `code`.",
            show_default="all",
        ),
    ] = None,
    data: _Data = _DATA,
) -> None:
    """Print a new key, once: only a hash of it is kept."""
    if models and role is not Role.MINER:
        raise typer.BadParameter("only a miner's key names models", param_hint="--models")
    text = new_key(secrets.randbelow)
    key = KeyRecord(
        key_id=key_id_of(text),
        digest=digest_of(text),
        role=role,
        name=name,
        created_us=_now_us(),
        expires_us=None if expires is None else int(expires.timestamp() * 1e6),
        limits={name: value for name, value in limit or () if value is not None},
        models=models or (),
    )
    with _keys(data) as keys:
        keys.create(key)
    say(f"Created {role} key {key.key_id}. It is not shown again:", err=True)
    typer.echo(text)


@cli.command(name="list")
def list_keys(
    data: _Data = _DATA,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, instead of a table.")
    ] = False,
) -> None:
    """List all keys, the revoked ones too. Uses are shown to within ten seconds."""
    with _keys(data, must_exist=True) as keys:
        rows = [_row(key) for key in keys.all()]
    if as_json:
        for row in rows:
            say(json.dumps(row))
        return
    table = [[column.upper() for column in _COLUMNS]]
    table += [[_cell(row.get(column)) for column in _COLUMNS] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    for cells in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        say(line.rstrip())


@cli.command(name="limit")
def limit_key(
    key_id: _KeyId,
    limits: Annotated[
        list[_Limit],
        typer.Argument(
            parser=_limit,
            metavar="NAME=VALUE...",
            help=f"{', '.join(NAMES)}. 0 is no limit, `default` the configured one.",
        ),
    ],
    data: _Data = _DATA,
) -> None:
    """Give a key limits of its own, from its next call on."""
    with _keys(data, must_exist=True) as keys:
        if not (is_key_id(key_id) and keys.limit(key_id, dict(limits))):
            _fail_unknown(key_id)
    say(f"Limited {key_id}.", err=True)


@cli.command(name="models")
def name_models(
    key_id: _KeyId,
    models: Annotated[
        Any,
        typer.Argument(
            parser=_models, metavar="NAME,...", help="As `create` takes them; `*` is all."
        ),
    ],
    data: _Data = _DATA,
) -> None:
    """Name the models that a miner's key may serve, from its next call on."""
    with _keys(data, must_exist=True) as keys:
        if not (is_key_id(key_id) and keys.set_models(key_id, models)):
            _fail(f"there is no miner's key {key_id!r}: `aitbc-coordinator keys list` shows them")
    typer.echo(f"{key_id} may serve {','.join(models)}.", err=True)


@cli.command()
def revoke(key_id: _KeyId, data: _Data = _DATA) -> None:
    """Revoke a key: a running server refuses it from the next call on."""
    with _keys(data, must_exist=True) as keys:
        if not (is_key_id(key_id) and keys.revoke(key_id, _now_us())):
            _fail_unknown(key_id)
    say(f"Revoked {key_id}.", err=True)


@contextmanager
def _keys(data: Path, *, must_exist: bool = False) -> Iterator[KeyFile]:
    if must_exist and not data.is_dir():
        _fail(f"there is no directory {data}: give the server's --data")
    try:
        with open_keys(data) as keys:
            yield keys
    except (OSError, SqliteTooOldError, UnusableDatabaseError) as error:
        _fail(str(error))


def _row(key: KeyRecord) -> dict[str, Any]:
    problem = key.problem(_now_us())
    row = {
        "key_id": key.key_id,
        "role": str(key.role),
        "name": key.name or None,
        "status": "active" if problem is None else "revoked" if key.revoked_us else "expired",
        "created": _shown(key.created_us),
        "expires": _shown(key.expires_us),
        "revoked": _shown(key.revoked_us),
        "last_used": _shown(key.last_used_us),
        "address": key.owner,
        "limits": dict(key.limits) or None,
        "models": list(key.models) or None,
    }
    return {name: value for name, value in row.items() if value is not None}


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={number:g}" for name, number in value.items())
    if isinstance(value, list):
        return ",".join(value)
    return "-" if value is None else str(value)


def _shown(at_us: int | None) -> str | None:
    if at_us is None:
        return None
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _now_us() -> int:
    return time.time_ns() // 1000


def _fail_unknown(key_id: str) -> NoReturn:
    _fail(f"there is no key {key_id!r}: `aitbc-coordinator keys list` shows their ids")


def _fail(problem: str) -> NoReturn:
    say(f"aitbc-coordinator: {problem}", err=True)
    raise typer.Exit(1)
