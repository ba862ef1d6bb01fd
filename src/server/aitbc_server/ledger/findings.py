"""What a verification finds."""

from __future__ import annotations


class LedgerWrong(Exception):
    """The first thing that is wrong with a ledger."""

    def __init__(self, item: str, problem: str) -> None:
        super().__init__(f"{item}: {problem}")
