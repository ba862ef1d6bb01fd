from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.domain.errors import InvalidArgument
from aitbc_server.rest.errors import MethodNotAllowed, RouteNotFound
from aitbc_server.rest.router import Router
from aitbc_server.rest.template import parse


def _router(*bindings: str) -> Router[str]:
    router: Router[str] = Router()
    for binding in bindings:
        http_method, template = binding.split(" ")
        router.add(http_method, parse(template), binding)
    return router


BOOK = "GET /v1/{parent=shelves/*}/books/{book}"
ROUTER = _router(
    "GET /v1/jobs",
    "POST /v1/jobs",
    "POST /v1/jobs:batch",
    "GET /v1/jobs/{job_id}",
    "DELETE /v1/jobs/{job_id}",
    "GET /v1/jobs/available",
    "POST /v1/jobs/{job_id}/cancel",
    BOOK,
    "GET /files/{path=**}",
    "POST /files/{path=**}:touch",
    "GET /health",
)


@pytest.mark.parametrize(
    ("http_method", "path", "target", "captures"),
    [
        ("POST", "/v1/jobs", "POST /v1/jobs", ()),
        ("POST", "/v1/jobs/", "POST /v1/jobs", ()),
        ("POST", "/v1/jobs:batch", "POST /v1/jobs:batch", ()),
        ("POST", "/v1/jobs%3Abatch", "POST /v1/jobs:batch", ()),
        ("GET", "/v1/jobs/available", "GET /v1/jobs/available", ()),
        ("GET", "/v1/jobs/job-1", "GET /v1/jobs/{job_id}", ("job-1",)),
        ("GET", "/v1/jobs/job-1/", "GET /v1/jobs/{job_id}", ("job-1",)),
        ("GET", "/v1/jobs/a%2Fb%20c", "GET /v1/jobs/{job_id}", ("a/b c",)),
        # A colon that begins no known verb belongs to the value.
        ("GET", "/v1/jobs/a:b", "GET /v1/jobs/{job_id}", ("a:b",)),
        ("POST", "/v1/jobs/a/cancel", "POST /v1/jobs/{job_id}/cancel", ("a",)),
        ("GET", "/v1/shelves/7/books/x", BOOK, ("shelves/7", "x")),
        ("GET", "/files/a/b/c", "GET /files/{path=**}", ("a/b/c",)),
        ("GET", "/files", "GET /files/{path=**}", ("",)),
        ("POST", "/files/a/b:touch", "POST /files/{path=**}:touch", ("a/b",)),
    ],
)  # fmt: skip
def test_a_path_finds_its_binding(
    http_method: str, path: str, target: str, captures: tuple[str, ...]
) -> None:
    assert ROUTER.match(http_method, path) == (target, captures)


@pytest.mark.parametrize(
    "path", ["", "/", "/v1", "/v2/jobs", "/v1/jobs//cancel", "/v1/jobs//", "/healthy", "//health"]
)
def test_a_path_without_a_binding_is_not_found(path: str) -> None:
    with pytest.raises(RouteNotFound):
        ROUTER.match("GET", path)


def test_the_wrong_method_names_the_right_ones() -> None:
    with pytest.raises(MethodNotAllowed) as raised:
        ROUTER.match("PUT", "/v1/jobs/available")

    assert raised.value.headers == ((b"allow", b"GET, HEAD, OPTIONS"),)


def test_a_literal_has_its_path_to_itself() -> None:
    with pytest.raises(MethodNotAllowed):
        ROUTER.match("DELETE", "/v1/jobs/available")
    assert ROUTER.allowed("/v1/jobs/available") == {"GET"}


def test_allowed_unites_all_bindings_of_a_path() -> None:
    assert ROUTER.allowed("/v1/jobs") == {"GET", "POST"}
    with pytest.raises(RouteNotFound):
        ROUTER.allowed("/nothing")


def test_a_malformed_escape_is_an_error_of_the_caller() -> None:
    with pytest.raises(InvalidArgument, match="path"):
        ROUTER.match("GET", "/v1/jobs/%zz")


def test_binding_the_same_paths_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="bound twice"):
        _router("GET /v1/{a}", "GET /v1/{b}")


@given(st.text(alphabet="/:%2Fav1jobs*", max_size=30))
def test_any_path_is_matched_or_refused(path: str) -> None:
    try:
        ROUTER.match("GET", "/" + path)
    except (RouteNotFound, MethodNotAllowed, InvalidArgument):
        pass


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        ("/v1/jobs/a/b/c", True),
        ("/v1/jobs:nothing", True),
        ("/v1/shelves", True),
        ("/v1/job", False),
        ("/v1", False),
        ("/v2/jobs", False),
        ("/", False),
    ],
)
def test_what_begins_as_a_bound_path_is_known(path: str, begins: bool) -> None:
    assert ROUTER.begins(path) is begins
