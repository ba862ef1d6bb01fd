"""Finds what a template binds to an HTTP method and path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.errors import MethodNotAllowed, RouteNotFound
from aitbc_server.rest.template import MANY, ONE, Template, percent_decode

T = TypeVar("T")


class Match(NamedTuple, Generic[T]):
    """What a path leads to."""

    target: T
    # One value for each variable of the template, in its order.
    captures: tuple[str, ...]


class _Binding(NamedTuple, Generic[T]):
    template: Template
    target: T


@dataclass(slots=True)
class _Node(Generic[T]):
    """Where the paths that begin with the same segments go on."""

    literals: dict[str, _Node[T]] = field(default_factory=dict)
    one: _Node[T] | None = None
    many: _Node[T] | None = None
    # What ends here: by verb, then by HTTP method.
    bindings: dict[str, dict[str, _Binding[T]]] = field(default_factory=dict)

    def child(self, segment: str) -> _Node[T]:
        if segment == ONE:
            self.one = self.one or _Node()
            return self.one
        if segment == MANY:
            self.many = self.many or _Node()
            return self.many
        return self.literals.setdefault(segment, _Node())


class Router(Generic[T]):
    """Templates as a tree of segments, in which a literal goes before `*` and that before `**`.

    The template that goes first has a path to itself, under every HTTP method, as in OpenAPI.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        # Paths without variables, which skip the tree: most of the traffic goes to them.
        self._literal: dict[tuple[str, str], Match[T]] = {}

    def add(self, http_method: str, template: Template, target: T) -> None:
        """Binds a template. Raises ValueError when the same paths are bound already."""
        node = self._root
        for segment in template.segments:
            node = node.child(segment)
        bindings = node.bindings.setdefault(template.verb, {})
        if http_method in bindings:
            raise ValueError(f"{http_method} {_path(template)} is bound twice")
        bindings[http_method] = _Binding(template, target)
        if ONE not in template.segments and MANY not in template.segments:
            self._literal[http_method, _path(template)] = Match(target, ())

    def match(self, http_method: str, path: str) -> Match[T]:
        """Returns the binding of a path as it came over the wire; one slash may follow it.

        Raises RouteNotFound; MethodNotAllowed when only other methods are bound; InvalidArgument
        when the path has a malformed percent escape.
        """
        literal = self._literal.get((http_method, path))
        if literal is not None:
            return literal
        allowed: set[str] = set()
        for segments, verb in _readings(path):
            bindings = _find(self._root, segments, 0, verb)
            if http_method in bindings:
                template, target = bindings[http_method]
                return Match(target, tuple([v.capture(segments) for v in template.variables]))
            allowed.update(bindings)
        if allowed:
            raise MethodNotAllowed(allowed)
        raise RouteNotFound

    def allowed(self, path: str) -> set[str]:
        """Returns the HTTP methods that a path is bound under. Raises as `match`."""
        found: set[str] = set()
        for segments, verb in _readings(path):
            found.update(_find(self._root, segments, 0, verb))
        if not found:
            raise RouteNotFound
        return found

    def begins(self, path: str) -> bool:
        """Returns whether a path begins as one that is bound: with the same first two segments."""
        first, second, *_ = (*path.lstrip("/").split("/"), "")
        node = self._root.literals.get(first)
        return node is not None and second.partition(":")[0] in node.literals


def _find(
    node: _Node[T], segments: list[str], position: int, verb: str
) -> Mapping[str, _Binding[T]]:
    """Returns what is bound to a path below the node, by HTTP method."""
    found: Mapping[str, _Binding[T]] = {}
    if position == len(segments):
        found = node.bindings.get(verb, {})
    else:
        segment = segments[position]
        if (child := node.literals.get(segment)) is not None:
            found = _find(child, segments, position + 1, verb)
        # An empty segment is no value: `/v1/jobs//cancel` names no job.
        if not found and node.one is not None and segment:
            found = _find(node.one, segments, position + 1, verb)
    if not found and node.many is not None:
        found = node.many.bindings.get(verb, {})
    return found


def _readings(path: str) -> list[tuple[list[str], str]]:
    """Returns the segments and verb of a path; twice where a colon may or may not begin a verb."""
    segments = path[1:].split("/")
    if len(segments) > 1 and not segments[-1]:
        segments.pop()
    if "%" in path:
        try:
            segments = [percent_decode(segment) for segment in segments]
        except ValueError as error:
            raise InvalidArgument("path", str(error)) from None
    last, colon, verb = segments[-1].rpartition(":")
    if not colon:
        return [(segments, "")]
    return [([*segments[:-1], last], verb), (segments, "")]


def _path(template: Template) -> str:
    verb = f":{template.verb}" if template.verb else ""
    return "/" + "/".join(template.segments) + verb
