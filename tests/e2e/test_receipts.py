"""Receipts, their proofs and the explorer's methods, of a real coordinator over REST."""

from __future__ import annotations

import hashlib
import itertools
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from aitbc_server.domain.caller import ANONYMOUS
from aitbc_server.ledger.merkle import is_consistent, root_by_path
from aitbc_server.ledger.receipts import SIGNED_FIELDS
from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_error, final, get, submit

PROMPT = "a prompt that nobody else may read"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The REST API of a coordinator that seals often, with one miner."""
    launcher = Launcher(tmp_path_factory.mktemp("receipts"))
    coordinator = launcher.coordinator(env={**CLEAN_ENV, "AITBC_LEDGER_BLOCK_SECONDS": "0.3"})
    launcher.miner(coordinator, miner_id="first")
    with httpx.Client(base_url=coordinator.url, timeout=60) as client:
        yield client
    launcher.close()


def answer(client: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    response = client.get(path, params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


def sealed(client: httpx.Client, receipt_id: str) -> dict[str, Any]:
    """Returns the receipt as soon as its block is there."""
    deadline = time.monotonic() + 60
    with client.stream("GET", "/explorer/blocks:watch", params={"after_height": -1}) as blocks:
        for _ in blocks.iter_lines():
            receipt = answer(client, f"/v1/receipts/{receipt_id}")
            if receipt["status"] == "sealed":
                return receipt
            assert time.monotonic() < deadline
    raise AssertionError("the stream of blocks ended")


def work(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    job = final(client, submit(client, **{"prompt": PROMPT, **fields}))
    assert job["status"] == "completed"
    return job


def test_a_receipt_tells_of_the_work_and_proves_it(api: httpx.Client) -> None:
    job = work(api)
    early = answer(api, f"/v1/receipts/{job['receipt_id']}")
    assert early["status"] in ("pending", "sealed")
    assert ("proof" in early) == (early["status"] == "sealed")
    receipt = sealed(api, job["receipt_id"])
    assert receipt["job_id"] == job["job_id"]
    assert receipt["client"] == ANONYMOUS
    assert receipt["miner_id"] == "first"
    assert receipt["model"] == "llama3.2"
    assert receipt["unit_type"] == "tokens"
    assert receipt["units"] == sum(job["usage"].values())
    assert (receipt["price"], receipt["currency"]) == ("0", "AITBC")
    assert receipt["started_at"] == job["started_at"]
    assert receipt["completed_at"] == job["completed_at"]
    # Everything that is proven, proven here with nothing of the coordinator's code but a path.
    body = {name: receipt[name] for name in SIGNED_FIELDS if name in receipt}
    leaf = hashlib.sha256(b"\0" + rfc8785.dumps(body)).digest()
    assert leaf.hex() == receipt["leaf_hash"]
    signature = receipt["signature"]
    root = root_by_path(leaf, signature["index"], signature["size"], unhex(signature))
    assert root is not None
    key = Ed25519PublicKey.from_public_bytes(b64decode(signature["public_key"]))
    key.verify(b64decode(signature["signature"]), b"aitbc-receipts/v1\n" + root)
    published = answer(api, "/.well-known/aitbc-keys.json")["keys"]
    assert signature["public_key"] in [item["public_key"] for item in published]
    proof = answer(api, f"/v1/receipts/{receipt['receipt_id']}/proof")
    # A list at the top is always there; the path of the only leaf of a block is empty.
    assert proof == {"path": [], **receipt["proof"]}
    root = root_by_path(leaf, proof["leaf_index"], proof["tree_size"], unhex(proof))
    assert root is not None
    assert root.hex() == proof["root_hash"]
    assert b64decode(proof["checkpoint"].split("\n")[2]) == root


def unhex(proof: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(hash_) for hash_ in proof.get("path", [])]


def test_the_owner_can_open_the_hashes_and_nobody_else(api: httpx.Client) -> None:
    job = work(api)
    receipt = answer(api, f"/v1/receipts/{job['receipt_id']}")
    salts = receipt["disclosure"]
    for text, name in ((PROMPT, "prompt"), (job["result"], "result")):
        salted = bytes.fromhex(salts[f"{name}_salt"]) + text.encode()
        assert hashlib.sha256(salted).hexdigest() == receipt[f"{name}_hash"]
    public = answer(api, f"/explorer/receipts/{job['receipt_id']}")
    assert public == {name: receipt[name] for name in receipt if name != "disclosure"} | {
        name: public[name] for name in ("status", "proof", "block_height") if name in public
    }


def test_messages_are_hashed_as_their_canonical_json(api: httpx.Client) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "H\u00e9!"}]
    job = final(api, submit_messages(api, messages))
    receipt = answer(api, f"/v1/receipts/{job['receipt_id']}")
    salt = bytes.fromhex(receipt["disclosure"]["prompt_salt"])
    assert hashlib.sha256(salt + rfc8785.dumps(messages)).hexdigest() == receipt["prompt_hash"]


def submit_messages(client: httpx.Client, messages: list[dict[str, str]]) -> str:
    response = client.post("/v1/jobs", json={"model": "llama3.2", "messages": messages})
    assert response.status_code == 201, response.text
    return str(response.json()["job_id"])


def test_a_receipt_without_usage_counts_characters(api: httpx.Client) -> None:
    miner = {"miner_id": "poller", "capabilities": ["rare"]}
    assert api.post("/v1/miners/register", json=miner).status_code == 201
    job_id = submit(api, "rare")
    api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": "poller"})
    done = api.post(
        f"/v1/jobs/{job_id}/complete", json={"miner_id": "poller", "result": "d\u00e9j\u00e0"}
    )
    receipt = answer(api, f"/v1/receipts/{done.json()['receipt_id']}")
    assert (receipt["units"], receipt["unit_type"]) == (4, "characters")
    assert "miner_signature" not in receipt


def test_receipts_are_listed_by_what_is_asked(api: httpx.Client) -> None:
    receipts = [answer(api, f"/v1/receipts/{work(api)['receipt_id']}") for _ in range(3)]
    ids = [receipt["receipt_id"] for receipt in reversed(receipts)]

    def listed(**query: Any) -> list[str]:
        page = dict(api.get("/v1/receipts", params=query).json())
        return [receipt["receipt_id"] for receipt in page.get("receipts", [])]

    assert listed(limit=3) == ids
    assert listed(client=ANONYMOUS, limit=3) == ids
    assert listed(miner_id="first", limit=3) == ids
    assert listed(client=ANONYMOUS, miner_id="first", limit=3) == ids
    assert listed(miner_id="nobody") == []
    assert listed(client=receipts[0]["miner"]) == []
    assert listed(job_id=receipts[1]["job_id"]) == [receipts[1]["receipt_id"]]
    assert listed(job_id=receipts[1]["job_id"], miner_id="nobody") == []
    assert listed(since=receipts[1]["completed_at"], limit=2) == ids[:2]
    assert listed(until=receipts[1]["completed_at"], limit=1) == ids[2:]
    assert listed(since="2100-01-01T00:00:00Z") == []
    found, token = [], ""
    while True:
        page = answer(api, "/v1/receipts", limit=2, page_token=token)
        found += [receipt["leaf_index"] for receipt in page["receipts"]]
        token = page.get("next_page_token", "")
        if not token:
            break
    assert found == list(range(receipts[2]["leaf_index"], -1, -1))


def test_the_explorer_shows_the_chain_to_everybody(api: httpx.Client) -> None:
    receipt = sealed(api, work(api)["receipt_id"])
    block = answer(api, f"/explorer/blocks/{receipt['block_height']}")
    assert block["hash"] == receipt["proof"]["block_hash"]
    assert block["checkpoint"] == receipt["proof"]["checkpoint"]
    blocks = answer(api, "/explorer/blocks", limit=100)["blocks"]
    assert block in blocks
    assert [item["height"] for item in blocks] == list(range(len(blocks) - 1, -1, -1))
    for newer, older in itertools.pairwise(blocks):
        assert newer["previous_hash"] == older["hash"]
        assert newer["tree_size"] == older["tree_size"] + newer["receipts"]
        assert hashlib.sha256(signed_text(older["checkpoint"])).hexdigest() == older["hash"]
    assert blocks[-1]["previous_hash"] == "0" * 64
    in_block = answer(api, "/explorer/receipts", block_height=block["height"], limit=100)
    assert receipt["receipt_id"] in [item["receipt_id"] for item in in_block["receipts"]]
    assert len(in_block["receipts"]) == block["receipts"]
    transaction = answer(api, f"/explorer/transactions/{receipt['leaf_hash']}")
    assert transaction == {
        "hash": receipt["leaf_hash"],
        "type": "job_payment",
        "from": receipt["client"],
        "to": receipt["miner"],
        "amount": receipt["price"],
        "currency": receipt["currency"],
        "receipt_id": receipt["receipt_id"],
        "time": receipt["completed_at"],
        "status": "sealed",
        "block_height": block["height"],
        "block_hash": block["hash"],
    }
    for address in (receipt["client"], receipt["miner"]):
        page = answer(api, "/explorer/transactions", address=address, limit=100)
        assert transaction in page["transactions"]
    stats = answer(api, "/explorer/stats")
    assert stats["blocks"] == len(answer(api, "/explorer/blocks", limit=100)["blocks"])
    assert len(stats["minutes"]) == 60
    assert sum(minute["jobs"] for minute in stats["minutes"]) <= stats["receipts"]
    assert stats["minutes"][-1]["jobs"] + stats["minutes"][-2]["jobs"] > 0


def signed_text(checkpoint: str) -> bytes:
    return (checkpoint.rpartition("\n\n")[0] + "\n").encode()


def test_the_chain_only_grew(api: httpx.Client) -> None:
    sealed(api, work(api)["receipt_id"])
    proof = answer(api, "/explorer/consistency", from_height=0)
    assert is_consistent(
        proof["from_size"],
        bytes.fromhex(proof["from_root"]),
        proof["to_size"],
        bytes.fromhex(proof["to_root"]),
        unhex(proof),
    )


def test_nothing_public_holds_a_prompt_or_a_result(api: httpx.Client) -> None:
    receipt = sealed(api, work(api)["receipt_id"])
    for path in (
        "/explorer/blocks",
        "/explorer/transactions",
        "/explorer/receipts",
        "/explorer/stats",
        f"/explorer/receipts/{receipt['receipt_id']}",
        "/tile/entries/000.p/1",
        "/ledger/signatures/0",
    ):
        text = api.get(path).text
        assert PROMPT not in text
        assert "salt" not in text
        assert "disclosure" not in text


def test_the_log_is_served_as_tiles(api: httpx.Client) -> None:
    sealed(api, work(api)["receipt_id"])
    checkpoint = api.get("/checkpoint").text
    origin, size_line, root = checkpoint.split("\n")[:3]
    assert origin == answer(api, "/.well-known/aitbc-keys.json")["origin"]
    size = int(size_line)
    assert 0 < size < 256
    hashes = api.get(f"/tile/0/000.p/{size}").content
    entries = api.get(f"/tile/entries/000.p/{size}").content
    leaves, at = [], 0
    while at < len(entries):
        length = int.from_bytes(entries[at : at + 2], "big")
        leaves.append(hashlib.sha256(b"\0" + entries[at + 2 : at + 2 + length]).digest())
        at += 2 + length
    assert b"".join(leaves) == hashes
    while len(leaves) > 1:
        pairs = [leaves[i : i + 2] for i in range(0, len(leaves), 2)]
        leaves = [hashlib.sha256(b"\1" + b"".join(p)).digest() if p[1:] else p[0] for p in pairs]
    assert leaves[0] == b64decode(root)
    for path in (
        "/tile/0/000",
        "/tile/0/000.p/256",
        "/tile/0/0",
        "/tile/64/000",
        "/tile/0/x000/000",
    ):
        assert_error(api.get(path), 404, "ROUTE_NOT_FOUND")
    assert_error(api.post("/checkpoint"), 405, "METHOD_NOT_ALLOWED")


def test_a_receipt_that_was_changed_is_found_out(api: httpx.Client) -> None:
    job = work(api)
    receipt = sealed(api, job["receipt_id"])

    def failed(changed: dict[str, Any], **more: str) -> tuple[bool, set[str]]:
        response = api.post("/v1/receipts/verify", json={"receipt": changed, **more})
        assert response.status_code == 200, response.text
        verdict = response.json()
        return verdict["valid"], {
            check["name"] for check in verdict["checks"] if check["outcome"] == "failed"
        }

    assert failed(receipt) == (True, set())
    assert failed(receipt, prompt=PROMPT, result=job["result"]) == (True, set())
    assert failed(receipt, prompt="another") == (False, {"prompt"})
    assert failed(receipt, result="another") == (False, {"result"})
    broken = {"coordinator_signature", "inclusion", "ledger"}
    for field, value in (
        ("price", "1000"),
        ("model", "better"),
        ("attempt", 2),
        ("nonce", "0" * 32),
        ("completed_at", "2100-01-01T00:00:00Z"),
        ("currency", "USD"),
    ):
        valid, found = failed({**receipt, field: value})
        assert not valid
        assert found >= broken
    short = {name: value for name, value in receipt.items() if name != "nonce"}
    assert "form" in failed(short)[1]
    proof = {**receipt["proof"], "root_hash": "00" * 32}
    assert failed({**receipt, "proof": proof}) == (False, {"inclusion", "checkpoint"})
    proof = {**receipt["proof"], "checkpoint": receipt["proof"]["checkpoint"].replace("0", "1", 1)}
    assert failed({**receipt, "proof": proof}) == (False, {"checkpoint"})
    unsigned = {name: value for name, value in receipt.items() if name != "signature"}
    assert failed(unsigned) == (False, {"coordinator_key", "coordinator_signature"})


@pytest.mark.parametrize(
    ("path", "status", "error_code"),
    [
        ("/v1/receipts/rcpt-01arz3ndektsv4rrffq69g5fav", 404, "RECEIPT_NOT_FOUND"),
        ("/v1/receipts/nonsense", 404, "RECEIPT_NOT_FOUND"),
        ("/v1/receipts/rcpt-01arz3ndektsv4rrffq69g5fav/proof", 404, "RECEIPT_NOT_FOUND"),
        ("/v1/receipts?client=ait1client", 400, "INVALID_ARGUMENT"),
        (f"/v1/receipts?client={ANONYMOUS[:-1]}q", 400, "INVALID_ARGUMENT"),
        ("/v1/receipts?job_id=nonsense", 400, "INVALID_ARGUMENT"),
        ("/v1/receipts?page_token=nonsense", 400, "INVALID_ARGUMENT"),
        ("/v1/receipts?limit=101", 400, "INVALID_ARGUMENT"),
        ("/explorer/blocks/999999", 404, "BLOCK_NOT_FOUND"),
        ("/explorer/blocks/9223372036854775807", 404, "BLOCK_NOT_FOUND"),
        ("/explorer/blocks/-1", 400, "INVALID_ARGUMENT"),
        ("/explorer/blocks/one", 400, "INVALID_ARGUMENT"),
        ("/explorer/blocks/1.5", 400, "INVALID_ARGUMENT"),
        (f"/explorer/transactions/{'0' * 64}", 404, "TRANSACTION_NOT_FOUND"),
        (f"/explorer/transactions/{'0' * 63}", 400, "INVALID_ARGUMENT"),
        (f"/explorer/transactions/{'g' * 64}", 400, "INVALID_ARGUMENT"),
        ("/explorer/transactions?address=ait1nonsense", 400, "INVALID_ARGUMENT"),
        ("/explorer/receipts?address=ait1nonsense", 400, "INVALID_ARGUMENT"),
        ("/explorer/receipts?block_height=999999", 404, "BLOCK_NOT_FOUND"),
        ("/explorer/receipts/nonsense", 404, "RECEIPT_NOT_FOUND"),
        ("/explorer/consistency?from_height=999999", 404, "BLOCK_NOT_FOUND"),
        ("/explorer/consistency?from_height=2&to_height=1", 400, "INVALID_ARGUMENT"),
    ],
)
def test_bad_input_is_told_as_what_it_is(
    api: httpx.Client, path: str, status: int, error_code: str
) -> None:
    assert_error(api.get(path), status, error_code)


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_the_documented_example_with_an_address_cut_short_finds_nobodys(
    api: httpx.Client, prefix: str
) -> None:
    work(api)
    # Exactly as the documentation writes it.
    response = api.get(f"{prefix}/v1/receipts?client=ait1client...&limit=20")
    assert (response.status_code, response.json()) == (200, {"receipts": []})
    for name in ("receipts", "transactions"):
        response = api.get(f"/explorer/{name}", params={"address": "ait1q8z…"})
        assert (response.status_code, response.json()) == (200, {name: []})


def test_an_address_with_a_typing_error_is_refused_by_name(api: httpx.Client) -> None:
    client = answer(api, f"/v1/receipts/{work(api)['receipt_id']}")["client"]
    wrong = client[:-1] + ("q" if client[-1] != "q" else "p")
    for text in (wrong, client[:-1], "ait1client", "nobody", "...", f"{client}..."):
        for path, field in (
            ("/v1/receipts", "client"),
            ("/explorer/receipts", "address"),
            ("/explorer/transactions", "address"),
        ):
            assert_error(api.get(path, params={field: text}), 400, "INVALID_ARGUMENT", field)


def test_a_miner_and_an_address_are_asked_for_together(api: httpx.Client) -> None:
    receipt = answer(api, f"/v1/receipts/{work(api)['receipt_id']}")
    asked = {"miner_id": receipt["miner_id"], "limit": 1}
    for address in (receipt["client"], receipt["miner"]):
        found = api.get("/explorer/receipts", params={**asked, "address": address}).json()
        assert found["receipts"][0]["receipt_id"] == receipt["receipt_id"]
    other = {**asked, "miner_id": "another", "address": receipt["miner"]}
    assert api.get("/explorer/receipts", params=other).json() == {"receipts": []}


def test_a_stream_miner_signs_its_results_with_a_key_of_its_own(api: httpx.Client) -> None:
    job = work(api)
    receipt = answer(api, f"/v1/receipts/{job['receipt_id']}")
    signature = receipt["miner_signature"]
    miner = answer(api, "/v1/miners/first")
    assert miner["public_key"] == signature["public_key"]
    assert miner["address"] == receipt["miner"]
    attempt = f"{receipt['job_id'].removeprefix('job-')}-{receipt['attempt']}"
    leaf = leaf_of_statement(
        miner_id="first",
        job_id=receipt["job_id"],
        lease_id=f"lease-{attempt}",
        result_hash=receipt["result_hash"],
        prompt_tokens=receipt["prompt_tokens"],
        completion_tokens=receipt["completion_tokens"],
        version=2,
        answer_hash=receipt["answer_hash"],
    )
    assert signature["version"] == 2
    root = root_by_path(leaf, signature["index"], signature["size"], unhex(signature))
    assert root is not None
    key = Ed25519PublicKey.from_public_bytes(b64decode(signature["public_key"]))
    key.verify(b64decode(signature["signature"]), b"aitbc-statements/v1\n" + root)


def leaf_of_statement(**fields: Any) -> bytes:
    return hashlib.sha256(b"\0" + rfc8785.dumps(fields)).digest()


def test_a_polling_miner_with_a_key_must_sign_what_it_did(api: httpx.Client) -> None:
    key = Ed25519PrivateKey.generate()
    public = b64encode(key.public_key().public_bytes_raw()).decode()
    miner = {"miner_id": "signer", "capabilities": ["signed"], "public_key": public}
    assert api.post("/v1/miners/register", json=miner).status_code == 201
    job_id = submit(api, "signed")
    lease = api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": "signer"}).json()["lease_id"]
    salt, result = "ab" * 16, "Paris."
    result_hash = hashlib.sha256(bytes.fromhex(salt) + result.encode()).hexdigest()
    statement = {"miner_id": "signer", "job_id": job_id, "lease_id": lease}
    leaf = leaf_of_statement(**statement, result_hash=result_hash, completion_tokens=2)
    good = b64encode(key.sign(b"aitbc-statements/v1\n" + leaf)).decode()
    body = {"result": result, "usage": {"completion_tokens": 2}}

    def complete(**receipt: Any) -> httpx.Response:
        request = {**body, "receipt": {**statement, **receipt}}
        return api.post(f"/v1/jobs/{job_id}/complete", json=request)

    refused = "MINER_SIGNATURE_REFUSED"
    assert_error(complete(), 400, refused, "receipt.signature")
    assert_error(complete(signature=good), 400, refused, "receipt.result_salt")
    wrong = b64encode(key.sign(b"something else")).decode()
    assert_error(complete(signature=wrong, result_salt=salt), 400, refused, "receipt.signature")
    assert_error(complete(signature="?", result_salt=salt), 400, refused, "Base64")
    lie = complete(signature=good, result_salt=salt, completion_tokens=3)
    assert_error(lie, 400, "INVALID_ARGUMENT", "receipt.completion_tokens")
    # Nothing of this changed anything.
    assert get(api, job_id)["status"] == "running"
    done = complete(signature=good, result_salt=salt, result_hash=result_hash)
    assert done.status_code == 200, done.text
    again = complete(signature=good, result_salt=salt)
    assert again.json()["receipt_id"] == done.json()["receipt_id"]
    receipt = answer(api, f"/v1/receipts/{done.json()['receipt_id']}")
    assert receipt["miner_signature"]["signature"] == good
    said = {**statement, "signature": good, "result_salt": salt, "result_hash": result_hash}
    assert receipt["miner_statement"] == said
    assert receipt["is_miner_statement_verified"] is True
    assert receipt["result_hash"] == result_hash
    assert receipt["disclosure"]["result_salt"] == salt
    verdict = api.post("/v1/receipts/verify", json={"receipt": receipt}).json()
    outcomes = {check["name"]: check["outcome"] for check in verdict["checks"]}
    assert verdict["valid"]
    assert outcomes["miner_signature"] == "passed"


def test_a_key_of_another_size_is_refused(api: httpx.Client) -> None:
    miner = {"miner_id": "short", "capabilities": ["m"], "public_key": b64encode(b"x").decode()}
    response = api.post("/v1/miners/register", json=miner)
    assert_error(response, 400, "INVALID_ARGUMENT", "public_key")


def test_the_miner_id_may_stand_in_the_receipt_alone(api: httpx.Client) -> None:
    miner = {"miner_id": "stated", "capabilities": ["stated"]}
    api.post("/v1/miners/register", json=miner)
    job_id = submit(api, "stated")
    api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": "stated"})
    path = f"/v1/jobs/{job_id}/complete"
    assert_error(api.post(path, json={"result": "x"}), 400, "INVALID_ARGUMENT", "miner_id")
    both = {"miner_id": "stated", "receipt": {"miner_id": "first"}, "result": "x"}
    assert_error(api.post(path, json=both), 400, "INVALID_ARGUMENT", "receipt.miner_id")
    done = api.post(path, json={"result": "x", "receipt": {"miner_id": "stated"}})
    assert done.status_code == 200, done.text
