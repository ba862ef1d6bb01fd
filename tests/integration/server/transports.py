"""One call by gRPC and by REST, told in the same terms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
import httpx
import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from aitbc_server.api.errors import from_rpc_error
from aitbc_server.rest.codec import decoder, encoder
from aitbc_server.rest.errors import STATUS_OF
from aitbc_server.rest.route import Route, routes

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
    """Calls a unary method by gRPC."""
    service = method.containing_service.full_name
    request_class = message_factory.GetMessageClass(method.input_type)
    response_class = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(
        f"/{service}/{method.name}",
        request_serializer=request_class.SerializeToString,
        response_deserializer=response_class.FromString,
    )
    request = request_class(**decoder(method.input_type)(fields))
    metadata = () if key is None else (("x-api-key", key),)
    try:
        response = await call(request, metadata=metadata, timeout=60)
    except grpc.aio.AioRpcError as error:
        failure = from_rpc_error(error)
        return Outcome(STATUS_OF[failure.code], failure.reason, failure.message)
    return Outcome(200, "", _masked(encoder(method.output_type)(response)))


async def by_rest(
    http: httpx.AsyncClient, method: MethodDescriptor, fields: Fields, key: str | None
) -> Outcome:
    """Calls a unary method by REST."""
    route = route_of(method)
    left = dict(fields)
    path = route.path
    for field in route.path_fields:
        name = ".".join(field.path)
        path = path.replace(f"{{{name}}}", quote(str(left.pop(name)), safe=""))
    headers = {} if key is None else {"X-Api-Key": key}
    if route.has_body:
        headers["Content-Type"] = "application/json"
        response = await http.request(
            route.http_method, path, content=orjson.dumps(left), headers=headers
        )
    else:
        response = await http.request(route.http_method, path, params=_query(left), headers=headers)
    if response.status_code >= 400:
        error = response.json()
        return Outcome(response.status_code, error["error_code"], error["detail"])
    answer = _masked(response.json()) if response.content else {}
    return Outcome(200 if response.status_code < 300 else response.status_code, "", answer)


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
