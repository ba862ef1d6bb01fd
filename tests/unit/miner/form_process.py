"""A process that compiles forms as a test says."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from typing import Any


def run(pipe: Connection, said: Any) -> None:
    """Takes the regex `ok`, hangs at `slow`, dies at `large`, and refuses others."""
    with open(said, "a") as file:
        file.write("started\n")
    pipe.send(None)
    while True:
        try:
            form = pipe.recv()
        except EOFError:
            return
        with open(said, "a") as file:
            file.write(f"{form['grammar']}\n")
        if form["grammar"] == "slow":
            time.sleep(600)
        if form["grammar"] == "large":
            os._exit(1)
        pipe.send(None if form["grammar"] == "ok" else "no such thing")
