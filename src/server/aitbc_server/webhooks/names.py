"""Looks up names as the system does, in threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence

from aitbc_server.webhooks.slots import Slots, acting_for

# A name server may be anybody's, and slow: so these threads do nothing else, and end with the
# process instead of keeping it.
_MOST_THREADS = 8
_MOST_EACH = 2


class SystemResolver:
    """Resolves names by getaddrinfo."""

    def __init__(self) -> None:
        self._threads = Slots(_MOST_THREADS, _MOST_EACH)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Returns the addresses of a name. Raises OSError and UnicodeError."""
        owner = acting_for.get()
        await self._threads.take(owner)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def look_up() -> None:
            try:
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found: list[str] | Exception = [str(address[0]) for *_, address in infos]
            except (OSError, UnicodeError) as error:
                found = error
            # The loop has ended when the process was told to stop meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, found)

        def finish(found: list[str] | Exception) -> None:
            self._threads.give(owner)
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        threading.Thread(target=look_up, name="webhook-dns", daemon=True).start()
        return await answer
