"""What a job asks that bounds its answer, beside `max_tokens`.

Known of each job that is not final, also after a restart: an answer is held against it without
reading what was submitted.
"""

from __future__ import annotations

import json
from typing import NamedTuple

# Calls of tools that an answer may have.
MOST_CALLS = 128
# Likeliest tokens that may be asked for at each place.
MOST_LIKELIEST = 20


class Asks(NamedTuple):
    """What the answer of a job has beside its text."""

    # How many outputs it has, instead of a text.
    outputs: int = 0
    # Numbers of each vector, where it says how many.
    dimensions: int = 0
    # Images and the like, whose tokens nobody can guess by their size here.
    media: int = 0
    # Whether the ids of tokens are told.
    token_ids: bool = False
    # At each place of the answer and of the prompt, how many of the likeliest tokens are told
    # beside the one that stands there. None: no probabilities at all.
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    # Most calls of tools.
    calls: int = 0
    # Whether there are strings that end the answer.
    stop_strings: bool = False

    @property
    def prompt_details(self) -> bool:
        """Whether the prompt is told as the model was given it."""
        return self.token_ids or self.prompt_logprobs is not None

    def stored(self) -> str:
        """Returns it as it is stored."""
        if self == PLAIN:
            return _PLAIN
        known = PLAIN._asdict()
        return json.dumps({name: one for name, one in self._asdict().items() if one != known[name]})

    @classmethod
    def read(cls, stored: str | None) -> Asks:
        """Reads what `stored` returned, now or in an older version, which returned None of most."""
        if stored == _PLAIN:
            return PLAIN
        if stored is None:
            return _UNKNOWN
        told = json.loads(stored)
        if isinstance(told, dict):
            return cls(**told)
        outputs, dimensions, media, token_ids, has_prompt_logprobs = told
        return _UNKNOWN._replace(
            outputs=outputs,
            dimensions=dimensions,
            media=media,
            token_ids=token_ids,
            prompt_logprobs=MOST_LIKELIEST if has_prompt_logprobs else None,
        )


PLAIN = Asks()
_PLAIN = "{}"
# Of older versions, which noted less: what they did not note may have been asked.
_UNKNOWN = Asks(logprobs=MOST_LIKELIEST, calls=MOST_CALLS, stop_strings=True)
