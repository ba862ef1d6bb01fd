"""Webhooks of a running coordinator, against a receiver that really listens."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from aitbc.v1 import jobs_pb2, webhooks_pb2
from aitbc_server.webhooks import build
from tests.integration.server.harness import PATIENCE_S, Client, coordinator
from tests.receiver import Answer, Message, Receiver, status

ALL = ["job.completed", "job.failed", "job.cancelled"]
Receive = Callable[..., Receiver]


@pytest.fixture
def receiver() -> Iterator[Receive]:
    """Starts receivers that end with the test."""
    started: list[Receiver] = []

    def start(*answers: Answer, **options: Any) -> Receiver:
        started.append(Receiver(*answers, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@asynccontextmanager
async def serving(data: Path, **settings: Any) -> AsyncIterator[Client]:
    """Runs a coordinator that may post to loopback and tries again at once."""
    values = {
        "webhook_allow_networks": "127.0.0.0/8",
        "webhook_retry_seconds": "0.01,0.02,0.03",
        "webhook_timeout_seconds": 0.5,
    }
    async with coordinator(data, **(values | settings)) as client:
        yield client


async def create(client: Client, url: str, events: list[str] | None = None) -> webhooks_pb2.Webhook:
    return await client.webhooks.CreateWebhook(
        webhooks_pb2.CreateWebhookRequest(url=url, events=events or ALL)
    )


async def complete_one(client: Client, result: str = "done", **fields: Any) -> str:
    job_id = await client.submit(**fields)
    async with client.miner() as miner:
        [assignment] = await miner.assignments()
        await miner.complete(assignment.lease_id, result)
        await miner.expect("acks")
    return job_id


async def cancel_one(client: Client) -> str:
    job_id = await client.submit()
    await client.jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=job_id))
    return job_id


async def following(receiver: Receiver) -> Message:
    return await asyncio.to_thread(receiver.next)


def verified(message: Message, secret: str) -> dict[str, Any]:
    data: dict[str, Any] = Verifier(secret).verify(message.body, dict(message.headers))
    return data


async def settled(client: Client, webhook_id: str, count: int = 1) -> list[webhooks_pb2.Delivery]:
    """Returns the deliveries when none of so many is pending any more."""
    request = webhooks_pb2.ListDeliveriesRequest(webhook_id=webhook_id, limit=100)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = list((await client.webhooks.ListDeliveries(request)).deliveries)
            pending = [one for one in found if one.status == webhooks_pb2.DELIVERY_STATUS_PENDING]
            if len(found) >= count and not pending:
                return found
            await asyncio.sleep(0.02)


async def test_a_message_tells_how_the_job_ended_and_is_signed(
    tmp_path: Path, receiver: Receive
) -> None:
    hook = receiver()
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        assert webhook.secret.startswith("whsec_")
        job_id = await complete_one(client, "the answer", prompt="a secret prompt")
        message = await following(hook)
        event = verified(message, webhook.secret)
        assert event["type"] == "job.completed"
        assert event["data"]["job_id"] == job_id
        assert event["data"]["status"] == "completed"
        assert event["data"]["result"] == "the answer"
        assert event["timestamp"] == event["data"]["completed_at"]
        assert not {"prompt", "messages", "params"} & set(event["data"])
        assert b"a secret prompt" not in message.body
        assert message.headers["content-type"] == "application/json"
        [delivery] = await settled(client, webhook.webhook_id)
    assert delivery.status == webhooks_pb2.DELIVERY_STATUS_DELIVERED
    assert delivery.delivery_id == message.headers["webhook-id"]
    assert [attempt.status_code for attempt in delivery.attempts] == [204]


async def test_another_secret_does_not_verify(tmp_path: Path, receiver: Receive) -> None:
    hook = receiver()
    async with serving(tmp_path) as client:
        await create(client, hook.url)
        other = await create(client, receiver().url)
        await cancel_one(client)
        message = await following(hook)
    with pytest.raises(WebhookVerificationError):
        verified(message, other.secret)


async def test_a_webhook_hears_only_of_its_events(tmp_path: Path, receiver: Receive) -> None:
    hook = receiver()
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url, ["job.failed", "job.cancelled"])
        await complete_one(client)
        failed = await client.submit(max_attempts=1)
        async with client.miner() as miner:
            [assignment] = await miner.assignments()
            await miner.fail(assignment.lease_id, retryable=False)
            await client.job(failed, wait=PATIENCE_S)
        cancelled = await cancel_one(client)
        events = [verified(await following(hook), webhook.secret) for _ in range(2)]
        assert {(one["type"], one["data"]["job_id"]) for one in events} == {
            ("job.failed", failed),
            ("job.cancelled", cancelled),
        }
        error = next(one["data"]["error"] for one in events if one["type"] == "job.failed")
        assert error["code"] == "OOM"
        assert len(await settled(client, webhook.webhook_id, 2)) == 2


async def test_a_message_is_sent_again_under_the_same_id_until_it_is_taken(
    tmp_path: Path, receiver: Receive
) -> None:
    hook = receiver(status(500), status(503), status(204))
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        messages = [await following(hook) for _ in range(3)]
        [delivery] = await settled(client, webhook.webhook_id)
    assert len({message.headers["webhook-id"] for message in messages}) == 1
    assert len({message.body for message in messages}) == 1
    for message in messages:
        verified(message, webhook.secret)
    assert delivery.status == webhooks_pb2.DELIVERY_STATUS_DELIVERED
    assert [one.status_code for one in delivery.attempts] == [500, 503, 204]


async def test_a_receiver_that_does_not_answer_is_left_and_tried_again(
    tmp_path: Path, receiver: Receive
) -> None:
    release = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        release.wait(PATIENCE_S)
        handler.close_connection = True

    hook = receiver(hang, status(204))
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        [delivery] = await settled(client, webhook.webhook_id)
        release.set()
    first, second = delivery.attempts
    assert not first.HasField("status_code")
    assert first.error == "no answer within 0.5 s"
    assert second.status_code == 204


async def test_the_schedule_ends(tmp_path: Path, receiver: Receive) -> None:
    hook = receiver(status(500))
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        [delivery] = await settled(client, webhook.webhook_id)
    assert delivery.status == webhooks_pb2.DELIVERY_STATUS_FAILED
    assert len(delivery.attempts) == 4
    assert not delivery.HasField("next_attempt_at")


async def test_retry_after_is_honoured(tmp_path: Path, receiver: Receive) -> None:
    hook = receiver(status(429, retry_after="3600"))
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        await following(hook)
        request = webhooks_pb2.ListDeliveriesRequest(webhook_id=webhook.webhook_id)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                [delivery] = (await client.webhooks.ListDeliveries(request)).deliveries
                if delivery.attempts:
                    break
                await asyncio.sleep(0.02)
    wait_s = delivery.next_attempt_at.seconds - delivery.attempts[0].attempted_at.seconds
    assert 3599 <= wait_s <= 3610


async def test_gone_disables_the_webhook_until_its_owner_enables_it(
    tmp_path: Path, receiver: Receive
) -> None:
    hook = receiver(status(410), status(204))
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        [delivery] = await settled(client, webhook.webhook_id)
        assert delivery.status == webhooks_pb2.DELIVERY_STATUS_FAILED
        which = webhooks_pb2.GetWebhookRequest(webhook_id=webhook.webhook_id)
        now = await client.webhooks.GetWebhook(which)
        assert now.status == webhooks_pb2.WEBHOOK_STATUS_DISABLED
        assert "410" in now.disabled_reason
        await cancel_one(client)
        enabled = await client.webhooks.UpdateWebhook(
            webhooks_pb2.UpdateWebhookRequest(webhook_id=webhook.webhook_id, enabled=True)
        )
        assert enabled.status == webhooks_pb2.WEBHOOK_STATUS_ENABLED
        assert not enabled.disabled_reason
        third = await cancel_one(client)
        await following(hook)
        assert verified(await following(hook), webhook.secret)["data"]["job_id"] == third
        assert len(await settled(client, webhook.webhook_id)) == 2


async def test_a_redirect_to_loopback_is_not_followed(tmp_path: Path, receiver: Receive) -> None:
    target = receiver()
    hook = receiver(status(307, location=target.url))
    async with serving(tmp_path, webhook_retry_seconds="") as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        [delivery] = await settled(client, webhook.webhook_id)
    assert delivery.status == webhooks_pb2.DELIVERY_STATUS_FAILED
    assert delivery.attempts[0].status_code == 307
    assert "redirect" in delivery.attempts[0].error
    assert target.messages.empty()


async def test_of_a_huge_answer_little_is_read(tmp_path: Path, receiver: Receive) -> None:
    size, sent = 100 * 2**20, [0]
    ended = threading.Event()

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        handler.send_response(200)
        handler.send_header("content-length", str(size))
        handler.end_headers()
        try:
            while sent[0] < size:
                sent[0] += handler.connection.send(bytes(65536))
        except OSError:
            handler.close_connection = True
        ended.set()

    hook = receiver(flood)
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        [delivery] = await settled(client, webhook.webhook_id)
        assert await asyncio.to_thread(ended.wait, PATIENCE_S)
    assert delivery.status == webhooks_pb2.DELIVERY_STATUS_DELIVERED
    # What the buffers of both ends hold.
    assert sent[0] < 16 * 2**20


async def test_an_answer_without_end_is_cut(tmp_path: Path, receiver: Receive) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b".")
                handler.wfile.flush()
                threading.Event().wait(0.05)
        except OSError:
            handler.close_connection = True

    hook = receiver(drip)
    async with serving(tmp_path, webhook_retry_seconds="") as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        [delivery] = await settled(client, webhook.webhook_id)
    assert delivery.attempts[0].error == "no answer within 0.5 s"
    assert delivery.attempts[0].duration_ms < 5000


async def test_a_name_that_changes_its_mind_is_refused(
    tmp_path: Path, receiver: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = receiver(status(500), status(204))
    asked: list[str] = []

    class Resolver:
        async def __call__(self, host: str, port: int) -> list[str]:
            asked.append(host)
            # Registration, the check of the first attempt and its connection; then it turns.
            return ["127.0.0.1"] if len(asked) <= 3 else ["127.1.2.3", "::1", "10.0.0.1"]

    monkeypatch.setattr(build, "SystemResolver", Resolver)
    async with serving(
        tmp_path, webhook_allow_networks="127.0.0.1/32", webhook_retry_seconds="0.01"
    ) as client:
        webhook = await create(client, f"http://receiver.example:{hook.port}/hook")
        await cancel_one(client)
        first = await following(hook)
        assert first.headers["host"] == f"receiver.example:{hook.port}"
        [delivery] = await settled(client, webhook.webhook_id)
    assert delivery.status == webhooks_pb2.DELIVERY_STATUS_FAILED
    assert delivery.attempts[0].status_code == 500
    assert "not a public address" in delivery.attempts[1].error
    assert hook.messages.empty()


async def test_a_slow_receiver_delays_nobody_else(tmp_path: Path, receiver: Receive) -> None:
    release = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        release.wait(PATIENCE_S)
        status(204)(handler)

    slow, quick = receiver(hang), receiver()
    async with serving(tmp_path, webhook_timeout_seconds=PATIENCE_S) as client:
        await create(client, slow.url)
        webhook = await create(client, quick.url)
        for _ in range(20):
            await cancel_one(client)
        for _ in range(20):
            verified(await following(quick), webhook.secret)
        # All the while, it holds a single connection.
        assert slow.messages.qsize() == 1
        release.set()


async def test_a_new_secret_overlaps_with_the_old_one(tmp_path: Path, receiver: Receive) -> None:
    hook = receiver()
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        rotate = webhooks_pb2.RotateWebhookSecretRequest(webhook_id=webhook.webhook_id)
        second = await client.webhooks.RotateWebhookSecret(rotate)
        assert second.secret != webhook.secret
        assert second.HasField("previous_secret_expires_at")
        await cancel_one(client)
        message = await following(hook)
        verified(message, webhook.secret)
        verified(message, second.secret)

        rotate.overlap_seconds = 0
        third = await client.webhooks.RotateWebhookSecret(rotate)
        assert not third.HasField("previous_secret_expires_at")
        await cancel_one(client)
        message = await following(hook)
        verified(message, third.secret)
        with pytest.raises(WebhookVerificationError):
            verified(message, second.secret)


async def test_a_test_is_sent_at_once_and_reports(tmp_path: Path, receiver: Receive) -> None:
    hook = receiver(status(204), status(500))
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        test = webhooks_pb2.TestWebhookRequest(webhook_id=webhook.webhook_id)
        good = await client.webhooks.TestWebhook(test)
        assert good.status == webhooks_pb2.DELIVERY_STATUS_DELIVERED
        message = await following(hook)
        assert message.headers["webhook-id"] == good.delivery_id
        assert verified(message, webhook.secret)["type"] == "webhook.test"
        bad = await client.webhooks.TestWebhook(test)
        assert bad.status == webhooks_pb2.DELIVERY_STATUS_FAILED
        assert bad.attempts[0].error == "answered 500"
        assert [one.delivery_id for one in await settled(client, webhook.webhook_id, 2)] == [
            bad.delivery_id,
            good.delivery_id,
        ]


async def test_a_delivery_is_made_again_when_asked(tmp_path: Path, receiver: Receive) -> None:
    hook = receiver(status(500), status(204))
    async with serving(tmp_path, webhook_retry_seconds="") as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        [failed] = await settled(client, webhook.webhook_id)
        assert failed.status == webhooks_pb2.DELIVERY_STATUS_FAILED
        first = await following(hook)
        await client.webhooks.RedeliverDelivery(
            webhooks_pb2.RedeliverDeliveryRequest(
                webhook_id=webhook.webhook_id, delivery_id=failed.delivery_id
            )
        )
        again = await following(hook)
        [delivered] = await settled(client, webhook.webhook_id)
    assert again.headers["webhook-id"] == first.headers["webhook-id"]
    assert again.body == first.body
    assert delivered.status == webhooks_pb2.DELIVERY_STATUS_DELIVERED
    assert [one.status_code for one in delivered.attempts] == [500, 204]


async def test_what_a_disabled_webhook_waits_for_is_sent_when_it_is_enabled(
    tmp_path: Path, receiver: Receive
) -> None:
    hook = receiver(status(429, retry_after="1"), status(204))
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        await following(hook)
        change = webhooks_pb2.UpdateWebhookRequest(webhook_id=webhook.webhook_id, enabled=False)
        await client.webhooks.UpdateWebhook(change)
        await cancel_one(client)
        change.enabled = True
        await client.webhooks.UpdateWebhook(change)
        [delivery] = await settled(client, webhook.webhook_id)
    assert [one.status_code for one in delivery.attempts] == [429, 204]


async def test_a_deleted_webhook_is_sent_nothing_more(tmp_path: Path, receiver: Receive) -> None:
    hook, witness = receiver(), receiver()
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        await create(client, witness.url)
        await client.webhooks.DeleteWebhook(
            webhooks_pb2.DeleteWebhookRequest(webhook_id=webhook.webhook_id)
        )
        await cancel_one(client)
        await following(witness)
        listed = await client.webhooks.ListWebhooks(webhooks_pb2.ListWebhooksRequest())
        assert [one.url for one in listed.webhooks] == [witness.url]
    assert hook.messages.empty()


async def test_a_result_that_does_not_fit_is_left_out(tmp_path: Path, receiver: Receive) -> None:
    hook = receiver()
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        job_id = await complete_one(client, "é" * 20_000)
        message = await following(hook)
        event = verified(message, webhook.secret)
    assert len(message.body) < 20_000
    assert event["data"]["job_id"] == job_id
    assert event["data"]["status"] == "completed"
    assert "result" not in event["data"]


async def test_what_waits_is_delivered_by_the_next_process(
    tmp_path: Path, receiver: Receive
) -> None:
    hook = receiver(status(500), status(204))
    async with serving(tmp_path, webhook_retry_seconds="0.5") as client:
        webhook = await create(client, hook.url)
        await cancel_one(client)
        first = await following(hook)
    async with serving(tmp_path) as client:
        second = await following(hook)
        [delivery] = await settled(client, webhook.webhook_id)
    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    assert [one.status_code for one in delivery.attempts] == [500, 204]


async def test_a_page_of_deliveries_leads_to_the_next(tmp_path: Path, receiver: Receive) -> None:
    hook = receiver()
    async with serving(tmp_path) as client:
        webhook = await create(client, hook.url)
        jobs = [await cancel_one(client) for _ in range(5)]
        await settled(client, webhook.webhook_id, 5)
        request = webhooks_pb2.ListDeliveriesRequest(
            webhook_id=webhook.webhook_id, limit=2, status=webhooks_pb2.DELIVERY_STATUS_DELIVERED
        )
        found, pages = [], 0
        while True:
            page = await client.webhooks.ListDeliveries(request)
            found += [one.job_id for one in page.deliveries]
            pages += 1
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
    assert found == jobs[::-1]
    assert pages == 3


async def test_a_completed_job_comes_with_a_receipt_that_opens(
    tmp_path: Path, receiver: Receive
) -> None:
    hook = receiver(status(500), status(204))
    async with serving(tmp_path) as client:
        await create(client, hook.url)
        await complete_one(client, "the answer")
        messages = [await following(hook) for _ in range(2)]
        event = orjson.loads(messages[0].body)
    assert set(event) == {field.name for field in webhooks_pb2.WebhookEvent.DESCRIPTOR.fields}
    receipt = event["receipt"]
    assert receipt["receipt_id"] == event["data"]["receipt_id"]
    salt = bytes.fromhex(receipt["disclosure"]["result_salt"])
    opened = hashlib.sha256(salt + event["data"]["result"].encode()).hexdigest()
    assert receipt["result_hash"] == opened
    # What sealing adds is left out, so that every attempt sends the same.
    assert messages[0].body == messages[1].body
    assert not {"status", "proof", "block_height"} & set(receipt)
