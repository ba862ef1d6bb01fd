"""Answers that callers have not taken yet: who asks for much and reads nothing fills the memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from aitbc_server.domain.call import current_call
from aitbc_server.domain.caller import Caller, Role
from aitbc_server.domain.errors import TooMuchUnread

_Key = TypeVar("_Key")

# Bytes of one caller; of all callers without a key together; of all with one.
_MOST = 32 * 1024 * 1024
_OF_VISITORS = 96 * 1024 * 1024
_OF_KEYS = 256 * 1024 * 1024
# Answers that are not worth counting: how many calls there are is bounded, too.
SMALL_BYTES = 16 * 1024


class Unread:
    """Counts the bytes of large answers, whichever way they go, by the account of their callers.

    Admins have a bound each, too, but need not find room among all. What a call holds already never
    stands in its own way: it has one answer, in several forms. A form that is no larger than what
    the call holds always finds room: no stream is ended for what others began after it.
    """

    def __init__(
        self, most: int = _MOST, *, visitors: int = _OF_VISITORS, total: int = _OF_KEYS
    ) -> None:
        """`most`: bytes of one caller. One answer alone may be larger, here and of all."""
        self._most = most
        self._visitors = visitors
        self._total = total
        self._by_account: Counter[str] = Counter()
        # By call, which is told apart by which object it is: clients choose its words.
        self._by_call: Counter[int] = Counter()
        self._of_visitors = 0
        self._of_keys = 0

    def check(self, caller: Caller) -> None:
        """Raises TooMuchUnread for a caller who has to read first."""
        if self._by_account.get(caller.account, 0) >= self._most:
            raise _refused("answers", self._most)

    def hold(self, caller: Caller, size: int) -> Callable[[object], None]:
        """Counts an answer until what is returned is called. Raises TooMuchUnread."""
        account, role, call = caller.account, caller.role, current_call.get()
        # What belongs to no call has no name.
        own = self._by_call.get(id(call), 0) if call.request_id else 0
        before = self._by_account.get(account, 0)
        if size > own:
            self._find_room(role, size, before, own)
        if role is None:
            self._of_visitors += size
        elif role is not Role.ADMIN:
            self._of_keys += size
        self._by_account[account] = before + size
        self._by_call[id(call)] += size

        def release(_: object) -> None:
            if role is None:
                self._of_visitors -= size
            elif role is not Role.ADMIN:
                self._of_keys -= size
            _decrease(self._by_account, account, size)
            # The call is held by this, so that no other one has its place.
            _decrease(self._by_call, id(call), size)

        return release

    def _find_room(self, role: Role | None, size: int, before: int, own: int) -> None:
        """Raises TooMuchUnread. `before`: bytes of the caller, `own` of them those of the call."""
        if before > own and before + size > self._most:
            raise _refused("answers", self._most)
        if role is None:
            if self._of_visitors > own and self._of_visitors + size > self._visitors:
                raise _refused("answers to callers without a key", self._visitors)
        elif role is not Role.ADMIN and self._of_keys > own and self._of_keys + size > self._total:
            raise _refused("answers to all callers", self._total)

    @contextmanager
    def held(self, caller: Caller, size: int) -> Iterator[None]:
        """Counts an answer while it lasts. Raises TooMuchUnread."""
        release = self.hold(caller, size)
        try:
            yield
        finally:
            release(None)


def _decrease(counter: Counter[_Key], key: _Key, by: int) -> None:
    counter[key] -= by
    if not counter[key]:
        del counter[key]


def _refused(whose: str, most: int) -> TooMuchUnread:
    return TooMuchUnread(
        f"{whose} of {most:,} bytes wait to be read: read them first", retry_after_s=1
    )
