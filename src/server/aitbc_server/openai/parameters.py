"""What each parameter of a request is to us: read from the table in `parameters.toml`.

Clients send whatever some server knows. What has no effect on which answers are right is taken;
what nobody knows is taken and told; what a caller would wrongly rely on is refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any


class Policy(StrEnum):
    """What becomes of a parameter."""

    HONOURED = "honoured"
    # Taken: it has no effect on which answers are right.
    HINT = "hint"
    # Taken and passed over, and the caller is told, as of everything that the table does not have.
    IGNORED = "ignored"
    # Refused, but for values that ask for nothing: the caller would wrongly rely on it.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A row of the table."""

    name: str
    policy: Policy
    # What it becomes or, of one that is not honoured, why.
    note: str
    # Values that ask for nothing.
    no_ops: tuple[Any, ...] = field(default=())


# The parameters of one object of requests, by their names.
Section = Mapping[str, Parameter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A request that `vllm serve` answers with another status."""

    # As the test that compares both names it.
    request: str
    status: int
    vllm_status: int
    why: str


@cache
def _document() -> dict[str, Any]:
    text = (resources.files(__package__) / "parameters.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def section(name: str) -> Section:
    """Returns a section of the table, with those that it includes."""
    told: dict[str, Any] = _document()["section"][name]
    rows: dict[str, Parameter] = {}
    for included in told.get("includes", ()):
        rows |= section(included)
    for policy in Policy:
        for parameter, note in told.get(policy, {}).items():
            rows[parameter] = _row(parameter, policy, note)
    return rows


@cache
def sections() -> Mapping[str, str]:
    """Returns the name of each section that an object of requests has, and its title."""
    told = _document()["section"].items()
    return {name: rows["title"] for name, rows in told if "title" in rows}


@cache
def differences() -> tuple[Difference, ...]:
    """Returns where a request is answered with another status than by `vllm serve`."""
    return tuple(Difference(**row) for row in _document().get("difference", ()))


@cache
def known_names() -> frozenset[str]:
    """Returns all names that the table has."""
    return frozenset(name for one in _document()["section"] for name in section(one))


def _row(name: str, policy: Policy, note: str | dict[str, Any]) -> Parameter:
    if isinstance(note, str):
        return Parameter(name=name, policy=policy, note=note)
    return Parameter(name=name, policy=policy, note=note["note"], no_ops=tuple(note["no_ops"]))
