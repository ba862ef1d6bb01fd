"""The same call comes out the same by gRPC, REST, Connect and gRPC-Web: for every method but Work.

Of a stream of responses the first one is compared.

Bad inputs are derived from the descriptors and their rules; what makes a call valid is written in
`VALID`, and a method without an entry there fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.api import annotations_pb2 as http_annotations_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from aitbc_server.api.validation import exactly_one, is_required, rules_of
from aitbc_server.ledger.cosignatures import cosign
from aitbc_server.ledger.note import parse
from aitbc_server.rest.codec import map_entry
from aitbc_server.rest.openapi.comments import packaged_comments
from aitbc_server.rest.openapi.document import packaged_methods
from aitbc_server.rest.openapi.operations import Operations
from aitbc_server.rest.openapi.schemas import Schemas, example_of
from aitbc_server.rest.values import short_names
from tests.e2e.keys import create_key
from tests.integration.server.harness import PATIENCE_S, WITNESS, WITNESS_KEY, coordinator
from tests.integration.server.transports import (
    Fields,
    Outcome,
    by_connect,
    by_grpc,
    by_grpc_web,
    by_rest,
    route_of,
)

# Those that are there either way.
METHODS = [
    method
    for method in packaged_methods()
    if method.GetOptions().HasExtension(http_annotations_pb2.http)
]
BY_NAME = {method.name: method for method in METHODS}
UNKNOWN_JOB = "job-01k9zq4b5mr6t8vwxyz0123456"
_NUMBERS = {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}


class Both:
    """A coordinator, to be called either way with an admin's key."""

    def __init__(self, channel: grpc.aio.Channel, http: httpx.AsyncClient, key: str) -> None:
        self.channel = channel
        self.http = http
        self.key = key
        self._made = 0

    async def call(self, name: str, **fields: Any) -> Any:
        """Calls a method by REST; returns what it answers."""
        method = BY_NAME[name]
        route = route_of(method)
        path = route.path
        for field in route.path_fields:
            path = path.replace(f"{{{field.name}}}", str(fields.pop(field.name)))
        headers = {"X-Api-Key": self.key}
        sent = {"json": fields} if route.has_body else {"params": fields}
        response = await self.http.request(route.http_method, path, headers=headers, **sent)  # type: ignore[arg-type]  # one of the two
        assert response.is_success, response.text
        return response.json() if response.content else {}

    async def job(self, **fields: Any) -> str:
        """Submits a job for a model that no miner serves but those made here."""
        made = await self.call("SubmitJob", **{"prompt": "hello", "model": "m", **fields})
        job_id: str = made["job_id"]
        return job_id

    async def miner(self) -> str:
        """Registers a miner of its own name."""
        self._made += 1
        miner_id = f"miner-{self._made}"
        await self.call("RegisterMiner", miner_id=miner_id, capabilities=["m"])
        return miner_id

    async def claimed(self) -> Fields:
        """Returns a job with a lease, and who has it."""
        miner_id, job_id = await self.miner(), await self.job()
        await self.call("ClaimJob", job_id=job_id, miner_id=miner_id)
        return {"job_id": job_id, "miner_id": miner_id}

    async def receipt(self, *, sealed: bool = False) -> Any:
        """Returns the receipt of a new completed job."""
        job = await self.call("CompleteJob", **await self.claimed(), result="done")
        receipt = await self.call("GetReceipt", receipt_id=job["receipt_id"])
        async with asyncio.timeout(PATIENCE_S):
            while sealed and receipt["status"] != "sealed":
                receipt = await self.call("GetReceipt", receipt_id=job["receipt_id"])
        return receipt

    async def webhook(self) -> str:
        """Makes a webhook that nobody listens to."""
        hook = await self.call("CreateWebhook", url="http://127.0.0.1:9/", events=["job.failed"])
        webhook_id: str = hook["webhook_id"]
        return webhook_id

    async def delivery(self) -> Fields:
        """Makes a delivery that failed."""
        webhook_id = await self.webhook()
        made = await self.call("TestWebhook", webhook_id=webhook_id)
        return {"webhook_id": webhook_id, "delivery_id": made["delivery_id"]}


