"""The answer to a bad request names what is wrong, in the documented form; nothing is stored."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from scripts.processes import Coordinator

from tests.e2e.jobs import assert_error, submit

JSON = {"Content-Type": "application/json"}
JOB = {"prompt": "hello", "model": "a-model-of-nobody"}
NO_JOB = "/v1/jobs/job-0000000000000000000000000"
MINER = {"miner_id": "registered", "capabilities": ["a-model-of-nobody"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A request, and what its error says."""

    name: str
    method: str = "POST"
    path: str = "/v1/jobs"
    # Sent as JSON, unless it is bytes.
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    status: int = 400
    error_code: str = "INVALID_ARGUMENT"
    # What the detail mentions: the name of the field.
    mentions: str = ""

    def send(self, api: httpx.Client) -> httpx.Response:
        """Sends the request."""
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return api.request(
            self.method,
            self.path,
            content=None if self.method == "GET" else content,
            headers=self.headers,
        )


def bad_job(name: str, mentions: str, **fields: Any) -> Bad:
    """Returns a submit that is right but for the given fields; None leaves one out."""
    body = {key: value for key, value in {**JOB, **fields}.items() if value is not None}
    return Bad(name=name, body=body, mentions=mentions)


def bad_params(name: str, mentions: str, **params: Any) -> Bad:
    """Returns a submit whose params are wrong."""
    return bad_job(name, f"params.{mentions}", params=params)


def bad_bytes(name: str, body: bytes) -> Bad:
    """Returns a submit whose body is not the JSON of an object."""
    return Bad(name=name, body=body, error_code="INVALID_JSON")


