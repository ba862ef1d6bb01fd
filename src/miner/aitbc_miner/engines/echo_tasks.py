"""What an echo makes of inputs: the same of the same, so that a test knows it.

Its tokens are the bytes of a text. Its vectors are drawn by a hash: those of different texts have
nothing to do with each other, and a score is the cosine of two of them.
"""

from __future__ import annotations

import hashlib
import math
from array import array

from aitbc_miner.engines.base import Job
from aitbc_miner.engines.tasks import Input, Made, Output, Task
from aitbc_miner.errors import BadRequest

DIMENSIONS = 16
_MOST_DIMENSIONS = 65_536
_BYTES = 256


def perform(job: Job) -> Made:
    """Does what the job asks. Raises BadRequest."""
    if job.task is Task.EMBED:
        size = job.dimensions or DIMENSIONS
        texts = [text.encode() for text in _said(job)]
        texts += [_text_of(*placed) for placed in enumerate(job.inputs)]
        return Made(
            outputs=[Output(vector=_vector(text, size)) for text in texts],
            prompt_tokens=sum(map(len, texts)),
        )
    if job.task is Task.SCORE:
        pairs = [(one.text.encode(), one.text_pair.encode()) for one in job.inputs]
        return Made(
            outputs=[Output(score=_cosine(*pair)) for pair in pairs],
            prompt_tokens=sum(len(text) + len(other) for text, other in pairs),
        )
    if job.task is Task.DETOKENIZE:
        texts = [_text_of(*placed) for placed in enumerate(job.inputs)]
        return Made(outputs=[Output(text=text.decode("utf-8", "replace")) for text in texts])
    texts = [text.encode() for text in (*_said(job), *(one.text for one in job.inputs))]
    has_texts = job.params.get("return_token_ids", False)
    return Made(
        outputs=[
            Output(token_ids=list(text), tokens=list(map(_token, text)) if has_texts else ())
            for text in texts
        ]
    )


def _said(job: Job) -> list[str]:
    return ["\n".join(one["content"] for one in job.messages)] if job.messages else []


def _text_of(place: int, one: Input) -> bytes:
    if not one.token_ids:
        return one.text.encode()
    if max(one.token_ids) >= _BYTES:
        most = max(one.token_ids)
        raise BadRequest(f"inputs[{place}]: {most} is no token: those of an echo are bytes")
    return bytes(one.token_ids)


def _token(byte: int) -> str:
    return chr(byte) if byte < 0x80 else f"<0x{byte:02X}>"


def _vector(text: bytes, size: int) -> list[float]:
    numbers = array("h", hashlib.shake_256(text).digest(2 * min(size, _MOST_DIMENSIONS)))
    length = math.hypot(*numbers) or 1.0
    return [number / length for number in numbers]


def _cosine(text: bytes, other: bytes) -> float:
    pair = zip(_vector(text, DIMENSIONS), _vector(other, DIMENSIONS), strict=True)
    return sum(one * two for one, two in pair)
