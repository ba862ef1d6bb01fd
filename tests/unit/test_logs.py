"""What cannot be logged is lost, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO

import pytest

from aitbc_miner import logs as miner_logs
from aitbc_server import logs as server_logs


@pytest.mark.parametrize("unbreakable", [server_logs.Unbreakable, miner_logs.Unbreakable])
def test_a_log_whose_reader_went_away_takes_what_comes(
    unbreakable: Callable[[TextIO], TextIO],
) -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w", buffering=1)
    log = unbreakable(stream)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        stream.write("line\n")
    for _ in range(2):
        assert log.write("line\n") == 5
        log.flush()
    with pytest.raises(BrokenPipeError):
        stream.close()
    assert log.write("after the end\n")
