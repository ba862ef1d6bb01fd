"""The migrations, applied by sqlite-utils, which keeps which ones a database holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import sqlite_utils
from sqlite_utils import Migrations

from aitbc_server.store.connection import sqlite3
from aitbc_server.store.statements import script


def apply(connection: sqlite3.Connection, name: str, files: Iterable[str]) -> None:
    """Applies those of a set that the database lacks, within the transaction that is open."""
    migrations = Migrations(name)
    for file in files:
        migrations(name=file)(_migration(file))
    # Nothing of the connection changes that would not when nothing is lacking.
    db = sqlite_utils.Database(connection, execute_plugins=False, recursive_triggers=False)
    migrations.apply(db)


def _migration(file: str) -> Callable[[sqlite_utils.Database], None]:
    def apply(db: sqlite_utils.Database) -> None:
        # Statement by statement: executescript would first commit the migration's transaction.
        statement = ""
        for line in script(file).splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                db.execute(statement)
                statement = ""

    return apply
