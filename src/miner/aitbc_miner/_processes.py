"""Ends the processes below the miner: no engine outlives it and keeps the GPU's memory."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from typing import NoReturn


def end_with_parent() -> None:
    """In a process that `multiprocessing` started, ends it as soon as its parent is gone.

    vLLM's engine process would not notice that the miner was killed. A process that is spawned
    imports the program's main module, so that a call from there reaches it.
    """
    if multiprocessing.current_process().name == "MainProcess":
        return

    def wait() -> None:
        # The parent is known a moment after the import of the main module.
        while (parent := multiprocessing.parent_process()) is None:
            time.sleep(0.05)
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


def leave_now() -> NoReturn:
    """Ends the process, and below it a download or an engine that loads.

    For a miner that holds nothing yet. The thread that loads cannot be interrupted, and Python
    would wait for it.
    """
    # Here: every process that vLLM spawns imports this module, and none of them needs it.
    import psutil

    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(0)
