"""What a server's refusal means: whose fault it is, for how long it lasts, and what to tell.

Only a refusal that is the job's fault is told in the server's own words, for only the job's client
reads them. The others go to logs and pages: they are told by their status and the server's code.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from aitbc_miner.errors import (
    CONTEXT_LENGTH_EXCEEDED,
    BadRequest,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineUnusable,
    Fault,
)

# Bytes of a refusal that are read, which may quote the job, and characters of it that are told.
MOST_BODY_BYTES = 2**22
_MOST_CHARACTERS = 600
# Longest time for which a server is spared because it says so.
_MOST_RETRY_AFTER_S = 300.0

_SERVER = "the OpenAI-compatible server"

# By the status, where the code does not say more.
_JOBS_STATUS = {400, 413, 422}
# Not now rather than never.
_PASSING_STATUS = {408, 409, 420, 423, 424, 425, 429, 499}
# The key, the account, the model or the address is wrong: so it is for every job.
_MINERS_STATUS = {401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426, 451, 501, 505, 511}
_BUSY_STATUS = {408, 425, 429}

# By the server's own code or type, which says more than the status.
_FAULTS = {
    **dict.fromkeys(
        (
            "invalid_api_key",
            "incorrect_api_key",
            "api_key_invalid",
            "api_key_expired",
            "api_key_service_blocked",
            "authentication_error",
            "unauthenticated",
            "unauthorized",
            "access_denied",
            "permission_error",
            "permission_denied",
            "account_deactivated",
            "billing_hard_limit_reached",
            "billing_not_active",
            "billing_disabled",
            "billing_error",
            "consumer_suspended",
            "service_disabled",
            # Google's word for an account without billing, and for a country it does not serve.
            "failed_precondition",
            "insufficient_quota",
            "insufficient_credits",
            "credit_balance_too_low",
            "model_not_found",
            "model_not_available",
            "model_not_active",
            "notfounderror",
            "deploymentnotfound",
        ),
        Fault.MINER,
    ),
    **dict.fromkeys(
        (
            "rate_limit_exceeded",
            "rate_limit_error",
            "overloaded_error",
            "engine_overloaded",
            "server_error",
            "internal_error",
            "internal_server_error",
            "internalservererror",
            "service_unavailable",
            "timeout",
            "timeout_error",
            "unavailable_error",
        ),
        Fault.PASSING,
    ),
    **dict.fromkeys(
        (
            "context_length_exceeded",
            "exceed_context_size_error",
            "content_policy_violation",
            "content_filter",
            "moderation_blocked",
            "invalid_prompt",
            "invalid_request_error",
            "badrequesterror",
            "string_above_max_length",
            "request_too_large",
        ),
        Fault.JOB,
    ),
}
_CONTEXT_CODES = {"context_length_exceeded", "exceed_context_size_error"}
_CONTEXT_TEXT = re.compile(
    r"context[ _](length|window|size)|maximum (model|context|sequence|input)? ?length|"
    r"(prompt|input|request) is too long|too many (input |prompt )?tokens",
    re.IGNORECASE,
)
# Only what a message begins with: what follows may quote the job, which must not blame the miner.
_KEY_TEXT = re.compile(
    r"(error: ?)?((your|the|no|an?) )?((incorrect|invalid|missing|expired|unknown|wrong|bad) )?"
    r"((your|openai) )?"
    r"(api[ _-]?key|authentication( credentials?| token)?|bearer token|credentials)"
    r"( (provided|supplied|passed|you|was|is|has|been|not|no|found|valid|invalid|expired|incorrect"
    r"|missing|required|disabled|revoked|failed|error)\b|[.:,!]|$)|"
    r"you (didn't|did not|must|do not have) (provide an api key|permission|access to)|"
    r"(could not validate credentials|not authenticated|permission (was )?denied|unauthori[sz]ed"
    r"|unauthenticated)\b",
    re.IGNORECASE,
)
_BILLING_TEXT = re.compile(
    r"(error: ?)?(your |the )?(account|billing|credit balance|insufficient (credit|fund|balance)|"
    r"(you )?(have )?exceeded your (current )?quota|please enable billing)",
    re.IGNORECASE,
)
_UNKNOWN_TEXT = re.compile(
    r"(extra|additional)[ _](inputs?|fields?|propert|param|argument|forbidden|keys?)|"
    r"unrecogni[sz]ed|"
    r"(unknown|unexpected|unsupported|invalid)[ _](request[ _])?"
    r"(param|argument|field|keyword|key\b|option|propert)|"
    r"(param|argument|field|option|propert)\w*( is| are)? (unknown|unsupported|unexpected|not )",
    re.IGNORECASE,
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_PARAM = re.compile(r"[a-z_]{1,64}(\[\d{1,9}\])?")
# Characters that are none of a sentence: controls, ends of lines, and changes of direction.
_UNFIT = re.compile(
    "[\\x00-\\x20\\x7f-\\xa0\\u061c\\u200b-\\u200f\\u2028-\\u202f\\u2060-\\u206f\\ud800-\\udfff"
    "\\ufeff\\ufff0-\\uffff]+"
)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a refusal says of itself."""

    text: str = ""
    # As the server writes them; empty when it gives none that is a word.
    codes: tuple[str, ...] = ()
    param: str = ""
    # The status that it names, within a stream.
    status: int | None = None


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> EngineError:
    """Returns what an answer of another status than 200 means."""
    told = _told(_json(body), body.decode("utf-8", "replace"))
    return _error(status, told, retry_after_s(headers))


