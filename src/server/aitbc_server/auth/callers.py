"""Turns the metadata of a call into its caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aitbc_server.config import AuthMode
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.errors import Unauthenticated

_ANONYMOUS = Caller()


def authenticator(mode: AuthMode) -> Callable[[Mapping[str, str]], Caller]:
    """Returns what identifies callers in this mode; it raises Unauthenticated.

    There are no keys yet: open to everybody, or, where one is required, to nobody.
    """

    def authenticate(metadata: Mapping[str, str]) -> Caller:
        if mode is AuthMode.REQUIRED:
            raise Unauthenticated
        return _ANONYMOUS

    return authenticate
