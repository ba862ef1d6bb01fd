"""What a job asks that bounds its answer, beside `max_tokens`.

Known of each job that is not final, also after a restart: an answer is held against it without
reading what was submitted.
"""

from __future__ import annotations

import json
from typing import NamedTuple


class Asks(NamedTuple):
    """What the answer of a job has beside its text."""

    # How many outputs it has, instead of a text.
    outputs: int = 0
    # Numbers of each vector, where it says how many.
    dimensions: int = 0
    # Images and the like, whose tokens nobody can guess by their size here.
    media: int = 0
    # Whether the ids of tokens are told, and probabilities of the prompt's.
    token_ids: bool = False
    prompt_logprobs: bool = False

    @property
    def prompt_details(self) -> bool:
        """Whether the prompt is told as the model was given it."""
        return self.token_ids or self.prompt_logprobs

    def stored(self) -> str | None:
        """Returns it as it is stored; None for what most jobs ask."""
        return None if self is PLAIN else json.dumps(self)

    @classmethod
    def read(cls, stored: str | None) -> Asks:
        """Reads what `stored` returned."""
        return PLAIN if stored is None else cls(*json.loads(stored))


PLAIN = Asks()
