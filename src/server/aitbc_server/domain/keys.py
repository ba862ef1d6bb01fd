"""API keys: how they are written, and what is kept of them.

Format: `aitbc_<id>_<secret>`. The id is 12 characters of lower-case letters and digits, and may be
shown: logs and lists name a key by it. The secret is 32 random letters and digits (190 bits) and a
CRC-32 of all that stands before it, as 6 more: who reads a key finds a slip of the pen without
asking anybody. Only a SHA-256 of the whole text is kept: nobody can guess 190 bits, so a slow hash
would protect nothing and cost every call.
"""

from __future__ import annotations

import hashlib
import re
import string
from binascii import crc32
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aitbc_server.domain.addresses import address_of
from aitbc_server.domain.caller import Role

PREFIX = "aitbc_"
_ID_LENGTH = 12
_SECRET_LENGTH = 32
_CHECKSUM_LENGTH = 6
_ID_ALPHABET = string.digits + string.ascii_lowercase
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(
    rf"{PREFIX}[0-9a-z]{{{_ID_LENGTH}}}_[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}"
)
_KEY_ID = re.compile(rf"[0-9a-z]{{{_ID_LENGTH}}}")
_ID_SLICE = slice(len(PREFIX), len(PREFIX) + _ID_LENGTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A stored key. Times are microseconds since the Unix epoch."""

    key_id: str
    # SHA-256 of the key's text.
    digest: bytes
    role: Role
    # What it is called by people; may be empty.
    name: str
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None
    # To within the interval at which uses are stored.
    last_used_us: int | None = None
    # Limits that are not the configured ones, by name.
    limits: Mapping[str, float] = field(default_factory=dict)
    # Models that it may serve; none for all. See allowed_models.py.
    models: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """Address of the key: owner of what is made with it."""
        return key_address(self.key_id)

    def problem(self, now_us: int) -> str | None:
        """Returns why the key is no longer valid; None while it is."""
        if self.revoked_us is not None:
            return "the API key was revoked"
        if self.expires_us is not None and self.expires_us <= now_us:
            return "the API key has expired"
        return None


def key_address(key_id: str) -> str:
    """Returns the address of a key."""
    return address_of(f"key:{key_id}")


def new_key(randbelow: Callable[[int], int]) -> str:
    """Returns a new key. `randbelow(n)` gives a number below n, as `secrets.randbelow` does."""
    key_id = "".join(_ID_ALPHABET[randbelow(len(_ID_ALPHABET))] for _ in range(_ID_LENGTH))
    secret = "".join(_ALPHABET[randbelow(len(_ALPHABET))] for _ in range(_SECRET_LENGTH))
    body = f"{PREFIX}{key_id}_{secret}"
    return body + _checksum(body)


def is_well_formed(text: str) -> bool:
    """Says whether the text can be a key: its form and checksum are right."""
    if _FORM.fullmatch(text) is None:
        return False
    return _checksum(text[:-_CHECKSUM_LENGTH]) == text[-_CHECKSUM_LENGTH:]


def key_id_of(text: str) -> str:
    """Returns the id that a key holds; of any other text, something that is no id of a key."""
    return text[_ID_SLICE]


def is_key_id(text: str) -> bool:
    """Says whether the text has the form of a key's id."""
    return _KEY_ID.fullmatch(text) is not None


def digest_of(text: str) -> bytes:
    """Returns what is kept of a key's text."""
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _checksum(body: str) -> str:
    rest, digits = crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
