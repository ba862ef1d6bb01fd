"""Reads a line of a batch: `{"custom_id", "method", "url", "body"}`."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from aitbc_server.bounded_json import JsonError, read_json

_BOM = b"\xef\xbb\xbf"
_FIELDS = frozenset({"custom_id", "method", "url", "body"})
_MOST_ID = 512


class LineFault(ValueError):
    """A line that is no request; the text says why."""

    def __init__(
        self, message: str, code: str, param: str | None = None, custom_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        # Of the line, as far as it could be read.
        self.custom_id = custom_id


class Request(NamedTuple):
    """What a line asks."""

    custom_id: str
    url: str
    # JSON of an object.
    body: bytes


def read_request(text: bytes | None, number: int, most_bytes: int) -> Request:
    """Returns what a line asks. Raises LineFault."""
    if text is None:
        raise LineFault(f"This line has more than {most_bytes} bytes.", "line_too_long")
    try:
        line = read_json(text.removeprefix(_BOM) if number == 1 else text)
    except JsonError as error:
        raise LineFault(
            f"This line is not parseable as valid JSON: it {error}.", "invalid_json_line"
        ) from None
    if not isinstance(line, dict):
        raise LineFault("This line is not a JSON object.", "invalid_json_line")
    custom_id = line.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _MOST_ID:
        raise LineFault(
            f"custom_id must be a text of 1 to {_MOST_ID} characters.",
            "invalid_request",
            "custom_id",
        )
    return _checked(custom_id, line)


def _checked(custom_id: str, line: dict[str, Any]) -> Request:
    def wrong(param: str, problem: str) -> LineFault:
        return LineFault(f"{param} {problem}.", "invalid_request", param, custom_id)

    unknown = next((key for key in line if key not in _FIELDS), None)
    if unknown is not None:
        raise wrong(unknown[:100], "is not a field of a line")
    if line.get("method") != "POST":
        raise wrong("method", "must be POST")
    url, body = line.get("url"), line.get("body")
    if not isinstance(url, str):
        raise wrong("url", "must be a text")
    if not isinstance(body, dict):
        raise wrong("body", "must be a JSON object")
    return Request(custom_id, url, orjson.dumps(body))