def may_refuse(names: Iterable[str], others: Iterable[str], body: bytes) -> bool:
    """Returns whether a refusal may be about a field, which has one of the names, as unknown.

    It may when it names the field, or a field without a name. `others`: those that it may name too.
    """
    if any(name.encode() in body for name in names):
        return True
    told = _told(_json(body), body.decode("utf-8", "replace"))
    said = " ".join((told.text, *told.codes))
    if told.param or not _UNKNOWN_TEXT.search(said):
        return False
    return not any(re.search(rf"\b{re.escape(other)}\b", said) for other in others)


def failure_within(event: Mapping[str, Any]) -> EngineError:
    """Returns what an error means that came as a part of an answer."""
    told = _told(event, "")
    return _error(told.status or 500, told, None, where=" within the answer")


def unreachable(error: httpx.HTTPError | httpx.InvalidURL) -> EngineError:
    """Returns what an exchange means that broke."""
    name = type(error).__name__
    if isinstance(error, _ABSENT):
        return EngineUnusable(f"{_SERVER} cannot be reached: {name}")
    return EngineFailed(f"{_SERVER} did not answer to the end: {name}")


# It is not there, or what is there does not speak HTTP.
_ABSENT = (
    httpx.InvalidURL,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.TooManyRedirects,
)


def retry_after_s(
    headers: Mapping[str, str], clock: Callable[[], float] = time.time
) -> float | None:
    """Returns for how long a server wants to be spared, in whichever form it says so."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        told = headers.get(name, "").strip()
        try:
            # What is sent twice is joined by a comma, which a date has too.
            seconds = float(told.partition(",")[0]) * unit_s
        except ValueError:
            seconds = _until(told, clock())
        if seconds >= 0.0:
            return min(seconds, _MOST_RETRY_AFTER_S)
    return None


def _until(date: str, now: float) -> float:
    """Returns the seconds until a date; a negative number when it is none."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return -1.0


def _error(status: int, told: _Told, retry_after_s: float | None, where: str = "") -> EngineError:
    fault = _fault(status, told)
    code = told.codes[0] if told.codes else ""
    answered = f"{status} {code}".strip()
    if fault is Fault.JOB:
        return _bad_request(answered, told)
    if fault is Fault.MINER:
        message = f"{_SERVER} {_remedy(status, told)} ({answered})"
        return EngineUnusable(message, retry_after_s=retry_after_s)
    kind = EngineBusy if status in _BUSY_STATUS else EngineFailed
    return kind(f"{_SERVER} answered {answered}{where}", retry_after_s=retry_after_s)


def _fault(status: int, told: _Told) -> Fault:
    is_of_account = bool(_KEY_TEXT.match(told.text) or _BILLING_TEXT.match(told.text))
    is_vague = status in _MINERS_STATUS or status in _PASSING_STATUS or is_of_account
    for code in told.codes:
        known = _FAULTS.get(code.lower())
        # The name of a kind of error does not outweigh a status that says more.
        if known is not None and not (is_vague and code.lower() in _KINDS):
            return known
    if is_of_account and status not in _PASSING_STATUS:
        return Fault.MINER
    if status in _JOBS_STATUS:
        return Fault.JOB
    if status in _MINERS_STATUS or status < 200 or 300 <= status < 400:
        return Fault.MINER
    return Fault.PASSING


# Types that servers give to errors of many statuses.
_KINDS = {"invalid_request_error", "badrequesterror"}


