"""Brings a database to the present schema: applies `sql/schema_*.sql` in order, forward only."""

from __future__ import annotations

from collections.abc import Callable

import sqlite_utils
from sqlite_utils import Migrations

from aitbc_server.store.connection import sqlite3
from aitbc_server.store.statements import schema_files, script


class NewerSchemaError(RuntimeError):
    """The database was written by a newer coordinator."""


def migrate(connection: sqlite3.Connection) -> None:
    """Applies the migrations that the database lacks, each in a transaction.

    Raises NewerSchemaError when it holds one that this version does not know.
    """
    db = sqlite_utils.Database(connection, execute_plugins=False)
    migrations = Migrations("aitbc")
    known = schema_files()
    for file in known:
        migrations(name=file)(_migration(file))
    unknown = {migration.name for migration in migrations.applied(db)} - set(known)
    if unknown:
        raise NewerSchemaError(
            f"the database holds {max(unknown)}, which this version does not know: it was written "
            "by a newer aitbc-coordinator; run that version, or restore an older backup"
        )
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
