"""The HTTP request that a method's `google.api.http` rule makes of a request message."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


class HttpCall(NamedTuple):
    """What an HTTP client sends."""

    verb: str
    path: str
    query: dict[str, Any]
    body: dict[str, Any] | None


def http_call(method: MethodDescriptor, request: Message) -> HttpCall:
    """Returns the call of a method over HTTP."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    fields = MessageToDict(request, preserving_proto_field_name=True)
    path = re.sub(r"{(\w+)}", lambda match: fields.pop(match[1]), getattr(rule, verb))
    # One path may lead to a method and to another that streams.
    streams = {"stream": "true"} if method.server_streaming and rule.body else {}
    if rule.body:
        return HttpCall(verb.upper(), path, streams, fields)
    return HttpCall(verb.upper(), path, fields, None)