def _bad_request(answered: str, told: _Told) -> BadRequest:
    codes = {code.lower() for code in told.codes}
    is_context = bool(codes & _CONTEXT_CODES or _CONTEXT_TEXT.search(told.text))
    # The parameter that is to blame comes first: so do all engines.
    blamed = f"{told.param}: " if told.param else ""
    text = told.text or "the server gave no reason"
    return BadRequest(
        f"{blamed}{text} ({_SERVER} answered {answered})",
        reason=CONTEXT_LENGTH_EXCEEDED if is_context else None,
    )


def _remedy(status: int, told: _Told) -> str:
    codes = {code.lower() for code in told.codes}
    is_key = any("api_key" in code or "authenti" in code for code in codes)
    if status in (401, 407) or is_key or _KEY_TEXT.match(told.text):
        return "refuses the miner's key: correct --engine-opt api_key"
    is_unpaid = any("quota" in code or "billing" in code for code in codes)
    if status == 402 or is_unpaid or _BILLING_TEXT.match(told.text):
        return "wants the miner's account to be paid"
    if status == 403:
        return "does not allow this to the miner's key"
    if status in (404, 410) or any("model" in code for code in codes):
        return "does not have the model, or no API at this address: correct --model or base_url"
    if 300 <= status < 400:
        return "sends the miner to another address: correct --engine-opt base_url"
    return "does not serve this miner"


def _told(document: Any, text: str) -> _Told:
    """Reads what servers write about errors, each in its own way."""
    layers = _layers(document)
    if not layers:
        return _Told(clean(text))
    messages = (layer[key] for layer in layers for key in _MESSAGES if layer.get(key))
    message = next(messages, "")
    if isinstance(message, list) and isinstance(message[0], str):
        message = message[0]
    codes = (code for layer in layers for code in _codes(layer))
    params = (param for layer in layers if (param := _param(layer)))
    statuses = (
        status
        for layer in layers
        for key in ("code", "status", "status_code")
        if (status := _status(layer.get(key)))
    )
    return _Told(
        clean(message if isinstance(message, str) else json.dumps(message)),
        tuple(dict.fromkeys(codes)),
        next(params, ""),
        next(statuses, None),
    )


# Where servers put an error, and its message.
_WITHIN = ("error", "errors", "detail", "message")
_MESSAGES = ("message", "msg", "detail", "error", "errors")
_MOST_LAYERS = 4


def _layers(document: Any) -> list[dict[str, Any]]:
    """Returns the objects that tell an error, the innermost first: of lists, the first one.

    `{"error": {...}}`, `{"error": "..."}`, `[{"error": {...}}]`, `{"detail": [...]}`, or flat.
    """
    layers: list[dict[str, Any]] = []
    while (layer := _first_object(document)) and len(layers) < _MOST_LAYERS:
        layers.insert(0, layer)
        document = next((layer[key] for key in _WITHIN if _first_object(layer.get(key))), None)
    return layers


def _first_object(told: Any) -> dict[str, Any] | None:
    items = told if isinstance(told, list) else [told]
    return next((item for item in items if isinstance(item, dict)), None)


def _codes(layer: dict[str, Any]) -> Iterator[str]:
    """Yields what a server calls an error, the most exact word first."""
    details = layer.get("details")
    reasons = [
        detail.get("reason")
        for detail in (details if isinstance(details, list) else [details])
        if isinstance(detail, dict)
    ]
    words = (layer.get(key) for key in ("reason", "type", "status"))
    for code in (layer.get("code"), *reasons, *words):
        if isinstance(code, str) and _CODE.fullmatch(code):
            yield code


def _param(layer: dict[str, Any]) -> str:
    """Returns the parameter that is to blame, as OpenAI or as FastAPI tells it."""
    path = layer.get("loc")
    steps = path if isinstance(path, list) else []
    for told in (layer.get("param"), *(step for step in steps if step != "body")):
        if isinstance(told, str) and _PARAM.fullmatch(told):
            return told
    return ""


def _status(told: object) -> int | None:
    try:
        status = int(told) if isinstance(told, int | str) else 0
    except ValueError:
        return None
    return status if 400 <= status < 600 else None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def clean(text: str) -> str:
    """Returns a text of bounded length, on one line, that changes no terminal or page."""
    kept = _UNFIT.sub(" ", text[: 4 * _MOST_CHARACTERS]).strip()
    return kept if len(kept) <= _MOST_CHARACTERS else f"{kept[:_MOST_CHARACTERS]}..."
