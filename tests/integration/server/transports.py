"""One call by gRPC, by REST, by Connect and by gRPC-Web, told in the same terms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
import httpx
import orjson
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2

from aitbc_server.api.errors import from_rpc_error
from aitbc_server.rest.codec import decoder, encoder, response_encoder
from aitbc_server.rest.errors import STATUS_OF
from aitbc_server.rest.route import Route, routes
from tests.envelopes import CODES, LAST, TRAILERS, envelope, envelopes, status_in

Fields = dict[str, Any]

# Words with a digit: ids, times, hashes, keys and counts, which differ from one object to the next.
_UNIQUE = re.compile(r"[\w/+=.-]*\d[\w/+=.-]*")


class Outcome(NamedTuple):
    """What came of a call."""

    # HTTP status, or what a gRPC code is over HTTP.
    status: int
    # `error_code`; empty for a success.
    reason: str
    # The response with what is unique in it masked; of an error its sentence.
    answer: Any


async def by_grpc(
    channel: grpc.aio.Channel, method: MethodDescriptor, fields: Fields, key: str | None
) -> Outcome:
    """Calls a method by gRPC; of a stream of responses, until the first one."""
    request_class = message_factory.GetMessageClass(method.input_type)
    response_class = message_factory.GetMessageClass(method.output_type)
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    callable_ = make(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=request_class.SerializeToString,
        response_deserializer=response_class.FromString,
    )
    request = request_class(**_values(method, fields))
    metadata = () if key is None else (("x-api-key", key),)
    call: Any = callable_(request, metadata=metadata, timeout=60)
    try:
        response = await (call.read() if method.server_streaming else call)
    except grpc.aio.AioRpcError as error:
        failure = from_rpc_error(error)
        return Outcome(STATUS_OF[failure.code], failure.reason, failure.message)
    finally:
        call.cancel()
    encode_of = encoder if method.server_streaming else response_encoder
    return Outcome(200, "", _masked(encode_of(method.output_type)(response)))


def _values(method: MethodDescriptor, fields: Fields) -> Fields:
    # Item by item: gRPC carries lists of any length, of which the decoder takes a bounded one.
    decode = decoder(method.input_type)
    values: Fields = {}
    for name, value in fields.items():
        if isinstance(value, list):
            decoded = [decode({name: [item]}) for item in value]
            values[name] = [one for held in decoded for one in held[name]]
        elif isinstance(value, dict):
            values[name] = {}
            for key, one in value.items():
                values[name] |= decode({name: {key: one}})[name]
        else:
            values |= decode({name: value})
    return values


async def by_rest(
    http: httpx.AsyncClient, method: MethodDescriptor, fields: Fields, key: str | None
) -> Outcome:
    """Calls a method by REST; of a stream of responses, until the first one."""
    request = _request(http, method, fields, key)
    response = await http.send(request, stream=True)
    try:
        if response.status_code >= 400:
            error = orjson.loads(await response.aread())
            return Outcome(response.status_code, error["error_code"], error["detail"])
        if method.server_streaming:
            body = await anext(response.aiter_lines())
        else:
            body = (await response.aread()).decode()
    finally:
        await response.aclose()
    answer = _masked(orjson.loads(body)) if body else {}
    return Outcome(200 if response.status_code < 300 else response.status_code, "", answer)


async def by_connect(
    http: httpx.AsyncClient, method: MethodDescriptor, fields: Fields, key: str | None
) -> Outcome:
    """Calls a method by Connect, in JSON; of a stream of responses, until the first one."""
    text = orjson.dumps(fields)
    if not method.server_streaming:
        response = await http.post(
            path_of(method), content=text, headers=_headers("application/json", key)
        )
        if response.status_code != 200:
            return _connect_error(response.json())
        return _outcome(method, lambda made: json_format.Parse(response.content, made))
    flags, data = await _first(http, method, "application/connect+json", envelope(text), key)
    if flags == LAST:
        return _connect_error(orjson.loads(data)["error"])
    return _outcome(method, lambda made: json_format.Parse(data, made))


async def by_grpc_web(
    http: httpx.AsyncClient, method: MethodDescriptor, fields: Fields, key: str | None
) -> Outcome:
    """Calls a method by gRPC-Web, in bytes; of a stream of responses, until the first one."""
    request = message_factory.GetMessageClass(method.input_type)(**_values(method, fields))
    body = envelope(request.SerializeToString())
    flags, data = await _first(http, method, "application/grpc-web", body, key)
    if flags == TRAILERS:
        status = status_in(data)
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        return Outcome(_HTTP_STATUS[CODES[status.code]], info.reason, status.message)
    return _outcome(method, lambda made: made.MergeFromString(data))


def path_of(method: MethodDescriptor) -> str:
    """Returns where Connect and gRPC-Web call a method."""
    return f"/{method.containing_service.full_name}/{method.name}"


def _headers(kind: str, key: str | None) -> dict[str, str]:
    return {"content-type": kind} | ({} if key is None else {"x-api-key": key})


async def _first(
    http: httpx.AsyncClient, method: MethodDescriptor, kind: str, body: bytes, key: str | None
) -> tuple[int, bytes]:
    """Returns flags and data of the first envelope of an answer."""
    headers, came = _headers(kind, key), b""
    async with http.stream("POST", path_of(method), content=body, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == kind
        async for piece in response.aiter_bytes():
            came += piece
            if len(came) >= 5 and len(came) >= 5 + int.from_bytes(came[1:5], "big"):
                break
    return envelopes(came[: 5 + int.from_bytes(came[1:5], "big")])[0]


def _outcome(method: MethodDescriptor, read: Callable[[Any], object]) -> Outcome:
    made = message_factory.GetMessageClass(method.output_type)()
    read(made)
    encode_of = encoder if method.server_streaming else response_encoder
    return Outcome(200, "", _masked(encode_of(method.output_type)(made)))


def _connect_error(error: dict[str, Any]) -> Outcome:
    reason = error["details"][0]["debug"]["reason"]
    return Outcome(_HTTP_STATUS[error["code"]], reason, error["message"])


_HTTP_STATUS = {CODES[code.value[0]]: status for code, status in STATUS_OF.items()}


def _request(
    http: httpx.AsyncClient, method: MethodDescriptor, fields: Fields, key: str | None
) -> httpx.Request:
    route = route_of(method)
    left = dict(fields)
    path = route.path
    for field in route.path_fields:
        name = ".".join(field.path)
        path = path.replace(f"{{{name}}}", quote(str(left.pop(name)), safe=""))
    headers = {} if key is None else {"X-Api-Key": key}
    query: list[tuple[str, Any]] = []
    if method.server_streaming:
        headers["Accept"] = "application/x-ndjson"
        # Where a method that answers once has the same route.
        query = [("stream", "true")] if route.http_method == "POST" else []
    if route.has_body:
        headers["Content-Type"] = "application/json"
        return http.build_request(
            route.http_method, path, params=query, content=orjson.dumps(left), headers=headers
        )
    return http.build_request(
        route.http_method, path, params=[*query, *_query(left)], headers=headers
    )


def route_of(method: MethodDescriptor) -> Route:
    """Returns the first route of a method. Raises StopIteration when it has none."""
    return next(iter(routes([method])))


def _query(fields: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            pairs += _query(value, f"{prefix}{name}.")
        else:
            values = value if isinstance(value, list) else [value]
            pairs += [(prefix + name, _text(one)) for one in values]
    return pairs


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_masked(one) for one in value]
    return _UNIQUE.sub("*", value) if isinstance(value, str) else value
