"""What a request has that is passed over, and how its caller is told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import structlog

from aitbc_server.openai.errors import unsupported
from aitbc_server.openai.parameters import known_names

_log = structlog.get_logger(__name__)

HEADER = b"x-aitbc-ignored"
# Names that one request is told, and characters of each: a request may have as many as fit into it.
_MOST_NAMES = 16
_MOST_CHARACTERS = 64
# Of a name, what a header may not have or what would end the name there.
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\[\]-]")
# Label of the names that no table has: they come from callers, who have any number of them.
OTHER = "(other)"


class Unknown:
    """Collects what a request has that is passed over, as far as it is told."""

    __slots__ = ("_found", "_has_more", "_why")

    def __init__(self) -> None:
        self._found: list[tuple[dict[str, Any], str]] = []
        self._why = ""
        self._has_more = False

    def add(self, holder: dict[str, Any], name: str, why: str = "") -> None:
        """Adds a member of an object of the request. `why` it has no effect, if that is known."""
        if not self._found:
            self._why = why
        if len(self._found) == _MOST_NAMES:
            self._has_more = True
        else:
            self._found.append((holder, name))

    def located(self, body: Any) -> PassedOver | None:
        """Returns where in the request it is; None of nothing."""
        if not self._found:
            return None
        places = dict(_places(body, "", {id(holder) for holder, _ in self._found}))
        paths = (
            f"{places.get(id(holder), '')}.{name[:_MOST_CHARACTERS]}".removeprefix(".")
            for holder, name in self._found
        )
        return PassedOver(tuple(dict.fromkeys(paths)), has_more=self._has_more, why=self._why)


class PassedOver(NamedTuple):
    """What of a request was passed over."""

    # Such as `messages[0].bogus`.
    paths: tuple[str, ...]
    # Whether there is more than these.
    has_more: bool
    # Why the first of them has no effect; empty of one that nobody knows.
    why: str = ""

    def joined(self, other: PassedOver) -> PassedOver:
        """Returns both."""
        paths = tuple(dict.fromkeys((*self.paths, *other.paths)))
        has_more = self.has_more or other.has_more or len(paths) > _MOST_NAMES
        return PassedOver(paths[:_MOST_NAMES], has_more=has_more, why=self.why)

    @property
    def header(self) -> bytes:
        """It, as a header tells it."""
        names = [_UNSAFE.sub("?", path) for path in self.paths]
        return ", ".join([*names, "..."] if self.has_more else names).encode()


class Ignorance:
    """What becomes of parameters that are passed over, and how many there were."""

    def __init__(self, *, is_strict: bool = False) -> None:
        """`is_strict`: whether they are refused."""
        self._is_strict = is_strict
        # By their names, those that no table has together.
        self.counts: Counter[tuple[str]] = Counter()

    def note(self, passed_over: PassedOver, where: str) -> None:
        """Counts and logs what was passed over in a call. Raises OpenAIError when strict."""
        paths = passed_over.paths
        if self._is_strict:
            why = passed_over.why or "it is not known"
            raise unsupported(paths[0], f"{why}; AITBC_OPENAI_STRICT refuses what has no effect")
        names = {path.rpartition(".")[2] for path in paths}
        self.counts.update((name if name in known_names() else OTHER,) for name in names)
        _log.debug("openai.ignored", call=where, parameters=paths, has_more=passed_over.has_more)


def _places(value: Any, path: str, wanted: set[int]) -> Iterator[tuple[int, str]]:
    """Yields the places of objects."""
    members: Iterable[tuple[str, Any]]
    if isinstance(value, Mapping):
        if id(value) in wanted:
            yield id(value), path
        members = ((f"{path}.{name}" if path else name, held) for name, held in value.items())
    else:
        members = ((f"{path}[{index}]", held) for index, held in enumerate(value))
    for place, held in members:
        if isinstance(held, dict | list):
            yield from _places(held, place, wanted)
