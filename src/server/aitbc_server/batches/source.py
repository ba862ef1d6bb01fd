"""The file of a batch: its lines in order, and any of them again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from aitbc_server.aside import by_size
from aitbc_server.batches.lines import FileLine, LineReader
from aitbc_server.batches.requests import LineFault, Request, read_request


class Source:
    """Reads the file."""

    def __init__(self, content: Callable[[int], Awaitable[bytes]], most_line_bytes: int) -> None:
        """`content` returns some of the file from a place on, and nothing at its end."""
        self._content = content
        self._most_line_bytes = most_line_bytes

    def reader(self, offset: int = 0, number: int = 0) -> LineReader:
        """Returns the lines from a place on; `number` is that of the line before."""
        return LineReader(
            self._content, offset=offset, number=number, most_bytes=self._most_line_bytes
        )

    async def requests(
        self, lines: Sequence[FileLine]
    ) -> tuple[dict[int, Request], dict[int, LineFault]]:
        """Returns what lines ask and what is wrong with the others, by their numbers."""
        return await by_size(sum(line.size for line in lines), self._read_all, lines)

    async def request(self, number: int, offset: int) -> Request:
        """Returns what one line asks, which was right before."""
        (line,) = await self.reader(offset, number - 1).some(1, 1)
        return await by_size(line.size, read_request, line.text, number, self._most_line_bytes)

    def _read_all(
        self, lines: Sequence[FileLine]
    ) -> tuple[dict[int, Request], dict[int, LineFault]]:
        good: dict[int, Request] = {}
        bad: dict[int, LineFault] = {}
        for line in lines:
            try:
                good[line.number] = read_request(line.text, line.number, self._most_line_bytes)
            except LineFault as fault:
                bad[line.number] = fault
        return good, bad
