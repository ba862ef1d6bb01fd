"""Responses that are tables, as CSV (RFC 4180)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from aitbc.v1 import annotations_pb2
from aitbc_server.rest.accept import asks_for
from aitbc_server.rest.asgi import API_HEADERS, Response
from aitbc_server.rest.codec import encoder

CSV = "text/csv"
_JSON = "application/json"
_CONTENT_TYPE = (b"content-type", b"text/csv; charset=utf-8")
# A spreadsheet would take a text that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Table:
    """What a method's `http_table` says."""

    rows_field: str
    format_field: str
    columns: Sequence[str]
    encode: Callable[[Message], Mapping[str, Any]]

    def is_asked(self, request: Message, headers: Mapping[str, str]) -> bool:
        """Says whether a request is to be answered with CSV."""
        chosen = getattr(request, self.format_field)
        if chosen == annotations_pb2.TABLE_FORMAT_UNSPECIFIED:
            return asks_for(headers.get("accept", ""), (CSV,), over=(_JSON,))
        return bool(chosen == annotations_pb2.TABLE_FORMAT_CSV)

    def response(self, message: Message) -> Response:
        """Returns the rows of a response with a line of names."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.columns)
        for row in map(self.encode, getattr(message, self.rows_field)):
            writer.writerow([_cell(row.get(column, "")) for column in self.columns])
        body = text.getvalue().encode()
        length = (b"content-length", b"%d" % len(body))
        return Response(200, (_CONTENT_TYPE, length, *API_HEADERS), body)


def table_of(method: MethodDescriptor, options: MethodOptions) -> Table | None:
    """Returns the table that a method's response is. Raises ValueError when it cannot be one."""
    if not options.HasExtension(annotations_pb2.http_table):
        return None
    said = options.Extensions[annotations_pb2.http_table]
    rows = method.output_type.fields_by_name.get(said.rows_field)
    if rows is None or rows.message_type is None:
        raise ValueError(f"{method.full_name} has no rows {said.rows_field}")
    if said.format_field not in method.input_type.fields_by_name:
        raise ValueError(f"{method.full_name} has no field {said.format_field}")
    columns = tuple(field.name for field in rows.message_type.fields)
    return Table(said.rows_field, said.format_field, columns, encoder(rows.message_type))


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
