"""Brings a database to the present schema: applies `sql/schema_*.sql` in order, forward only."""

from __future__ import annotations

from collections.abc import Callable

import sqlite_utils
from sqlite_utils import Migrations

from aitbc_server.store.connection import sqlite3
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.store.statements import schema_files, script

_SET = "aitbc"


class NewerSchemaError(UnusableDatabaseError):
    """The database was written by a newer coordinator."""


def migrate(connection: sqlite3.Connection) -> None:
    """Applies the migrations that the database lacks, all of them or none.

    Another process that does the same at once waits, and then finds nothing to do. Raises
    NewerSchemaError when the database holds a migration that this version does not know.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        _migrate(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection) -> None:
    check_known(connection)
    migrations = Migrations(_SET)
    for file in schema_files():
        migrations(name=file)(_migration(file))
    migrations.apply(sqlite_utils.Database(connection, execute_plugins=False))


def check_known(connection: sqlite3.Connection) -> bool:
    """Says whether a coordinator made the database; one that is empty is nobody's.

    Raises NewerSchemaError when it holds a migration of a newer version.
    """
    db = sqlite_utils.Database(connection, execute_plugins=False)
    if "_sqlite_migrations" not in db.table_names():
        return False
    rows = db.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", [_SET])
    names = {name for (name,) in rows}
    unknown = names - set(schema_files())
    if unknown:
        raise NewerSchemaError(
            f"the database holds {max(unknown)}, which this version does not know: it was written "
            "by a newer aitbc-coordinator; run that version, or restore an older backup"
        )
    return bool(names)


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
