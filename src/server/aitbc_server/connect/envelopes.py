"""Messages in bodies that may have many: a byte of flags, four of the length, and the message.

A request has one message. What comes is bounded before it is unpacked, and what it becomes, too.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from aitbc_server.aside import LARGE_BYTES, aside
from aitbc_server.domain.errors import InvalidArgument, PayloadTooLarge
from aitbc_server.rest.errors import UnexpectedCompression, Unimplemented

HEAD_BYTES = 5
_PACKED = 1
GZIP = "gzip"
# Reads gzip, and nothing else.
_GZIP_ONLY = 31


class Wrapped(NamedTuple):
    """One message, as it came: packed with gzip or not."""

    data: bytes
    is_packed: bool


def enveloped(flags: int, data: bytes) -> bytes:
    """Returns data in an envelope."""
    return b"%c%b%b" % (flags, len(data).to_bytes(4, "big"), data)


def unwrapped(body: bytes, packing: str | None, most: int) -> Wrapped:
    """Returns the only message of a body, whose headers say how messages may be packed.

    Raises InvalidArgument, Unimplemented, UnexpectedCompression, and PayloadTooLarge for one of
    more than `most` bytes.
    """
    if not body:
        raise Unimplemented("the call has no message, and must have one")
    flags, size = body[0], int.from_bytes(body[1:HEAD_BYTES], "big")
    if flags & ~_PACKED:
        raise InvalidArgument("message", f"has flags that a request cannot have: {flags:#04x}")
    if flags and packing is None:
        raise UnexpectedCompression
    if size > most:
        raise PayloadTooLarge(most)
    came = len(body) - HEAD_BYTES
    if came < size:
        raise InvalidArgument("message", "ends before the length that it has given")
    if came > size:
        raise Unimplemented("the call has more than one message, and must have one")
    # What is empty is not packed, whatever its flags say.
    return Wrapped(body[HEAD_BYTES:], bool(flags and size))


def coding(said: str | None, header: bytes) -> str | None:
    """Returns how messages that are packed are so, from what a header says; None: not at all.

    Raises Unimplemented, with the header that says what is known.
    """
    if said in {None, "", "identity"}:
        return None
    if said != GZIP:
        message = f"the compression {str(said)[:32]!r} is not known: gzip is"
        raise Unimplemented(message, headers=((header, GZIP.encode()),))
    return GZIP


async def unpacked(data: bytes, most: int) -> bytes:
    """Returns what was packed with gzip. Raises InvalidArgument and PayloadTooLarge."""
    unpacking = zlib.decompressobj(_GZIP_ONLY)
    try:
        # A thousand times as much may come out: what is more than a little is done beside the loop.
        found = unpacking.decompress(data, min(LARGE_BYTES, most + 1))
        if unpacking.unconsumed_tail and len(found) <= most:
            rest = most + 1 - len(found)
            found += await aside(unpacking.decompress, unpacking.unconsumed_tail, rest)
    except zlib.error:
        raise InvalidArgument("message", "is not what gzip writes") from None
    if len(found) > most:
        raise PayloadTooLarge(most)
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidArgument("message", "is not what gzip writes")
    return found
