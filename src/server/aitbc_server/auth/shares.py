"""What callers hold at once: each a share, and all together no more than there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aitbc_server.domain.caller import Caller, Role
from aitbc_server.domain.errors import TooManyCalls


class Shares:
    """Counts what is held. Admins have a share each too, but need not find room among all."""

    def __init__(self, name: str, *, each: int, visitors: int, total: int) -> None:
        """`name`: what is counted; `visitors`: how much callers without a key hold together."""
        self._name = name
        self._each = each
        self._visitors = visitors
        self._total = total
        self._by_account: Counter[str] = Counter()
        self._of_visitors = 0
        self._of_keys = 0

    def check(self, caller: Caller) -> None:
        """Raises TooManyCalls when there is no room for one more."""
        if self._by_account.get(caller.account, 0) >= self._each:
            raise _refused(f"{self._each:,} {self._name} at once are allowed")
        if caller.role is None:
            if self._of_visitors >= self._visitors:
                raise _refused(f"too many {self._name} of callers without a key")
        elif caller.role is not Role.ADMIN and self._of_keys >= self._total:
            raise _refused(f"too many {self._name} of all callers together")

    def take(self, caller: Caller) -> None:
        """Counts one more. Raises TooManyCalls."""
        self.check(caller)
        if caller.role is None:
            self._of_visitors += 1
        elif caller.role is not Role.ADMIN:
            self._of_keys += 1
        self._by_account[caller.account] += 1

    def give(self, caller: Caller) -> None:
        """Counts one less."""
        if caller.role is None:
            self._of_visitors -= 1
        elif caller.role is not Role.ADMIN:
            self._of_keys -= 1
        if self._by_account[caller.account] > 1:
            self._by_account[caller.account] -= 1
        else:
            del self._by_account[caller.account]

    @contextmanager
    def held(self, caller: Caller) -> Iterator[None]:
        """Counts one while it lasts. Raises TooManyCalls."""
        self.take(caller)
        try:
            yield
        finally:
            self.give(caller)


def _refused(why: str) -> TooManyCalls:
    return TooManyCalls(why, retry_after_s=1)
