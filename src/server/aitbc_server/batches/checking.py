"""Checks the file of a batch before any of it is run.

What is wrong with one line is that line's fault alone, and is told in the error file. A batch
fails for what would leave its answers in doubt: two lines of one name, lines for another endpoint;
or when there is nothing to run.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from aitbc_server.aside import by_size
from aitbc_server.batches.lines import FileLine, LineReader
from aitbc_server.batches.requests import LineFault, read_request
from aitbc_server.domain.batches import BatchFault
from aitbc_server.slices import is_spent, next_turn

# Lines read at once, and about how many bytes of them.
_LINES = 200
_BYTES = 1024 * 1024
# Faults that are told.
_MOST_FAULTS = 100
_DIGEST_BYTES = 16


class Checked(NamedTuple):
    """What is known of a file."""

    total: int
    # Why it cannot be run; none where it can.
    faults: tuple[BatchFault, ...]


class FileCheck:
    """The check of one file."""

    def __init__(self, endpoint: str, *, most_lines: int, most_line_bytes: int) -> None:
        self._endpoint = endpoint
        self._most_lines = most_lines
        self._most_line_bytes = most_line_bytes
        self._total = 0
        self._is_any_good = False
        # Of the names that were seen, digests: names may be long.
        self._names: set[bytes] = set()
        # Faults of the whole file, and of single lines.
        self._faults: list[BatchFault] = []
        self._line_faults: list[BatchFault] = []

    async def check(self, lines: LineReader, turns: asyncio.Semaphore) -> Checked:
        """Reads all lines, some with each turn."""
        while not lines.is_at_end and self._total <= self._most_lines:
            # Of short lines there are thousands in what is read at once, and none waits for more.
            if is_spent():
                await next_turn()
            async with turns:
                some = await lines.some(_LINES, _BYTES)
                await by_size(sum(line.size for line in some), self._look_at, some)
        if self._total > self._most_lines:
            message = f"The file has more than {self._most_lines} requests."
            self._faults.insert(0, BatchFault("too_many_tasks", message))
        elif not self._total:
            message = "The file has no requests."
            self._faults.append(BatchFault("empty_file", message))
        elif not self._is_any_good and not self._faults:
            self._faults = self._line_faults
        return Checked(self._total, tuple(self._faults[:_MOST_FAULTS]))

    def _look_at(self, lines: Sequence[FileLine]) -> None:
        for line in lines:
            self._total += 1
            try:
                request = read_request(line.text, line.number, self._most_line_bytes)
            except LineFault as fault:
                if fault.custom_id is not None:
                    self._name(fault.custom_id, line.number)
                if len(self._line_faults) < _MOST_FAULTS:
                    one = BatchFault(fault.code, str(fault), fault.param, line.number)
                    self._line_faults.append(one)
                continue
            self._is_any_good = True
            self._name(request.custom_id, line.number)
            if request.url != self._endpoint:
                url = request.url[:100]
                message = f"The url {url!r} is not the endpoint of the batch, {self._endpoint}."
                self._fault(BatchFault("url_mismatch", message, "url", line.number))

    def _name(self, custom_id: str, number: int) -> None:
        digest = hashlib.blake2b(
            custom_id.encode(errors="replace"), digest_size=_DIGEST_BYTES
        ).digest()
        if digest in self._names:
            message = "The custom_id of this request is that of another one in the file."
            self._fault(BatchFault("duplicate_custom_id", message, "custom_id", number))
        self._names.add(digest)

    def _fault(self, fault: BatchFault) -> None:
        if len(self._faults) < _MOST_FAULTS:
            self._faults.append(fault)
