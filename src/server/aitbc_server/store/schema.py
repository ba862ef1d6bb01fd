"""Brings a database to the present schema: applies `sql/schema_*.sql` in order, forward only."""

from __future__ import annotations

from aitbc_server.store.connection import sqlite3
from aitbc_server.store.failures import UnusableDatabaseError
from aitbc_server.store.statements import schema_files

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
        files = schema_files()
        if applied(connection) != set(files):
            # Here: sqlite-utils takes a fifth of a second to load, and most starts lack nothing.
            from aitbc_server.store.migrations import apply

            apply(connection, _SET, files)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def applied(connection: sqlite3.Connection) -> set[str]:
    """Returns the migrations that the database holds; none when no coordinator made it.

    Raises NewerSchemaError when there is one of a newer version.
    """
    table = "SELECT 1 FROM sqlite_schema WHERE name = '_sqlite_migrations'"
    if connection.execute(table).fetchone() is None:
        return set()
    rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", [_SET])
    names = {name for (name,) in rows}
    unknown = names - set(schema_files())
    if unknown:
        raise NewerSchemaError(
            f"the database holds {max(unknown)}, which this version does not know: it was written "
            "by a newer aitbc-coordinator; run that version, or restore an older backup"
        )
    return names