# For each method, what makes the fields of a call that succeeds. Called once for each transport, so
# that a call may use up what it is given.
Make = Callable[[Both], Awaitable[Fields]]


def fixed(**fields: Any) -> Make:
    async def make(_: Both) -> Fields:
        return fields

    return make


async def _job(both: Both) -> Fields:
    return {"job_id": await both.job()}


async def _final(both: Both) -> Fields:
    job_id = await both.job()
    await both.call("CancelJob", job_id=job_id)
    return {"job_id": job_id}


async def _miner(both: Both) -> Fields:
    return {"miner_id": await both.miner()}


async def _again(both: Both) -> Fields:
    gpu_info = {"name": "GPU", "memory": "24GB"}
    return {"miner_id": await both.miner(), "capabilities": ["a", "b"], "gpu_info": gpu_info}


async def _claim(both: Both) -> Fields:
    return {"job_id": await both.job(), "miner_id": await both.miner()}


async def _claimed(both: Both) -> Fields:
    return await both.claimed()


async def _complete(both: Both) -> Fields:
    return {**await both.claimed(), "result": "done"}


async def _fail(both: Both) -> Fields:
    return {**await both.claimed(), "error": "it broke"}


async def _receipt(both: Both) -> Fields:
    return {"receipt_id": (await both.receipt())["receipt_id"]}


async def _sealed(both: Both) -> Fields:
    return {"receipt_id": (await both.receipt(sealed=True))["receipt_id"]}


async def _verify(both: Both) -> Fields:
    return {"receipt": await both.receipt(sealed=True)}


async def _block(both: Both) -> Fields:
    return {"height": (await both.receipt(sealed=True))["block_height"]}


async def _transaction(both: Both) -> Fields:
    return {"hash": (await both.receipt(sealed=True))["leaf_hash"]}


async def _blocks(both: Both) -> Fields:
    height = (await both.receipt(sealed=True))["block_height"]
    return {"from_height": 0, "to_height": height}


async def _watched(both: Both) -> Fields:
    height = (await both.receipt(sealed=True))["block_height"]
    return {"after_height": height - 1}


async def _cosignature(both: Both) -> Fields:
    await both.receipt(sealed=True)
    signed = (await both.http.get("/checkpoint")).text
    line = cosign(parse(signed).text, WITNESS, WITNESS_KEY, 1_790_000_000)
    return {"checkpoint": signed + line}


async def _webhook(both: Both) -> Fields:
    return {"webhook_id": await both.webhook()}


async def _delivery(both: Both) -> Fields:
    return await both.delivery()


VALID: dict[str, Make] = {
    "SubmitJob": fixed(prompt="hello", model="m", params={"max_tokens": 5, "temperature": 0.5}),
    "BatchSubmitJobs": fixed(jobs=[{"prompt": "hello", "model": "m"}] * 2),
    "GetJob": _job,
    "ListJobs": fixed(
        status="running", limit=1, view="basic", created_after="2026-01-24T15:00:00Z"
    ),
    "CancelJob": _job,
    "DeleteJob": _final,
    "GetJobQueue": _job,
    "ListAvailableJobs": _miner,
    "ClaimJob": _claim,
    "CompleteJob": _complete,
    "FailJob": _fail,
    "ExtendLease": _claimed,
    "RegisterMiner": _again,
    "GetMiner": _miner,
    "ListMiners": fixed(limit=2),
    "DeleteMiner": _miner,
    "DrainMiner": _miner,
    "ResumeMiner": _miner,
    "GetHealth": fixed(),
    "GetStats": fixed(),
    "CreateWebhook": fixed(url="http://127.0.0.1:9/", events=["job.completed"]),
    "ListWebhooks": fixed(),
    "GetWebhook": _webhook,
    "UpdateWebhook": _webhook,
    "DeleteWebhook": _webhook,
    "RotateWebhookSecret": _webhook,
    "TestWebhook": _webhook,
    "ListDeliveries": _webhook,
    "GetDelivery": _delivery,
    "RedeliverDelivery": _delivery,
    "GetReceipt": _sealed,
    "ListReceipts": fixed(limit=1),
    "GetReceiptProof": _sealed,
    "VerifyReceipt": _verify,
    "ListBlocks": fixed(limit=1),
    "GetBlock": _block,
    "ListTransactions": fixed(limit=1),
    "GetTransaction": _transaction,
    "ListPublicReceipts": fixed(limit=1),
    "GetPublicReceipt": _sealed,
    "GetConsistencyProof": _blocks,
    "GetExplorerStats": fixed(),
    "GetUsage": fixed(limit=1, group_by=["day", "model"]),
    "ListLedgerKeys": fixed(),
    "ListCosignatures": fixed(),
    "AddCosignature": _cosignature,
    "RunJob": fixed(prompt="hello", model="m"),
    "StreamJob": _job,
    "WatchBlocks": _watched,
}


