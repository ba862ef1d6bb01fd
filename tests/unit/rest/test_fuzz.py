"""Whatever arrives is read or refused by an error that a client is told: never anything else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.codec import decoder, encoder
from aitbc_server.rest.errors import InvalidJson, MethodNotAllowed, RouteNotFound
from aitbc_server.rest.openapi.document import packaged_methods
from aitbc_server.rest.openapi.schemas import example_of
from aitbc_server.rest.route import Route, compile_routes, routes
from aitbc_server.rest.template import TemplateError, parse
from tests.messages import messages

ROUTES = list(routes(packaged_methods()))
ROUTER = compile_routes(packaged_methods())
WITH_BODY = [route for route in ROUTES if route.has_body]
WITH_QUERY = [route for route in ROUTES if not route.has_body]
MESSAGES = {
    descriptor.full_name: descriptor
    for route in ROUTES
    for descriptor in (route.method.input_type, route.method.output_type)
}
REFUSALS = (InvalidArgument, InvalidJson)

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def ask(route: Route, *, query: bytes = b"", body: bytes = b"", path: str = "x") -> None:
    """Has a request read; what refuses it must be one of the refusals."""
    try:
        route.request([path] * len(route.path_fields), query, {"idempotency-key": path}, body)
    except REFUSALS:
        pass


@given(st.text(max_size=200))
@example("/" + "{a" * 200)
@example("/" + "a/" * 5000)
@example("/{" + "a." * 5000 + "b}")
def test_any_text_is_a_template_or_is_refused(text: str) -> None:
    try:
        assert parse(text).segments
    except TemplateError:
        pass


@given(st.sampled_from(["GET", "POST", "", "DELETE"]), st.text(max_size=100))
@example("GET", "a/" * 50_000)
@example("GET", ":" * 50_000)
@example("POST", "v1/jobs/" + "%41" * 20_000 + "/cancel")
def test_any_path_leads_somewhere_or_is_refused(http_method: str, path: str) -> None:
    try:
        ROUTER.match(http_method, "/" + path)
    except (RouteNotFound, MethodNotAllowed, InvalidArgument):
        pass


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.method.name)
@settings(max_examples=40)
@given(data=st.data())
def test_any_body_is_read_or_refused(route: Route, data: st.DataObject) -> None:
    raw = data.draw(st.binary(max_size=200) | _json.map(_dumped) | _almost(route))
    ask(route, body=raw, path=data.draw(st.text()))


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.method.name)
@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000, b'{"model":"' + b"\\ud800" * 9 + b'"}'],
)
def test_a_body_made_to_hurt_is_refused(route: Route, body: bytes) -> None:
    with pytest.raises(REFUSALS):
        route.request(["x"] * len(route.path_fields), b"", {}, body)


@pytest.mark.parametrize("route", WITH_QUERY, ids=lambda route: route.method.name)
@settings(max_examples=40)
@given(data=st.data())
def test_any_query_is_read_or_refused(route: Route, data: st.DataObject) -> None:
    names = st.sampled_from([*route.query_fields, "nothing"])
    values = st.text(alphabet=st.characters(codec="ascii", exclude_characters="#")) | st.just("%ff")
    pairs = data.draw(st.lists(st.tuples(names, values), max_size=4))
    query = "&".join(f"{name}={value}" for name, value in pairs).encode()
    ask(route, query=data.draw(st.just(query) | st.binary(max_size=60)), path=data.draw(st.text()))


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=15)
@given(data=st.data())
def test_every_message_reads_as_it_was_written(name: str, data: st.DataObject) -> None:
    descriptor: Descriptor = MESSAGES[name]
    message = data.draw(messages(descriptor))
    written = orjson.dumps(encoder(descriptor)(message))
    read = type(message)(**decoder(descriptor)(orjson.loads(written)))
    # What is not there and what is empty are written the same.
    assert encoder(descriptor)(read) == encoder(descriptor)(message)


def _dumped(value: Any) -> bytes:
    # Integers beyond 64 bits and lone surrogates have no JSON that orjson writes.
    try:
        return orjson.dumps(value)
    except TypeError:
        return str(value).encode(errors="replace")


def _almost(route: Route) -> st.SearchStrategy[bytes]:
    """Returns valid bodies in which one field is something else."""
    good = example_of(route.method.input_type)
    names = [field.name for field in route.method.input_type.fields]
    if not names:
        return st.just(b"{}")
    return st.builds(
        lambda name, value: _dumped({**good, name: value}), st.sampled_from(names), _json
    )
