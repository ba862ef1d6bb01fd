"""Webhooks over REST, and no notification lost when the coordinator is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
from scripts.processes import Coordinator
from standardwebhooks import Webhook as Verifier

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_error, final, submit, submit_many
from tests.e2e.keys import create_key
from tests.receiver import PATIENCE_S, Receiver, status

EVENTS = ["job.completed", "job.failed", "job.cancelled"]
ENV = CLEAN_ENV | {"AITBC_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """A receiver that takes everything."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def hanging_hook() -> Iterator[Receiver]:
    """A receiver whose first answer never comes."""
    release = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        release.wait(PATIENCE_S)
        handler.close_connection = True

    receiver = Receiver(hang, status(204))
    yield receiver
    release.set()
    receiver.close()


def client(coordinator: Coordinator) -> httpx.Client:
    """Returns a client of the coordinator's REST API."""
    return httpx.Client(base_url=coordinator.url, timeout=70)


def create(api: httpx.Client, url: str, events: list[str] = EVENTS) -> dict[str, Any]:
    """Registers a webhook."""
    response = api.post("/v1/webhooks", json={"url": url, "events": events})
    assert response.status_code == 201, response.text
    return dict(response.json())


def test_coordinator_killed_before_it_delivered_delivers_when_it_is_back(
    launcher: Launcher, hanging_hook: Receiver
) -> None:
    before = launcher.coordinator(env=ENV)
    launcher.miner(before)
    with client(before) as api:
        webhook = create(api, hanging_hook.url)
        job_id = submit(api, prompt="notify")
        assert final(api, job_id)["status"] == "completed"
        # Under way, and not answered: the kill comes between the final state and the delivery.
        first = hanging_hook.next()
        before.program.kill()

    after = launcher.again(before, env=ENV)
    second = hanging_hook.next()
    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    assert second.body == first.body
    event = Verifier(webhook["secret"]).verify(second.body, dict(second.headers))
    assert event["data"]["job_id"] == job_id
    assert event["data"]["result"] == "notify"
    with client(after) as api:
        path = f"/v1/webhooks/{webhook['webhook_id']}"
        assert api.get(path).json()["status"] == "enabled"
        assert api.delete(path).status_code == 204


def test_of_jobs_that_end_around_a_kill_no_notification_is_lost(
    launcher: Launcher, hook: Receiver
) -> None:
    before = launcher.coordinator(env=ENV)
    launcher.miner(before, "--engine-opt", "latency=0.05", slots=8)
    with client(before) as api:
        create(api, hook.url)
        jobs = set(submit_many(api, 60))
        final(api, min(jobs))
        before.program.kill()

    launcher.again(before, env=ENV)
    ids: dict[str, set[str]] = {}
    while set(ids) != jobs:
        message = hook.next()
        job_id = httpx.Response(200, content=message.body).json()["data"]["job_id"]
        ids.setdefault(job_id, set()).add(message.headers["webhook-id"])
    # Whatever came twice came under one id.
    assert all(len(of_one) == 1 for of_one in ids.values())


def test_the_documented_request_is_answered_as_documented(api: httpx.Client) -> None:
    url = "https://your-app.com/webhook"
    webhook = create(api, url, ["job.completed", "job.failed"])
    assert webhook["url"] == url
    assert webhook["events"] == ["job.completed", "job.failed"]
    assert webhook["status"] == "enabled"
    assert webhook["secret"].startswith("whsec_")
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    listed = {one["webhook_id"]: one for one in api.get("/v1/webhooks").json()["webhooks"]}
    assert "secret" not in listed[webhook["webhook_id"]]
    assert "secret" not in api.get(path).json()
    assert api.patch(path, json={"enabled": False}).json()["status"] == "disabled"
    rotated = api.post(f"{path}/rotate").json()
    assert rotated["secret"] != webhook["secret"]
    assert api.get(f"{path}/deliveries").json() == {"deliveries": []}
    assert api.delete(path).status_code == 204
    assert_error(api.get(path), 404, "WEBHOOK_NOT_FOUND")
    assert_error(api.delete(path), 404, "WEBHOOK_NOT_FOUND")