def nested(depth: int) -> list[Any]:
    """Returns a list in a list in a list ..."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def bad_query(query: str, mentions: str, path: str = "/v1/jobs") -> Bad:
    """Returns a read whose query is wrong."""
    return Bad(name=f"{path}?{query}", method="GET", path=f"{path}?{query}", mentions=mentions)


def unknown_job(method: str, suffix: str, **body: Any) -> Bad:
    """Returns a request for a job that does not exist."""
    return Bad(
        name=f"{suffix or 'get'} of no job",
        method=method,
        path=NO_JOB + suffix,
        body=body,
        status=404,
        error_code="JOB_NOT_FOUND",
    )


def stranger(name: str, method: str, path: str, **body: Any) -> Bad:
    """Returns a request of a miner that never registered."""
    return Bad(
        name=name, method=method, path=path, body=body, status=404, error_code="MINER_NOT_FOUND"
    )


SUBMITS = [
    bad_job("no prompt", "prompt", prompt=None),
    bad_job("empty prompt", "prompt", prompt=""),
    bad_job("blank prompt", "prompt", prompt=" \n\t"),
    bad_job("prompt and messages", "messages", messages=[{"role": "user", "content": "hi"}]),
    bad_job("NUL in the prompt", "prompt", prompt="a\0b"),
    bad_job("prompt beyond its limit", "prompt", prompt="x" * (1 << 20) + "y"),
    bad_job("prompt of another type", "prompt", prompt=5),
    bad_job("nested prompt", "prompt", prompt=nested(20)),
    Bad(name="no body", body=b"", mentions="is required"),
    bad_job("no model", "model", model=None),
    bad_job("empty model", "model", model=""),
    bad_job("model with a space", "model", model="llama 3"),
    bad_job("unknown field", "temprature", temprature=1),
    bad_job("priority out of range", "priority", priority=101),
    bad_job("timeout of nothing", "timeout_seconds", timeout_seconds=0),
    bad_job("too many attempts", "max_attempts", max_attempts=11),
    bad_job(
        "role of two words",
        "messages[0].role",
        prompt=None,
        messages=[{"role": "me too", "content": "hi"}],
    ),
    bad_job("params of another type", "params", params="hot"),
    bad_params("unknown param", "max_token", max_token=5),
    Bad(
        name="more messages than a job may have",
        body={"model": "m", "messages": [{"no": "message"}] * 1001},
        mentions="messages",
    ),
    bad_params("no tokens", "max_tokens", max_tokens=0),
    bad_params("fewer than no tokens", "max_tokens", max_tokens=-1),
    bad_params("tokens in words", "max_tokens", max_tokens="many"),
    bad_params("half a token", "max_tokens", max_tokens=1.5),
    bad_params("true tokens", "max_tokens", max_tokens=True),
    bad_params("tokens beyond 32 bits", "max_tokens", max_tokens=1 << 40),
    bad_params("temperature too high", "temperature", temperature=99),
    bad_params("temperature below zero", "temperature", temperature=-0.1),
    bad_params("top_p of zero", "top_p", top_p=0),
    bad_params("stop that is no list", "stop", stop="END"),
    bad_params("empty stop", "stop[0]", stop=[""]),
    Bad(name="empty batch", path="/v1/jobs:batch", body={"jobs": []}, mentions="jobs"),
    Bad(
        name="batch with one wrong job",
        path="/v1/jobs:batch",
        body={"jobs": [JOB, JOB, {**JOB, "params": {"temperature": 99}}]},
        mentions="jobs[2].params.temperature",
    ),
    Bad(
        name="batch beyond its limit",
        path="/v1/jobs:batch",
        body={"jobs": [JOB] * 1001},
        mentions="jobs",
    ),
    Bad(
        name="idempotency key beyond its limit",
        body=JOB,
        headers={**JSON, "Idempotency-Key": "k" * 129},
        mentions="request_id",
    ),
]
BODIES = [
    bad_bytes("lone surrogate", rb'{"prompt": "\ud800", "model": "m"}'),
    bad_bytes("body that is not JSON", b"prompt=hello"),
    bad_bytes("body that ends early", b'{"prompt": "hello", "model": "m"'),
    bad_bytes("body that is a list", b"[]"),
    bad_bytes("body that is null", b"null"),
    bad_bytes("invalid UTF-8", b'{"prompt": "\xff\xfe", "model": "m"}'),
    bad_bytes("raw NUL", b'{"prompt": "a\x00b", "model": "m"}'),
    bad_bytes("NaN", b'{"prompt": "a", "model": "m", "params": {"temperature": NaN}}'),
    bad_bytes("deeply nested lists", b"[" * 100_000),
    bad_bytes("deeply nested objects", b'{"params": ' * 50_000 + b"1" + b"}" * 50_000),
    bad_bytes("prompt nested beyond the limit", json.dumps({**JOB, "prompt": nested(32)}).encode()),
    bad_bytes("prompt nested far beyond", json.dumps({**JOB, "prompt": nested(900)}).encode()),
    bad_bytes("a name twice", b'{"prompt": "a", "model": "m", "prompt": "b"}'),
    bad_bytes("millions of messages", b'{"messages":[' + b"{}," * 2_600_000 + b"{}]}"),
    Bad(
        name="10 MB body",
        body=b'{"prompt": "' + b"x" * 10_000_000 + b'", "model": "m"}',
        status=413,
        error_code="PAYLOAD_TOO_LARGE",
    ),
    Bad(
        name="text",
        body=b"hello",
        headers={"Content-Type": "text/plain"},
        status=415,
        error_code="UNSUPPORTED_MEDIA_TYPE",
    ),
    Bad(
        name="form",
        body=b"prompt=hello",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        status=415,
        error_code="UNSUPPORTED_MEDIA_TYPE",
    ),
]
QUERIES = [
    bad_query("status=sleeping", "status"),
    bad_query("limit=0", "limit"),
    bad_query("limit=-1", "limit"),
    bad_query("limit=1000000000", "limit"),
    bad_query("limit=ten", "limit"),
    bad_query("page_token=garbage", "page_token"),
    bad_query("page_token=%00", "page_token"),
    bad_query("colour=red", "colour"),
    bad_query("limit=0", "limit", "/v1/miners"),
    bad_query("page_token=~~~", "page_token", "/v1/miners"),
    bad_query("", "miner_id", "/v1/jobs/available"),
    bad_query("wait=-1", "wait", NO_JOB),
    bad_query("wait=61", "wait", NO_JOB),
    bad_query("wait=soon", "wait", NO_JOB),
]
OTHERS = [
    unknown_job("GET", ""),
    unknown_job("POST", "/cancel"),
    unknown_job("POST", "/claim", miner_id="registered"),
    unknown_job("POST", "/complete", miner_id="registered", result="x"),
    unknown_job("POST", "/fail", miner_id="registered", error="x"),
    unknown_job("POST", "/extend", miner_id="registered"),
    Bad(
        name="id of another form",
        method="GET",
        path="/v1/jobs/%F0%9F%92%A9",
        status=404,
        error_code="JOB_NOT_FOUND",
    ),
    stranger("stranger looks", "GET", "/v1/jobs/available?miner_id=stranger"),
    stranger("stranger is looked up", "GET", "/v1/miners/stranger"),
    Bad(name="claim without a miner", path=f"{NO_JOB}/claim", body={}, mentions="miner_id"),
    Bad(
        name="completion without a result",
        path=f"{NO_JOB}/complete",
        body={"miner_id": "registered"},
        mentions="result",
    ),
    Bad(
        name="miner without capabilities",
        path="/v1/miners/register",
        body={"miner_id": "bare"},
        mentions="capabilities",
    ),
    Bad(
        name="miner id with a slash",
        path="/v1/miners/register",
        body={**MINER, "miner_id": "a/b"},
        mentions="miner_id",
    ),
    Bad(
        name="unknown path",
        method="GET",
        path="/v1/nothing",
        status=404,
        error_code="ROUTE_NOT_FOUND",
    ),
    Bad(
        name="unknown path below /api",
        method="GET",
        path="/api/v2/jobs",
        status=404,
        error_code="ROUTE_NOT_FOUND",
    ),
]


@pytest.fixture
def registered(api: httpx.Client) -> None:
    """The miner that the table's requests name."""
    assert api.post("/v1/miners/register", json=MINER).status_code in {200, 201}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("bad", [*SUBMITS, *BODIES, *QUERIES, *OTHERS], ids=lambda bad: bad.name)
