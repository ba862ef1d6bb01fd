"""Runs commands on a terminal of their own, and returns what they write to it."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence

# What a terminal obeys: a title, the clipboard, a command in one byte, a text turned round.
HOSTILE = "\x1b]0;pwned\x07\x1b]52;c;cHduZWQ=\x07\x9b2J\x7f\u202egnp.exe\u2066\rover"
SHOWN = r"\u001b]0;pwned\u0007\u001b]52;c;cHduZWQ=\u0007\u009b2J\u007f\u202egnp.exe\u2066\u000dover"


def on_terminal(command: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> str:
    """Returns all that a command writes to its terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, env={**environment, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                # The other side is closed.
                break
            if not part:
                break
            written += part
        process.wait(timeout_s)
    finally:
        process.kill()
        os.close(ours)
    return written.decode()


def assert_harmless(written: str) -> None:
    """Asserts that nothing of HOSTILE reached the terminal as it is."""
    for raw in ("\x1b]", "\x07", "\x9b", "\x7f", "\u202e", "\u2066", "\rover"):
        assert raw not in written, repr(written)
