"""Failures in Anthropic's shape: `{"type": "error", "error": {"type", "message"}}`."""

from __future__ import annotations

from typing import Any

import orjson

from aitbc_server.domain.call import current_call
from aitbc_server.openai.call import Dialect
from aitbc_server.openai.errors import openai_response
from aitbc_server.rest.asgi import Headers, Response, json_response

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# Anthropic's word for a server that has too much to do.
_STATUSES = {503: 529}
# Clients shorten their conversation at these words, and not at others.
_TOO_LONG = "prompt is too long: "
# What `json_response` says itself.
_MADE_ANEW = (b"content-type", b"content-length", b"cache-control", b"x-content-type-options")


def _failure(error: Exception, where: str, headers: Headers = ()) -> Response:
    known = openai_response(error, where, headers, messages={})
    status = _STATUSES.get(known.status, known.status)
    kept = [(name, value) for name, value in known.headers if name not in _MADE_ANEW]
    return json_response(status, _body(status, orjson.loads(known.text)["error"]), kept)


def _last_words(error: Exception, where: str) -> bytes:
    return b"event: error\ndata: %b\n\n" % _failure(error, where).text


def _body(status: int, told: dict[str, Any]) -> bytes:
    message, code = told["message"], told["code"]
    if code == "context_length_exceeded":
        message = _TOO_LONG + message
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": message}
    if code:
        error["details"] = {"error_code": code}
    return orjson.dumps(
        {"type": "error", "error": error, "request_id": current_call.get().request_id}
    )


ANTHROPIC = Dialect(
    _failure,
    _last_words,
    b'event: ping\ndata: {"type": "ping"}\n\n',
    (b"request-id", b"x-request-id"),
    ("authorization", "x-api-key"),
)
