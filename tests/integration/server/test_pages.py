"""Every list comes in pages that clients take, whatever its items are, and leaves out none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from aitbc.v1 import (
    batches_pb2,
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
    witnesses_pb2,
    work_pb2,
)
from aitbc_server.domain import sizes
from tests.integration.server.harness import Client, coordinator

# Bytes of a page, in these tests: a page of the real size takes thousands of items.
PAGE_BYTES = 2000
COUNT = 24
FILES = (
    batches_pb2,
    explorer_pb2,
    jobs_pb2,
    miners_pb2,
    network_pb2,
    receipts_pb2,
    usage_pb2,
    webhooks_pb2,
    witnesses_pb2,
    work_pb2,
)


def methods() -> Iterator[MethodDescriptor]:
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def items_field(method: MethodDescriptor) -> FieldDescriptor | None:
    """Returns the field of a response in which its items are."""
    fields = method.output_type.fields
    return next((one for one in fields if one.is_repeated and one.message_type), None)


def returns_items(method: MethodDescriptor) -> bool:
    """Says whether a response is about nothing but its items."""
    is_one = method.output_type.name in {"Batch", "Delivery", "Job", "Miner", "Webhook"}
    is_unary = not (method.server_streaming or method.client_streaming)
    return is_unary and not is_one and items_field(method) is not None


Fill = Callable[[Client], Awaitable[None]]


async def call(client: Client, method: MethodDescriptor, request: Any) -> Any:
    return await client.channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )(request)


async def jobs(client: Client) -> None:
    for number in range(COUNT):
        await client.submit(f"prompt {number} " * 20, model=f"model-{number:0200}")


async def completed(client: Client) -> None:
    async with client.miner() as miner:
        for number in range(COUNT):
            await client.submit(f"prompt {number}")
            [assignment] = await miner.assignments()
            await miner.complete(assignment.lease_id)
            await miner.expect("acks")


async def waiting(client: Client) -> None:
    for number in range(COUNT):
        await client.submit(f"prompt {number} " * 20)
    await client.miners.RegisterMiner(
        miners_pb2.RegisterMinerRequest(miner_id="polls", capabilities=["m"])
    )


async def registered(client: Client) -> None:
    for number in range(COUNT):
        models = [f"model-{number}-{place}" for place in range(20)]
        await client.miners.RegisterMiner(
            miners_pb2.RegisterMinerRequest(miner_id=f"m{number}", capabilities=models)
        )


async def webhooks(client: Client) -> None:
    for number in range(COUNT):
        url = f"http://127.0.0.1:9/{number:0300}"
        request = webhooks_pb2.CreateWebhookRequest(url=url, events=["job.completed"])
        await client.webhooks.CreateWebhook(request)


async def deliveries(client: Client) -> None:
    request = webhooks_pb2.CreateWebhookRequest(url="http://127.0.0.1:9/", events=["job.cancelled"])
    webhook = await client.webhooks.CreateWebhook(request)
    for _ in range(COUNT):
        await client.webhooks.TestWebhook(
            webhooks_pb2.TestWebhookRequest(webhook_id=webhook.webhook_id)
        )


async def file(client: Client, name: str) -> str:
    request = batches_pb2.CreateFileRequest(filename=name, purpose=batches_pb2.FILE_PURPOSE_BATCH)
    made = await client.files.CreateFile(request)
    content = b"{}\n"
    await client.files.AppendFile(
        batches_pb2.AppendFileRequest(file_id=made.file_id, offset=0, content=content)
    )
    done = batches_pb2.FinishFileRequest(file_id=made.file_id, bytes=len(content))
    await client.files.FinishFile(done)
    return made.file_id


async def files(client: Client) -> None:
    for number in range(COUNT):
        await file(client, f"{number:0250}")


async def batches(client: Client) -> None:
    file_id = await file(client, "in.jsonl")
    for number in range(COUNT):
        request = batches_pb2.CreateBatchRequest(
            input_file_id=file_id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"number": f"{number:0300}"},
        )
        await client.batches.CreateBatch(request)


async def of_webhook(client: Client) -> dict[str, Any]:
    listed = await client.webhooks.ListWebhooks(webhooks_pb2.ListWebhooksRequest())
    return {"webhook_id": listed.webhooks[0].webhook_id}


async def of_miner(_: Client) -> dict[str, Any]:
    return {"miner_id": "polls"}


async def nothing(_: Client) -> dict[str, Any]:
    return {}


class List(NamedTuple):
    """A list that tests can fill."""

    # Makes its items, each well below a page.
    fill: Fill
    # What is asked beside the page.
    fields: Callable[[Client], Awaitable[dict[str, Any]]] = nothing
    # What tells an item from all others.
    key: str = ""
    # Whether it goes on: of work to choose from there is always more.
    goes_on: bool = True


LISTS = {
    "ListJobs": List(jobs, key="job_id"),
    "ListAvailableJobs": List(waiting, of_miner, key="job_id", goes_on=False),
    "ListMiners": List(registered, key="miner_id"),
    "ListWebhooks": List(webhooks, key="webhook_id"),
    "ListDeliveries": List(deliveries, of_webhook, key="delivery_id"),
    "GetUsage": List(jobs, key="model"),
    "ListFiles": List(files, key="file_id"),
    "ListBatches": List(batches, key="batch_id"),
    "ListReceipts": List(completed, key="receipt_id"),
    "ListPublicReceipts": List(completed, key="receipt_id"),
    "ListTransactions": List(completed, key="hash"),
    "ListBlocks": List(completed, key="height"),
}
# What answers with items and has no pages, and what bounds it.
BOUNDED = {
    "BatchSubmitJobs": "as many as were submitted: ids and times",
    "GetStats": "a thousand models",
    "GetExplorerStats": "a thousand models and the minutes of an hour",
    "GetJobQueue": "a few miners by name",
    "ListCosignatures": "witnesses that a setting names",
    "ListLedgerKeys": "keys that the operator made",
    "VerifyReceipt": "the checks that there are",
}


def test_every_list_is_tried_or_bounded_by_something_else() -> None:
    found = {method.name for method in methods() if returns_items(method)}
    assert found == LISTS.keys() | BOUNDED.keys()


def test_every_list_that_goes_on_says_so() -> None:
    for method in methods():
        if method.name in LISTS and LISTS[method.name].goes_on:
            asked, told = method.input_type.fields_by_name, method.output_type.fields_by_name
            assert "limit" in asked, method.full_name
            is_by_token = "page_token" in asked and "next_page_token" in told
            assert is_by_token or ("after" in asked and "has_more" in told), method.full_name


@pytest.mark.parametrize("name", LISTS)
async def test_a_page_ends_before_it_is_too_large_and_the_next_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = LISTS[name]
    [method] = [method for method in methods() if method.name == name]
    items = items_field(method)
    assert items is not None
    monkeypatch.setattr(sizes, "PAGE_BYTES", PAGE_BYTES)
    settings = {
        "webhook_max_per_owner": COUNT,
        "webhook_allow_networks": "127.0.0.0/8",
        "batch_max_per_owner": COUNT,
        "ledger_block_receipts": 1,
    }
    async with coordinator(tmp_path, **settings) as client:
        await one.fill(client)
        fields = await one.fields(client)
        request: Any = message_factory.GetMessageClass(method.input_type)(limit=100, **fields)
        found: list[Any] = []
        pages = 0
        while True:
            page = await call(client, method, request)
            told = getattr(page, items.name)
            assert 0 < page.ByteSize() <= PAGE_BYTES + 200
            found.extend(getattr(item, one.key) for item in told)
            pages += 1
            if getattr(page, "next_page_token", ""):
                request.page_token = page.next_page_token
            elif getattr(page, "has_more", False):
                request.after = found[-1]
            else:
                break
    assert len(set(found)) == len(found)
    if one.goes_on:
        assert pages > 1
        assert len(found) >= COUNT
    else:
        assert len(found) < COUNT