def test_error_names_what_is_wrong_and_nothing_is_stored(api: httpx.Client, bad: Bad) -> None:
    before = jobs_stored(api)
    assert_error(bad.send(api), bad.status, bad.error_code, bad.mentions)
    assert jobs_stored(api) == before


@pytest.mark.parametrize("path", ["/v1/nothing", "/api/v1/nothing", "/v2/jobs"])
def test_openais_libraries_are_told_in_their_words_too(api: httpx.Client, path: str) -> None:
    response = api.get(path, headers={"x-stainless-lang": "python"})
    body = response.json()
    assert response.status_code == 404
    assert (set(body), body["error_code"]) == ({"detail", "error_code", "error"}, "ROUTE_NOT_FOUND")
    assert (body["error"]["message"], body["error"]["code"]) == (body["detail"], "unknown_url")


def test_method_that_a_path_does_not_have_is_405_with_allow(api: httpx.Client) -> None:
    response = api.delete("/v1/jobs")
    assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert {"GET", "POST"} <= set(response.headers["allow"].replace(",", " ").split())


def test_stranger_cannot_claim(api: httpx.Client, model: str) -> None:
    job_id = submit(api, model)
    response = api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": "stranger"})
    assert_error(response, 404, "MINER_NOT_FOUND")


def test_bytes_that_are_not_http_do_not_disturb_the_server(
    api: httpx.Client, coordinator: Coordinator
) -> None:
    host, _, port = coordinator.http.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 not HTTP \x00\xff\r\n\r\n")
        assert not connection.recv(4096).startswith(b"HTTP/1.1 2")
    assert api.get("/health").json()["status"] == "ok"


def jobs_stored(api: httpx.Client) -> int:
    """Returns how many jobs there are, whatever their status."""
    return sum(api.get("/v1/stats").json()["jobs"].values())
