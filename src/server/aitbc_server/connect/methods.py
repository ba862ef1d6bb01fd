"""The methods, by the path at which they are called."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from aitbc_server.api.endpoint import access_of
from aitbc_server.connect.codecs import JSON, PROTO, Codec, codec_of
from aitbc_server.connect.connect import ConnectStream, ConnectUnary
from aitbc_server.connect.grpc_web import GrpcWeb
from aitbc_server.connect.wires import StreamWire, UnaryWire
from aitbc_server.rest.body import media_type
from aitbc_server.rest.errors import Unimplemented, UnsupportedMediaType

_GRPC_WEB = {
    media: GrpcWeb(codec, media, is_text=is_text)
    for prefix, is_text in (("application/grpc-web", False), ("application/grpc-web-text", True))
    for media, codec in ((prefix, PROTO), (f"{prefix}+proto", PROTO), (f"{prefix}+json", JSON))
}
# Also for whoever has not said what it speaks.
PLAIN = ConnectUnary(JSON)
_BY_GET: Mapping[str, UnaryWire] = {PROTO: ConnectUnary(PROTO), JSON: PLAIN}
# By the content type of a request.
_UNARY: Mapping[str, UnaryWire] = {
    **{f"application/{codec}": wire for codec, wire in _BY_GET.items()},
    **_GRPC_WEB,
}
_STREAMS: Mapping[str, StreamWire] = {
    **{f"application/connect+{codec}": ConnectStream(codec) for codec in (PROTO, JSON)},
    **_GRPC_WEB,
}


class Rpc:
    """A method that can be called."""

    def __init__(self, method: MethodDescriptor) -> None:
        self.method = method
        # Whether it has many responses, or takes many requests.
        self.is_streaming = method.server_streaming or method.client_streaming
        # Whether it counts among no limit of its callers.
        self.is_unlimited = access_of(method).is_unlimited
        # Whether it changes nothing, and is called by GET too.
        level = method.GetOptions().idempotency_level
        self._is_safe = level == MethodOptions.NO_SIDE_EFFECTS and not self.is_streaming
        self._codecs: dict[str, Codec] = {}

    @property
    def http_methods(self) -> Collection[str]:
        """How it is called."""
        return ("GET", "POST") if self._is_safe else ("POST",)

    def codec(self, name: str) -> Codec:
        """Returns a codec, which is compiled when it is first asked for."""
        known = self._codecs.get(name)
        if known is None:
            known = self._codecs[name] = codec_of(self.method, name)
        return known

    def check(self) -> None:
        """Raises Unimplemented for a method that takes many requests."""
        if self.method.client_streaming:
            raise Unimplemented(
                f"{self.method.name} takes a stream of requests, which no browser can send: call "
                "it over gRPC, at the coordinator's other port"
            )


def unary_wire(content_type: str) -> UnaryWire | None:
    """Returns what a request speaks to a method with one response."""
    return _UNARY.get(media_type(content_type))


def wire_by_get(encoding: str) -> UnaryWire | None:
    """Returns what a request by GET speaks, from the name of its codec."""
    return _BY_GET.get(encoding)


def stream_wire(content_type: str) -> StreamWire | None:
    """Returns what a request speaks to a method that streams."""
    return _STREAMS.get(media_type(content_type))


def wrong_type(rpc: Rpc) -> UnsupportedMediaType:
    """Returns the error of a content type that a method does not take."""
    accepted = ", ".join(_STREAMS if rpc.is_streaming else _UNARY)
    return UnsupportedMediaType(
        f"the content type must be one of {accepted}",
        headers=((b"accept-post", accepted.encode()),),
    )


def rpcs(methods: Iterable[MethodDescriptor]) -> dict[str, Rpc]:
    """Returns all methods of the services of which these are some, by their paths."""
    services = dict.fromkeys(method.containing_service for method in methods)
    return {
        f"/{service.full_name}/{method.name}": Rpc(method)
        for service in services
        for method in service.methods
    }
