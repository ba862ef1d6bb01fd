"""The two ways to write the messages of a method: as protobuf's bytes, and as its JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from aitbc_server.api.wire import parse
from aitbc_server.bounded_json import JsonError, read_json
from aitbc_server.connect.forms import PROTOBUF
from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.codec import decoder, encoder

PROTO, JSON = "proto", "json"


class Codec(NamedTuple):
    """One of them. What is read is bounded in depth and in what it holds."""

    # Raises InvalidArgument.
    decode: Callable[[bytes], Message]
    encode: Callable[[Message], bytes]


def codec_of(method: MethodDescriptor, name: str) -> Codec:
    """Returns a codec of a method."""
    return _json(method) if name == JSON else _proto(method)


def _proto(method: MethodDescriptor) -> Codec:
    request_class = message_factory.GetMessageClass(method.input_type)
    return Codec(
        lambda data: parse(request_class, data), lambda message: message.SerializeToString()
    )


def _json(method: MethodDescriptor) -> Codec:
    request_class = message_factory.GetMessageClass(method.input_type)
    values_of = decoder(method.input_type, PROTOBUF)
    encode = encoder(method.output_type, PROTOBUF)

    def decode(data: bytes) -> Message:
        try:
            # Who calls with curl, and has nothing to say, sends nothing.
            said = read_json(data) if data else {}
        except JsonError as error:
            raise InvalidArgument("message", str(error)) from None
        if type(said) is not dict:
            raise InvalidArgument("message", "must be a JSON object")
        return request_class(**values_of(said))

    return Codec(decode, lambda message: orjson.dumps(encode(message)))
