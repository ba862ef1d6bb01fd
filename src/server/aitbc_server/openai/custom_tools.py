"""Custom tools, whose input is a free text: to a job, functions of one argument that is a text."""

from __future__ import annotations

import re

import orjson

from aitbc_server.bounded_json import JsonError, read_json

_INPUT = "input"
# As vLLM shows such a tool to a model.
PARAMETERS = {
    "type": "object",
    "properties": {
        _INPUT: {"type": "string", "description": "The freeform text payload for this tool."}
    },
    "required": [_INPUT],
    "additionalProperties": False,
}
_BEGIN = re.compile(rf'\s*\{{\s*"{_INPUT}"\s*:\s*"')
# What may stand before the input, and an escape that is not whole.
_LONGEST_BEGIN, _LONGEST_ESCAPE = 256, len(r"\ud83d\ude00") - 1
# Whole characters of a JSON text: plain ones, pairs of surrogates, and other escapes.
_CHARACTERS = re.compile(
    r'(?:[^"\\\x00-\x1f]+'
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
    r'|\\["\\/bfnrt])*'
)


def arguments_of(text: str) -> str:
    """Returns the arguments of a call with this input."""
    return orjson.dumps({_INPUT: text}).decode()


def input_of(arguments: str) -> str:
    """Returns the input of a call: its arguments as they are where they hold none."""
    try:
        held = read_json(arguments.encode())
    except JsonError:
        return arguments
    text = held.get(_INPUT) if isinstance(held, dict) else None
    return text if isinstance(text, str) else arguments


class InputReader:
    """Reads the input of a call out of its arguments as they come."""

    def __init__(self) -> None:
        # Of the arguments, what was not read yet.
        self._rest = ""
        self._is_begun = False
        # Whether nothing more is read: what is missing is told when the call is whole.
        self._is_over = False

    def more(self, arguments: str) -> str:
        """Returns what more of the arguments has of the input, as far as it is certain."""
        if self._is_over:
            return ""
        self._rest += arguments
        if not self._is_begun:
            begin = _BEGIN.match(self._rest)
            if begin is None:
                self._is_over = len(self._rest) > _LONGEST_BEGIN
                return ""
            self._is_begun = True
            self._rest = self._rest[begin.end() :]
        end = _CHARACTERS.match(self._rest).end()  # type: ignore[union-attr]  # matches nothing, too
        text: str = orjson.loads(f'"{self._rest[:end]}"')
        self._rest = self._rest[end:]
        self._is_over = self._rest.startswith('"') or len(self._rest) > _LONGEST_ESCAPE
        return text
