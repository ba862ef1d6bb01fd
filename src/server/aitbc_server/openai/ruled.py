"""What a job's rules say of its fields, for the fields of requests that become them."""

from __future__ import annotations

from typing import Any

from annotated_types import Interval
from google.protobuf.descriptor import Descriptor
from pydantic import AfterValidator, Field, StringConstraints
from pydantic.fields import FieldInfo

from aitbc_server.api.validation import rules_of
from aitbc_server.rest.values import INTEGERS


def ruled(descriptor: Descriptor, name: str) -> Interval:
    """Returns the bounds of a message's number, as pydantic takes them."""
    field = descriptor.fields_by_name[name]
    least, most = INTEGERS.get(field.cpp_type, (None, None))
    kind = float if least is None else int
    rules = rules_of(field)
    if rules is None:
        return Interval(ge=least, le=most)
    return Interval(
        ge=kind(rules.min) if rules.HasField("min") else least,
        le=kind(rules.max) if rules.HasField("max") else most,
        gt=kind(rules.above) if rules.HasField("above") else None,
    )


def sized(descriptor: Descriptor, name: str) -> StringConstraints:
    """Returns the bound of a message's text. What bounds bytes bounds characters, too."""
    rules: Any = rules_of(descriptor.fields_by_name[name])
    return StringConstraints(max_length=rules.max_length or rules.max_bytes)


def cut(descriptor: Descriptor, name: str) -> AfterValidator:
    """Returns what cuts a message's text to its bound: for hints, which refuse nothing."""
    rules: Any = rules_of(descriptor.fields_by_name[name])
    most: int = rules.max_length
    return AfterValidator(lambda text: text.replace("\0", "")[:most])


def counted(descriptor: Descriptor, name: str) -> FieldInfo:
    """Returns the bound of a message's list or map, of which the first wrong item is told."""
    rules: Any = rules_of(descriptor.fields_by_name[name])
    field: FieldInfo = Field(max_length=rules.max_items)
    return field
