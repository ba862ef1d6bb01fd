"""Whose key a miner comes with: the one that it registered, or one that this one endorsed."""

from __future__ import annotations

from aitbc.v1 import work_pb2
from aitbc_server.domain.caller import Caller, Role
from aitbc_server.domain.errors import MinerKeyRefused
from aitbc_server.domain.miners import MinerRecord
from aitbc_server.ledger.keys import is_signed_by

_PROOF = b"aitbc-miner-proof/v1\n"
_ENDORSEMENT = b"aitbc-miner-key/v1\n"


def check_key(
    known: MinerRecord | None, public_key: bytes, endorsement: bytes, caller: Caller
) -> None:
    """Raises MinerKeyRefused for another key than the miner registered, unless that endorsed it.

    An administrator may register any. No key at all stands for the one that is known.
    """
    registered = known.public_key if known is not None else b""
    if not registered or not public_key or public_key == registered or caller.role is Role.ADMIN:
        return
    if not is_signed_by(registered, endorsement, _ENDORSEMENT + public_key):
        raise MinerKeyRefused("the miner registered another key before")


def prove(known: MinerRecord | None, hello: work_pb2.Hello, nonce: str) -> bool:
    """Says whether the miner proved its key. Raises MinerKeyRefused where it must, or lied."""
    if not hello.proof:
        if known is not None and known.has_proved:
            raise MinerKeyRefused("the miner proved its key before, and this Hello does not")
        return False
    key = hello.public_key or (known.public_key if known is not None else b"")
    message = _PROOF + f"{nonce}\n{hello.miner_id}".encode()
    if not is_signed_by(key, hello.proof, message):
        raise MinerKeyRefused("the proof is not that of the miner's key")
    return True
