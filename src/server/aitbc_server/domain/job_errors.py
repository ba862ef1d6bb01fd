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
    # Whether only the coordinator says so: a miner that does is not believed.
    is_own: bool = False


# Of a job that was cancelled because nobody waited for it: its name is free again.
ABANDONED = "ABANDONED"

_RETRIED = "Nothing: it is tried again while attempts are left, of which it may have more."

# What only the client can mend: no miner can answer the job.
CLIENTS_CODES = frozenset(
    {"BAD_REQUEST", "CONTEXT_LENGTH_EXCEEDED", "RESULT_TOO_LARGE", "UNSUPPORTED_PART"}
)

JOB_ERRORS = (
    JobErrorRow(
        ABANDONED,
        "The clients that waited for its answer went away, or were told of an error.",
        "Send the request again: with the same `Idempotency-Key`, too, it is a new job.",
        is_own=True,
    ),
    JobErrorRow(
        "ANSWER_REFUSED",
        "What its miner said breaks a rule of the Work stream, or cannot be true.",
        _RETRIED,
        is_own=True,
    ),
    JobErrorRow("BAD_REQUEST", "The engine refuses what the job asks for.", "Correct the job."),
    JobErrorRow(
        "CONTEXT_LENGTH_EXCEEDED",
        "The prompt, with the tokens asked for, is longer than the model takes.",
        "Shorten it, or ask for fewer tokens.",
    ),
    JobErrorRow(
        "CANCELLED", "Its client cancelled it.", "Submit it again if it is wanted.", is_own=True
    ),
    JobErrorRow(
        "DEADLINE_EXCEEDED",
        "Its `timeout_seconds` passed.",
        "Give it more time, or add miners that serve its model.",
        is_own=True,
    ),
    JobErrorRow(
        "ENGINE_ANSWER_INVALID",
        "The miner's engine said what cannot be made sense of; the message says what.",
        _RETRIED,
    ),
    JobErrorRow("ENGINE_BUSY", "The engine had no room for it.", _RETRIED),
    JobErrorRow("ENGINE_DEAD", "The miner's engine died while it worked.", _RETRIED),
    JobErrorRow("ENGINE_FAILED", "The miner's engine failed; the message says how.", _RETRIED),
    JobErrorRow(
        "ENGINE_UNUSABLE",
        "The miner cannot use its engine, whatever the job: the message says why.",
        "Nothing: it is tried again, by other miners first, and this one is held back. Its operator"
        " reads the remedy in its log and among its `pauses`.",
    ),
    JobErrorRow(
        "JOB_TOO_LARGE",
        "It is larger than its miner takes.",
        "Nothing, where other miners serve its model; otherwise ask with fewer words.",
        is_own=True,
    ),
    JobErrorRow(
        "LEASE_EXPIRED", "Nothing was heard from its miner for too long.", _RETRIED, is_own=True
    ),
    JobErrorRow("MINER_FAILED", "Its miner gave no code; the message says more.", _RETRIED),
    JobErrorRow("MINER_RESTARTED", "Its miner came back without it.", _RETRIED, is_own=True),
    JobErrorRow("MINER_STOPPED", "Its miner was stopped before it was done.", _RETRIED),
    JobErrorRow(
        "MODEL_NOT_SERVED",
        "Its miner does not serve its model.",
        "Look at the miner's `--model` options.",
    ),
    JobErrorRow(
        "NOT_DELIVERED",
        "Its miner went before it began: the first three times no attempt is counted.",
        _RETRIED,
        is_own=True,
    ),
    JobErrorRow(
        "NO_PROGRESS",
        "Its miner made no progress for longer than its pace predicts.",
        _RETRIED,
        is_own=True,
    ),
    JobErrorRow("OVER_CAPACITY", "Its miner was given more than it takes.", _RETRIED),
    JobErrorRow(
        "POISON",
        "As many miner processes as `AITBC_POISON_AFTER` says, 2 by default, vanished while they "
        "had it. It may be what ended them, and is set aside.",
        "Look at its `attempts` and at the logs of their miners. If something else ended them, "
        "submit it again.",
        is_own=True,
    ),
    JobErrorRow(
        "RESULT_REJECTED",
        "The coordinator could not store the result; its log says why.",
        _RETRIED,
        is_own=True,
    ),
    JobErrorRow(
        "RESULT_TOO_LARGE",
        "Its answer has more bytes than its `max_tokens` or a result of the coordinator can have.",
        "Ask for fewer tokens, or for fewer log probabilities.",
    ),
    JobErrorRow(
        "UNSUPPORTED_PART",
        "A part of a message is of a type that its model does not take, such as an image.",
        "Send texts, or choose a model that takes it.",
    ),
)

OWN_CODES = frozenset(row.code for row in JOB_ERRORS if row.is_own)
