"""Fields that the path, the query and the headers of a request fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldOptions

from aitbc.v1 import annotations_pb2
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.codec import Values
from aitbc_server.rest.template import percent_decode
from aitbc_server.rest.values import Parse, is_ordinary, parse_of

# Longest part of an unknown parameter that an error repeats.
_MAX_NAME = 100


class TextField(NamedTuple):
    """A field, perhaps of a nested message, that takes text."""

    path: tuple[str, ...]
    parse: Parse
    is_repeated: bool
    # An empty text is a value; for other types it stands for no value, as HTML forms send it.
    is_string: bool

    @property
    def name(self) -> str:
        """Returns the path as errors name it."""
        return ".".join(self.path)

    def read(self, text: str) -> object:
        """Returns the value of a text. Raises InvalidArgument that names the field."""
        try:
            return self.parse(text)
        except InvalidArgument as error:
            raise InvalidArgument(self.name, error.problem) from None


# By each way to write its path: every part in snake_case or lowerCamelCase.
TextFields = dict[str, TextField]


def text_fields(descriptor: Descriptor) -> TextFields:
    """Returns all fields that take text, those of nested messages as `a.b`."""
    return _text_fields(descriptor, (), ("",), ())


def header_fields(descriptor: Descriptor) -> dict[str, TextField]:
    """Returns the fields with an `(aitbc.v1.http_header)`, by its name in lower case."""
    found = {}
    for field in descriptor.fields:
        # Parsed again: a field of another descriptor pool holds our options as unknown bytes.
        options = FieldOptions.FromString(field.GetOptions().SerializeToString())
        header = options.Extensions[annotations_pb2.http_header]
        parse = parse_of(field)
        if header and parse is not None:
            found[header.lower()] = _text_field(field, (field.name,), parse)
    return found


def set_from_path(values: Values, fields: Sequence[TextField], captures: Sequence[str]) -> None:
    """Sets the fields that the variables of the path template bind.

    Raises InvalidArgument when a value does not parse, or the body says something else.
    """
    for field, text in zip(fields, captures, strict=True):
        value = field.read(text)
        parent = _parent(values, field)
        if parent.setdefault(field.path[-1], value) != value:
            raise InvalidArgument(field.name, "differs from the one in the path")


def set_from_query(values: Values, fields: TextFields, query: bytes) -> None:
    """Sets fields from a query string, whose repeated keys fill a list.

    Raises InvalidArgument for a key that is unknown, repeated without need, or does not parse.
    """
    given: set[tuple[str, ...]] = set()
    for key, text in _pairs(query):
        field = fields.get(key)
        if field is None:
            raise InvalidArgument(key[:_MAX_NAME], "unknown query parameter")
        if not text and not field.is_string:
            continue
        parent = _parent(values, field)
        if field.is_repeated:
            parent.setdefault(field.path[-1], []).append(field.read(text))
        elif field.path in given:
            raise InvalidArgument(field.name, "is given more than once")
        else:
            given.add(field.path)
            parent[field.path[-1]] = field.read(text)


def set_from_headers(
    values: Values,
    fields: Mapping[str, TextField],
    headers: Mapping[str, str],
    *,
    may_differ: bool,
) -> None:
    """Sets the fields that headers fill; those that are set already, too, if they may differ.

    Raises InvalidArgument when a value does not parse, or differs from what is set and may not.
    """
    for header, field in fields.items():
        if not (text := headers.get(header)):
            continue
        name, value = field.path[0], field.read(text)
        if may_differ or not values.get(name):
            values[name] = value
        elif values[name] != value:
            raise InvalidArgument(field.name, f"differs from the one in the header {header}")


def _text_fields(
    descriptor: Descriptor,
    path: tuple[str, ...],
    prefixes: tuple[str, ...],
    ancestors: tuple[Descriptor, ...],
) -> TextFields:
    found: TextFields = {}
    for field in descriptor.fields:
        here = (*path, field.name)
        names = {f"{prefix}{name}" for prefix in prefixes for name in (field.name, field.json_name)}
        parse = parse_of(field)
        if parse is not None:
            found |= dict.fromkeys(names, _text_field(field, here, parse))
            continue
        nested = field.message_type
        # An item of a list or map has no path of its own.
        if nested is None or field.is_repeated or not is_ordinary(nested) or nested in ancestors:
            continue
        below = tuple(f"{name}." for name in names)
        found |= _text_fields(nested, here, below, (*ancestors, descriptor))
    return found


def _text_field(field: FieldDescriptor, path: tuple[str, ...], parse: Parse) -> TextField:
    return TextField(path, parse, field.is_repeated, field.type == FieldDescriptor.TYPE_STRING)


def _parent(values: Values, field: TextField) -> Values:
    for step in field.path[:-1]:
        values = values.setdefault(step, {})
    return values


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        pairs = []
        for part in query.decode("ascii").replace("+", " ").split("&"):
            if part:
                key, _, text = part.partition("=")
                pairs.append((percent_decode(key), percent_decode(text)))
        return pairs
    except ValueError:
        raise InvalidArgument("query", "is not percent-encoded UTF-8") from None
