"""A coordinator that has nothing yet says so with empty lists, alone and behind a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Launcher
from tests.e2e.jobs import submit
from tests.e2e.test_gateway import start_gateway


@pytest.fixture(scope="module", params=["coordinator", "gateway"])
def empty(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """The REST API of a coordinator to which nobody came before the tests."""
    directory: Path = tmp_path_factory.mktemp("empty")
    launcher = Launcher(directory)
    coordinator = launcher.coordinator()
    url = coordinator.url
    if request.param == "gateway":
        url = f"http://{start_gateway(coordinator, launcher, directory / 'gateway.log')}"
    with httpx.Client(base_url=url, timeout=70) as client:
        yield client
    launcher.close()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/jobs", {"jobs": []}),
        ("/v1/jobs?status=failed", {"jobs": []}),
        ("/v1/miners", {"miners": []}),
        ("/v1/receipts", {"receipts": []}),
        ("/v1/webhooks", {"webhooks": []}),
        ("/explorer/blocks", {"blocks": []}),
        ("/explorer/transactions", {"transactions": []}),
        ("/explorer/receipts", {"receipts": []}),
        ("/v1/models", {"object": "list", "data": []}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/api"])
def test_an_empty_list_is_there(
    empty: httpx.Client, prefix: str, path: str, answer: dict[str, Any]
) -> None:
    assert empty.get(prefix + path).json() == answer


def test_a_list_beside_other_fields_is_there(empty: httpx.Client) -> None:
    assert empty.get("/v1/usage").json()["usage"] == []
    assert empty.get("/v1/stats").json()["models"] == []
    assert empty.get("/explorer/stats").json()["models"] == []


def test_lists_and_maps_at_the_top_of_a_job_are_there(empty: httpx.Client, model: str) -> None:
    job = empty.get(f"/v1/jobs/{submit(empty, model)}").json()

    for name in ("messages", "attempts", "tools", "tool_calls", "logprobs"):
        assert job[name] == []
    assert job["metadata"] == {}
    assert not {"result", "miner_id", "started_at", "params", "error"} & set(job)


def test_a_job_in_a_list_has_what_is_set(empty: httpx.Client, model: str) -> None:
    submit(empty, model)
    (job,) = empty.get("/v1/jobs", params={"model": model}).json()["jobs"]
    assert set(job) == {"job_id", "status", "created_at", "model", "prompt", "max_attempts"}


def test_deliveries_of_a_new_webhook_are_an_empty_list(empty: httpx.Client) -> None:
    body = {"url": "https://example.com/hook", "events": ["job.failed"]}
    hook = empty.post("/v1/webhooks", json=body).json()["webhook_id"]
    answer = empty.get(f"/v1/webhooks/{hook}/deliveries").json()
    empty.delete(f"/v1/webhooks/{hook}").raise_for_status()
    assert answer == {"deliveries": []}
