"""Whether an answer can be gone on with from its text."""

from __future__ import annotations

from aitbc_miner.engines.base import Job
from aitbc_miner.engines.tools import is_calling


def is_resumable(job: Job) -> bool:
    """Says whether the text of the beginning of an answer is all that its rest depends on."""
    params = job.params
    # How far a form or a call has come is no text.
    if job.form is not None or is_calling(job):
        return False
    # What is told of tokens would lack those of the beginning.
    if job.wants_details or any("parts" in message for message in job.messages):
        return False
    # The tokens that they count or look for would be taken for those of the prompt, or be missing.
    if params.get("presence_penalty") or params.get("frequency_penalty"):
        return False
    if "bad_words" in params or params.get("ignore_eos"):
        return False
    # The string may have begun in what was said.
    if params.get("include_stop_str_in_output") and params.get("stop"):
        return False
    # The same seed is to give the same text.
    return "seed" not in params or params.get("temperature") == 0
