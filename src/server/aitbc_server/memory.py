"""How the C library keeps memory that was given back.

glibc makes arenas for threads, up to eight for each processor, and each keeps what was freed in it:
what one large message took on one thread is no use to the next one's. That made a message cost half
as much again, and kept it. Nearly all that is done here is done by one thread at a time.
"""

from __future__ import annotations

import ctypes

_ARENA_MAX = -8
_ARENAS = 2


def keep_little() -> None:
    """Has the C library keep little, where it is one that can be told to."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, _ARENAS)
