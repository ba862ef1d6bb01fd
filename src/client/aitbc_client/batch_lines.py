"""The lines of a file of prompts: what each asks for, or which of them cannot be taken, and why."""

from __future__ import annotations

import json
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aitbc.v1 import jobs_pb2
from aitbc_client.fields import WrongField, text_of
from aitbc_client.operations import job_request

_FIELDS = frozenset(
    {"prompt", "messages", "model", "params", "priority", "timeout_seconds", "max_attempts"}
)
_CARRIED = ("custom_id", "metadata")


class BatchFileError(ValueError):
    """A line of the input or the output is not what it should be; the message has its number."""


@dataclass(frozen=True, slots=True)
class Line:
    """One job of the file."""

    number: int
    request: jobs_pb2.SubmitJobRequest
    # What comes back as it is.
    carried: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WrongLine:
    """A line that is no job."""

    number: int
    # What comes back as it is, as far as it can be read.
    carried: Mapping[str, Any]
    problem: str


def read_lines(source: Path, model: str | None) -> Iterator[Line | WrongLine]:
    """Yields the lines of a file, skipping blank ones; `model` is for those that name none.

    Raises BatchFileError when the file is wrong as a whole, and OSError.
    """
    content = source.read_bytes()
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise BatchFileError("line 1: is UTF-16; save the file as UTF-8")
    for number, raw in enumerate(content.removeprefix(BOM_UTF8).splitlines(), start=1):
        if not raw.strip():
            continue
        fields: Any = None
        try:
            fields = _parsed(raw)
            yield _line(number, fields, model)
        except ValueError as error:
            yield WrongLine(number, _carried_of_wrong(fields), str(error))


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(
            raw.decode(), object_pairs_hook=_unique, parse_constant=_refused, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        problem = error.msg[0].lower() + error.msg[1:]
        raise ValueError(f"is not JSON: {problem} at column {error.colno}") from error
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice}: is given twice; keep one of them")
    return values


def _refused(name: str) -> Any:
    raise ValueError(f"is not JSON: it has no number {name}")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _line(number: int, fields: Any, model: str | None) -> Line:
    if not isinstance(fields, dict):
        raise ValueError('must be a JSON object such as {"prompt": "..."}')
    if "body" in fields and "url" in fields:
        raise ValueError("is a line of OpenAI's batches: upload the file to /v1/files")
    unknown = fields.keys() - _FIELDS - set(_CARRIED)
    if unknown:
        raise ValueError(f"unknown field {min(unknown)}; other data goes under metadata")
    # Null is absent, as in the API.
    wanted = {key: value for key, value in fields.items() if value is not None and key in _FIELDS}
    if ("prompt" in wanted) == ("messages" in wanted):
        raise ValueError("give either prompt or messages")
    if "prompt" in wanted:
        prompt = text_of(wanted.pop("prompt"), "prompt")
    else:
        prompt = _conversation(wanted.pop("messages"))
    wanted.setdefault("model", model)
    if wanted["model"] in (None, ""):
        raise ValueError("names no model; name one here, or one for all lines")
    return Line(number, job_request(prompt, **wanted), _carried(fields))


def _carried_of_wrong(fields: Any) -> Mapping[str, Any]:
    try:
        return _carried(fields) if isinstance(fields, dict) else {}
    except WrongField:
        return {}


def _conversation(messages: Any) -> Any:
    if isinstance(messages, str):
        raise WrongField("messages", "must be a list; a text is given as prompt")
    return messages


def _carried(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    carried = {key: fields[key] for key in _CARRIED if key in fields}
    for key, value in carried.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise WrongField(key, "holds half of a surrogate pair, which is no character") from None
    return carried
