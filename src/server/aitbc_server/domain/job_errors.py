"""Why a job or an attempt ended without a result: the codes in `JobError.code`.

Miners choose codes of their own; listed are the coordinator's, and those of the miner that comes
with it.
"""

from __future__ import annotations

from typing import NamedTuple


class JobErrorRow(NamedTuple):
    """One code."""

    code: str
    cause: str
    remedy: str


_RETRIED = "Nothing: it is tried again while attempts are left, of which it may have more."

JOB_ERRORS = (
    JobErrorRow("BAD_REQUEST", "The engine refuses what the job asks for.", "Correct the job."),
    JobErrorRow("CANCELLED", "Its client cancelled it.", "Submit it again if it is wanted."),
    JobErrorRow(
        "DEADLINE_EXCEEDED",
        "Its `timeout_seconds` passed.",
        "Give it more time, or add miners that serve its model.",
    ),
    JobErrorRow("ENGINE_BUSY", "The engine had no room for it.", _RETRIED),
    JobErrorRow("ENGINE_DEAD", "The miner's engine died while it worked.", _RETRIED),
    JobErrorRow("ENGINE_FAILED", "The miner's engine failed; the message says how.", _RETRIED),
    JobErrorRow("LEASE_EXPIRED", "Nothing was heard from its miner for too long.", _RETRIED),
    JobErrorRow("MINER_FAILED", "Its miner gave no code; the message says more.", _RETRIED),
    JobErrorRow("MINER_RESTARTED", "Its miner came back without it.", _RETRIED),
    JobErrorRow("MINER_STOPPED", "Its miner was stopped before it was done.", _RETRIED),
    JobErrorRow(
        "MODEL_NOT_SERVED",
        "Its miner does not serve its model.",
        "Look at the miner's `--model` options.",
    ),
    JobErrorRow(
        "NOT_DELIVERED",
        "Its miner went before it began: no attempt is counted.",
        "Nothing: it is tried again.",
    ),
    JobErrorRow(
        "NO_PROGRESS", "Its miner made no progress for longer than its pace predicts.", _RETRIED
    ),
    JobErrorRow("OVER_CAPACITY", "Its miner was given more than it takes.", _RETRIED),
    JobErrorRow(
        "RESULT_REJECTED", "The coordinator could not store the result; its log says why.", _RETRIED
    ),
)
