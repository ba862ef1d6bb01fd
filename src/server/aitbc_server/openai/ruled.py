"""What a job's rules say of its numbers, for the fields of requests that become them."""

from __future__ import annotations

from annotated_types import Interval
from google.protobuf.descriptor import Descriptor

from aitbc_server.api.validation import rules_of
from aitbc_server.rest.values import INTEGERS


def ruled(descriptor: Descriptor, name: str) -> Interval:
    """Returns the bounds of a message's field, as pydantic takes them."""
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