def bad_inputs(method: MethodDescriptor) -> Iterator[tuple[str, Fields]]:
    """Yields a name and fields for each way in which a request can break a rule."""
    good = example_of(method.input_type)
    either = exactly_one(method.input_type)
    # Of what is wrong in several ways, REST tells first what is wrong in the JSON.
    for field in method.input_type.fields:
        if is_required(field) and field.type == FieldDescriptor.TYPE_STRING:
            good.setdefault(field.name, ["x"] if field.is_repeated else "x")
    path = {field.name for field in route_of(method).path_fields}
    if any(is_required(field) for field in method.input_type.fields) and not path:
        yield "empty", {}
    for field in method.input_type.fields:
        if is_required(field) and field.name not in path:
            yield f"no {field.name}", {k: v for k, v in good.items() if k != field.name}
        for label, value in _bad_values(field):
            if value != "" or field.name not in path:
                rest = {
                    name: one
                    for name, one in good.items()
                    if not (field.name in either and name in either)
                }
                yield f"{field.name} {label}", {**rest, **_ids(method), field.name: value}
    if _ids(method):
        yield "unknown ids", {**good, **_ids(method)}


def _bad_values(field: FieldDescriptor) -> Iterator[tuple[str, Any]]:
    rules = rules_of(field)

    def of_field(value: Any) -> Any:
        return [value] if field.is_repeated else value

    if field.type == FieldDescriptor.TYPE_STRING and (rules or is_required(field)):
        yield "with NUL", of_field("a\0b")
    if rules is None:
        return
    if rules.HasField("min") and field.cpp_type in _NUMBERS:
        yield "too small", of_field(int(rules.min) - 1)
    if rules.HasField("max") and field.cpp_type in _NUMBERS:
        yield "too large", of_field(int(rules.max) + 1)
    longest = rules.max_length or rules.max_bytes
    if longest and field.type == FieldDescriptor.TYPE_STRING:
        yield "too long", of_field("x" * (longest + 1))
    if rules.pattern and field.type == FieldDescriptor.TYPE_STRING:
        yield "mismatched", of_field(" \n")
    if map_entry(field):
        yield "too many", {str(number): "" for number in range(rules.max_items + 1)}
    elif rules.max_items:
        yield "too many", [_item(field)] * (rules.max_items + 1)


