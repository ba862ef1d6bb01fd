"""Why an answer is not taken from a miner."""

from __future__ import annotations

from typing import NamedTuple

from aitbc_server.dispatch.live import CancelReason
from aitbc_server.domain.errors import MinerSignatureRefused


class Refusal(NamedTuple):
    """Why an answer is not taken."""

    # Of the attempt.
    code: str
    # What the miner did, after its name.
    problem: str
    # What it is told.
    reason: CancelReason = CancelReason.ANSWER_REFUSED


UNSIGNED = Refusal(
    MinerSignatureRefused.reason,
    "did not sign its result as its key demands",
    CancelReason.SIGNATURE_REFUSED,
)
