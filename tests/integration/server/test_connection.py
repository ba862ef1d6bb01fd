"""Many processes may open the database of a new directory at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from aitbc_server.store.connection import connect
from aitbc_server.store.directory import FILE_NAME


def test_a_new_database_can_be_opened_by_many_at_once(tmp_path: Path) -> None:
    # Without turns, about every seventh of these directories fails with "database is locked".
    for directory in (tmp_path / str(number) for number in range(100)):
        directory.mkdir()
        together = Barrier(8)

        def open_it(_: int, directory: Path = directory, together: Barrier = together) -> str:
            together.wait()
            connection = connect(directory / FILE_NAME)
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            connection.close()
            return str(mode)

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(open_it, range(8))) == {"wal"}