def _item(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return next(iter(short_names(field.enum_type).values()))
    if field.cpp_type in _NUMBERS:
        return 1
    return "x" if field.type == FieldDescriptor.TYPE_STRING else {}


def _ids(method: MethodDescriptor) -> Fields:
    """Returns ids of nothing, for the fields that name something."""
    known = {"job_id": UNKNOWN_JOB, "hash": "0" * 64, "height": 9, "miner_id": "nobody"}
    if method.name == "RegisterMiner":
        # To register is what makes a miner known.
        known["miner_id"] = "somebody"
    names = [field.name for field in method.input_type.fields]
    ids = {name: known.get(name, "nothing") for name in names if name.endswith("_id")}
    # All blocks: a stream of those to come would have none to compare.
    known |= {"after_height": -1}
    ids |= {name: known[name] for name in ("hash", "height", "after_height") if name in names}
    return {k: v for k, v in ids.items() if k not in {"request_id", "after_event_id"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    data = tmp_path_factory.mktemp("parity")
    key = create_key(data, "admin")
    settings = {
        "webhook_allow_networks": "127.0.0.0/8",
        "webhook_max_per_owner": 1000,
        "ledger_block_seconds": 0.2,
        "limit_requests_per_second": 100_000,
        "limit_burst": 100_000,
    }
    async with (
        coordinator(data, auth="required", **settings) as client,
        httpx.AsyncClient(base_url=client.url, timeout=60) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{client.coordinator.grpc_port}") as channel,
    ):
        both = Both(channel, http, key)
        await both.receipt(sealed=True)
        yield both


def documented(method: MethodDescriptor) -> dict[int, set[str] | None]:
    """Returns what /openapi.json says a call may answer: by status the reasons, or None for any."""
    operations = Operations(Schemas(packaged_comments(), ()), packaged_comments(), METHODS)
    found: dict[int, set[str] | None] = {}
    for status, answer in operations.operation(route_of(method))["responses"].items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        codes = schema.get("allOf", [{}, {}])[-1].get("properties", {}).get("error_code", {})
        found[int(status)] = set(codes["enum"]) if "enum" in codes else None
    return found


def check(method: MethodDescriptor, grpc_outcome: Outcome, rest: Outcome) -> None:
    assert grpc_outcome == rest
    if rest.reason:
        reasons = documented(method)
        assert rest.status in reasons, f"{rest} is not documented"
        assert reasons[rest.status] is None or rest.reason in (reasons[rest.status] or ())


def test_every_method_has_a_valid_call() -> None:
    assert set(VALID) == set(BY_NAME)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", BY_NAME)
async def test_a_valid_call_comes_out_the_same(name: str, both: Both) -> None:
    method, make = BY_NAME[name], VALID[name]
    one = await by_grpc(both.channel, method, await make(both), both.key)
    other = await by_rest(both.http, method, await make(both), both.key)
    assert (one.status, one.reason) == (200, ""), one
    assert shape(one.answer) == shape(other.answer)
    assert (other.status, other.reason) == (200, ""), other
    for call in (by_connect, by_grpc_web):
        third = await call(both.http, method, await make(both), both.key)
        assert shape(one.answer) == shape(third.answer)
        assert (third.status, third.reason) == (200, ""), third


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", BY_NAME)
async def test_a_bad_input_comes_out_the_same(name: str, both: Both) -> None:
    method = BY_NAME[name]
    for _, fields in bad_inputs(method):
        one = await by_grpc(both.channel, method, fields, both.key)
        other = await by_rest(both.http, method, fields, both.key)
        if one.reason or other.reason:
            check(method, one, other)
        for call in (by_connect, by_grpc_web):
            third = await call(both.http, method, fields, both.key)
            if one.reason or third.reason:
                assert third == one


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("key", [None, "wrong"])
async def test_a_caller_without_a_key_comes_out_the_same(
    name: str, key: str | None, both: Both
) -> None:
    method = BY_NAME[name]
    fields = {**example_of(method.input_type), **_ids(method)}
    one = await by_grpc(both.channel, method, fields, key)
    other = await by_rest(both.http, method, fields, key)
    assert (one.status, one.reason) == (other.status, other.reason)
    if one.reason:
        check(method, one, other)
        assert await by_connect(both.http, method, fields, key) == one
        assert await by_grpc_web(both.http, method, fields, key) == one


def shape(answer: Any) -> Any:
    """Returns an answer without what may differ between two calls: numbers, lengths of lists."""
    if isinstance(answer, dict):
        return {name: shape(one) for name, one in answer.items()}
    if isinstance(answer, list):
        return [shape(one) for one in answer[:1]]
    return "number" if type(answer) in {int, float} else answer
