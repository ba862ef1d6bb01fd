"""Runs `aitbc-coordinator` with a clock that can be stepped, and with a planted bug if asked.

`python -m chaos.coordinator serve ...`. The clock and the bugs live here, so that the product has
no switch for either. Environment: CHAOS_CLOCK names the file with the clock's offset, CHAOS_BUG the
bug.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from aitbc_server import app, cli
from aitbc_server.clock import SystemClock
from chaos.bugs import BUGS

CLOCK_VARIABLE = "CHAOS_CLOCK"
BUG_VARIABLE = "CHAOS_BUG"

# Microseconds that the wall clock is ahead.
_OFFSET = struct.Struct("<q")


class ClockFile:
    """A file with the offset of somebody's clock, mapped by who sets it and who reads it."""

    def __init__(self, path: Path) -> None:
        """Makes the file, with an offset of 0, unless it exists."""
        with path.open("a+b") as file:
            if file.tell() < _OFFSET.size:
                file.write(_OFFSET.pack(0))
                file.flush()
            self._map = mmap.mmap(file.fileno(), _OFFSET.size)

    @property
    def offset_us(self) -> int:
        """Microseconds that the clock is ahead."""
        offset: int = _OFFSET.unpack_from(self._map)[0]
        return offset

    def step(self, by_us: int) -> None:
        """Steps the clock."""
        _OFFSET.pack_into(self._map, 0, self.offset_us + by_us)


class SteppedClock(SystemClock):
    """The machine's time, with the wall clock set wrong. The monotonic clock never steps."""

    def __init__(self) -> None:
        self._file = ClockFile(Path(os.environ[CLOCK_VARIABLE]))

    def wall_us(self) -> int:
        """Returns microseconds since the Unix epoch, or so it believes."""
        return super().wall_us() + self._file.offset_us


def main() -> None:
    """Plants what was asked for and runs the command."""
    if CLOCK_VARIABLE in os.environ:
        app.SystemClock = SteppedClock  # type: ignore[attr-defined]
    bug = os.environ.get(BUG_VARIABLE)
    if bug:
        BUGS[bug]()
    cli.main()


if __name__ == "__main__":
    main()
