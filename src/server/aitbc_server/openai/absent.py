"""What clients of this API are told of the parts of it that are not served."""

from __future__ import annotations

import orjson

from aitbc_server.openai.errors import openai_response
from aitbc_server.openai.operations import OPERATIONS
from aitbc_server.rest.asgi import Response, Scope, json_response
from aitbc_server.rest.errors import RouteNotFound, error_response

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
# Every library of OpenAI's sends it.
_OF_ITS_LIBRARIES = b"x-stainless-lang"


def openai_absent(scope: Scope) -> Response | None:
    """Returns the answer of a path at which nothing is; None of one that is not this API's."""
    first, word = _words(scope["path"])
    is_its_clients = first in _VERSIONS and _OF_ITS_LIBRARIES in dict(scope["headers"])
    if not is_its_clients and word not in _WORDS and word not in _SERVED:
        return None
    where = f"{scope['method']} {scope['path']}"
    error = unknown_url(where)
    # Its caller may be of either API, so that it is told in the words of both.
    told = [one(error, where).text for one in (openai_response, error_response)]
    return json_response(404, orjson.dumps({**orjson.loads(told[0]), **orjson.loads(told[1])}))


def unknown_url(where: str) -> RouteNotFound:
    """Returns the error of a request to a path at which nothing is, `where` with its method."""
    return RouteNotFound(f"Unknown request URL: {where}.")


def _words(path: str) -> tuple[str, str]:
    """Returns the first word of a path, and the first that is no version."""
    first, _, rest = path.removeprefix("/api").removeprefix("/").partition("/")
    return first, rest.partition("/")[0] if first in _VERSIONS else first


# What is below these is told in the same words as they are, also without a version before them.
_SERVED = frozenset(_words(operation.path)[1] for operation in OPERATIONS)
