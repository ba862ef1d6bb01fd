"""Runs a witness of one ledger, until it is told to stop."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path

import orjson
import typer

from aitbc_server.coordinator_http import published_at
from aitbc_server.ledger.checkpoint_file import CheckpointFile
from aitbc_server.ledger.cosignatures import Witness
from aitbc_server.ledger.findings import LedgerWrong
from aitbc_server.ledger.keys import Signer, create_key, load_signers
from aitbc_server.ledger.published import KEYS_PATH, NO_LEDGER
from aitbc_server.ledger.witness import CosignatureRefused, WitnessLog
from aitbc_server.terminal import say

_NAME = re.compile(r"[!-*,-~]{1,128}")
_NAME_FILE = "name"


def run_witness(
    url: str, data: Path, *, name: str | None, key: bytes | None, every_s: float | None
) -> None:
    """Follows the ledger at a base URL; looks once when `every_s` is None. Raises Exit."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        witness, signer = _identity(data, name)
    except (OSError, ValueError) as error:
        say(f"aitbc-coordinator: {error}", err=True)
        raise typer.Exit(1) from error
    say(witness.verifier_key)
    is_right = _look(url, data, witness, signer, key)
    while every_s is not None and not stopped.wait(every_s):
        is_right = _look(url, data, witness, signer, key)
    if every_s is None and not is_right:
        raise typer.Exit(1)


def _look(url: str, data: Path, witness: Witness, signer: Signer, key: bytes | None) -> bool:
    """Cosigns the newest checkpoint; says what it did, and whether it could. Raises Exit."""
    try:
        with published_at(url) as published:
            document = published.get(KEYS_PATH)
            if document is None:
                raise ValueError(f"nothing is at {KEYS_PATH}: is this a coordinator?")
            kept = CheckpointFile.of_ledger(orjson.loads(document)["origin"], data / "checkpoints")
            block = WitnessLog(
                published, witness, signer, kept, lambda: int(time.time()), key
            ).follow()
    except LedgerWrong as wrong:
        say(f"aitbc-coordinator: the ledger at {url} is wrong: {wrong}", err=True)
        raise typer.Exit(1) from wrong
    except (OSError, *NO_LEDGER, CosignatureRefused) as error:
        # Of the moment, or of the other side's settings: the next look may succeed.
        say(f"aitbc-coordinator: not cosigned: {error}", err=True)
        return False
    if block is not None:
        say(f"cosigned block {block.height}, {block.tree_size:,} receipts", err=True)
    return True


def _identity(data: Path, name: str | None) -> tuple[Witness, Signer]:
    """Returns who the witness is: decided at its first start. Raises OSError and ValueError."""
    signers = load_signers(data)
    signer = signers[-1] if signers else create_key(data)
    file = data / _NAME_FILE
    if file.exists():
        kept = file.read_text(encoding="utf-8").strip()
        if name not in (None, kept):
            raise ValueError(f"--name: this witness is {kept}, as {file} says")
        name = kept
    name = name or f"witness/{signer.public_key[:4].hex()}"
    if _NAME.fullmatch(name) is None:
        raise ValueError("--name: must have 1 to 128 printable characters, without spaces and `+`")
    if not file.exists():
        file.write_text(f"{name}\n", encoding="utf-8")
    return Witness(name, signer.public_key), signer