@pytest.mark.parametrize(
    ("change", "mentions"),
    [
        ({"url": "http://127.0.0.1/"}, ("url", "127.0.0.1", "not a public address")),
        ({"url": "http://localhost/"}, ("url", "not a public address")),
        ({"url": "http://2130706433/"}, ("url", "not a public address")),
        ({"url": "http://0x7f.1/"}, ("url", "not a public address")),
        ({"url": "http://[::ffff:7f00:1]/"}, ("url", "not a public address")),
        ({"url": "http://169.254.169.254/latest/meta-data"}, ("url", "not a public address")),
        ({"url": "https://8.8.8.8:22/"}, ("url", "port 22")),
        ({"url": "https://me:secret@example.com/"}, ("url", "user or password")),
        ({"url": "ftp://example.com/"}, ("url", "https://")),
        ({"url": "https://" + "a" * 2048}, ("url", "2048")),
        ({"url": ""}, ("url", "required")),
        ({"events": []}, ("events", "required")),
        ({"events": ["job.started"]}, ("events[0]", "job")),
        ({"events": "job.completed"}, ("events",)),
        ({"secret": "mine"}, ("secret", "unknown")),
    ],
)
def test_a_wrong_webhook_is_refused_with_the_field_that_is_wrong(
    api: httpx.Client, change: dict[str, Any], mentions: tuple[str, ...]
) -> None:
    good = {"url": "https://your-app.com/webhook", "events": EVENTS}
    assert_error(api.post("/v1/webhooks", json=good | change), 400, "INVALID_ARGUMENT", *mentions)


def test_a_delivery_of_another_webhook_is_not_found(api: httpx.Client) -> None:
    first, second = (create(api, f"https://your-app.com/{n}") for n in range(2))
    tested = api.post(f"/v1/webhooks/{first['webhook_id']}/test").json()
    assert tested["status"] == "failed"
    found = api.get(f"/v1/webhooks/{first['webhook_id']}/deliveries/{tested['delivery_id']}")
    assert found.json() == tested
    for delivery_id in (tested["delivery_id"], "msg-1", "x"):
        path = f"/v1/webhooks/{second['webhook_id']}/deliveries/{delivery_id}"
        assert_error(api.get(path), 404, "DELIVERY_NOT_FOUND")
        assert_error(api.post(f"{path}/redeliver"), 404, "DELIVERY_NOT_FOUND")
    for one in (first, second):
        api.delete(f"/v1/webhooks/{one['webhook_id']}")


def test_a_webhook_hears_of_its_owners_jobs_only(launcher: Launcher) -> None:
    coordinator = launcher.coordinator("--auth", "required", env=ENV)
    keys = [create_key(coordinator.data, "client") for _ in range(2)]
    hooks = [Receiver(), Receiver()]
    try:
        for key, hook in zip(keys, hooks, strict=True):
            with client(coordinator) as api:
                api.headers["x-api-key"] = key
                made = create(api, hook.url)
                mine = submit(api)
                api.post(f"/v1/jobs/{mine}/cancel").raise_for_status()
            message = hook.next()
            event = Verifier(made["secret"]).verify(message.body, dict(message.headers))
            assert event["data"]["job_id"] == mine
        # The first one would have heard of the second job by now, before the second one did.
        assert hooks[0].messages.empty()
        with client(coordinator) as api:
            path = f"/v1/webhooks/{made['webhook_id']}"
            assert_error(api.get(path, headers={"x-api-key": keys[0]}), 404, "WEBHOOK_NOT_FOUND")
            listed = api.get("/v1/webhooks", headers={"x-api-key": keys[0]}).json()["webhooks"]
            assert [one["url"] for one in listed] == [hooks[0].url]
    finally:
        for hook in hooks:
            hook.close()


def test_an_owner_has_so_many_webhooks_and_no_more(launcher: Launcher) -> None:
    coordinator = launcher.coordinator(env=ENV | {"AITBC_WEBHOOK_MAX_PER_OWNER": "1"})
    with client(coordinator) as api:
        create(api, "https://your-app.com/1")
        again = api.post("/v1/webhooks", json={"url": "https://your-app.com/2", "events": EVENTS})
        assert_error(again, 409, "TOO_MANY_WEBHOOKS", "1 webhooks already")
