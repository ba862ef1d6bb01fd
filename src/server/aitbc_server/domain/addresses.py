"""Addresses: who pays and who is paid, such as `ait1q8z...`.

Format: Bech32 (https://github.com/bitcoin/bips/blob/master/bip-0173.mediawiki) with the prefix
`ait` over 20 bytes: the beginning of the SHA-256 of `aitbc-address/v1`, a newline and the subject.
Its checksum finds every mistake in up to four characters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_PREFIX = "ait"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_FORM = re.compile(rf"{_PREFIX}1[{_ALPHABET}]{{38}}")
_SHORTENED = re.compile(rf"{_PREFIX}1[a-z0-9]{{1,37}}(\.\.\.|…)")
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_EXPANDED_PREFIX = [ord(c) >> 5 for c in _PREFIX] + [0] + [ord(c) & 31 for c in _PREFIX]
_CHECKSUM_LENGTH = 6
_PAYLOAD_BYTES = 20


def address_of(subject: str) -> str:
    """Returns the address of a subject, such as `key:3fb1c2d4`: the same at every call."""
    digest = hashlib.sha256(f"aitbc-address/v1\n{subject}".encode()).digest()
    bits = int.from_bytes(digest[:_PAYLOAD_BYTES], "big")
    data = [bits >> shift & 31 for shift in range(8 * _PAYLOAD_BYTES - 5, -5, -5)]
    values = [*_EXPANDED_PREFIX, *data, *[0] * _CHECKSUM_LENGTH]
    checksum = _polymod(values) ^ 1
    data += [checksum >> shift & 31 for shift in range(5 * (_CHECKSUM_LENGTH - 1), -5, -5)]
    return f"{_PREFIX}1" + "".join(_ALPHABET[value] for value in data)


def is_address(text: str) -> bool:
    """Says whether the text is an address, its checksum included."""
    if _FORM.fullmatch(text) is None:
        return False
    data = [_ALPHABET.index(c) for c in text[len(_PREFIX) + 1 :]]
    return _polymod([*_EXPANDED_PREFIX, *data]) == 1


def is_shortened(text: str) -> bool:
    """Says whether the text stands for an address as people shorten it: `ait1client...`."""
    return _SHORTENED.fullmatch(text) is not None


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                checksum ^= generator
    return checksum
