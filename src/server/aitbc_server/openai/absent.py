"""What clients of this API are told of the parts of it that are not served."""

from __future__ import annotations

from aitbc_server.openai.errors import openai_response
from aitbc_server.openai.operations import OPERATIONS
from aitbc_server.rest.asgi import Response
from aitbc_server.rest.errors import RouteNotFound

_VERSIONS = ("v1", "v2")
# First words of paths, below a version and without one: OpenAI's, vLLM's and Anthropic's.
_WORDS = frozenset(
    {
        *("assistants", "audio", "chatkit", "classify", "complete", "containers", "conversations"),
        *("edits", "embed", "engines", "evals", "fine-tunes", "fine_tuning", "generative_scoring"),
        *("images", "inference", "load_lora_adapter", "moderations", "organization", "pooling"),
        *("realtime", "skills", "threads", "tokenizer_info", "unload_lora_adapter", "uploads"),
        *("vector_stores", "videos"),
    }
)


def absent(path: str) -> Response | None:
    """Returns the answer of a path at which nothing is; None of one that is not this API's."""
    word = _word(path)
    return openai_response(RouteNotFound(), path) if word in _WORDS or word in _SERVED else None


def _word(path: str) -> str:
    first, _, rest = path.removeprefix("/api").removeprefix("/").partition("/")
    return rest.partition("/")[0] if first in _VERSIONS else first


# What is below these is told in the same words as they are.
_SERVED = frozenset(_word(operation.path) for operation in OPERATIONS)
