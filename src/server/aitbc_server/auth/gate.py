"""The one place where calls are let in: unary and streaming, gRPC and REST alike."""

from __future__ import annotations

from collections.abc import Mapping

from aitbc_server.auth.keyring import Keyring
from aitbc_server.config import AuthMode
from aitbc_server.domain.caller import Access, Caller, Role
from aitbc_server.domain.errors import PermissionDenied, Unauthenticated

_ANONYMOUS = Caller()
_BEARER = "bearer "


class Gate:
    """Identifies callers and checks what they may call."""

    def __init__(self, mode: AuthMode, keyring: Keyring) -> None:
        self._is_open = mode is AuthMode.OPEN
        self._keyring = keyring

    def admit(self, access: Access, metadata: Mapping[str, str], peer: str) -> Caller:
        """Returns who calls; `metadata` has lower-case names, `peer` is the address of the caller.

        Raises Unauthenticated, InvalidApiKey and PermissionDenied.
        """
        if access.is_public:
            return _ANONYMOUS
        text = _key_in(metadata)
        if text is None:
            # Nobody is an admin without saying so, not even on loopback.
            if self._is_open and not access.is_for_admins:
                return _ANONYMOUS
            raise Unauthenticated
        caller = self._keyring.find(text).caller
        if caller.role is not None and not access.admits(caller.role):
            raise PermissionDenied(_needs(access, caller.role))
        return caller

    def check_live(self, caller: Caller) -> None:
        """Raises InvalidApiKey when the key of a call that lasts is no longer valid."""
        if caller.key_id is not None:
            self._keyring.check_live(caller.key_id)


def _key_in(metadata: Mapping[str, str]) -> str | None:
    """Returns the key that came with a call, or None; an empty one is none."""
    key = metadata.get("x-api-key")
    if key:
        return key
    authorization = metadata.get("authorization")
    # Other schemes are between the caller and a proxy.
    if authorization is not None and authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip() or None
    return None


def _needs(access: Access, role: Role) -> str:
    roles = " or ".join(sorted({*access.roles, Role.ADMIN}))
    return f"this call needs a key of role {roles}; the role of this key is {role}"
