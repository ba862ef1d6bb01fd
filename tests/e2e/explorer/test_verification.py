"""The browser verifies receipts by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.e2e.explorer.axe import violations
from tests.e2e.explorer.conftest import Visitor
from tests.e2e.explorer.ledger import Ledger

CHECKS = [
    "Contents",
    "Signature of the coordinator",
    "Signature of the miner",
    "Place in the ledger",
    "Signature of the block",
]


def verify(visitor: Visitor) -> str:
    """Presses the button; returns the verdict."""
    visitor.tab.get_by_role("button", name="Verify in your browser").click()
    verdict = visitor.tab.locator("#verify .verdict:not(:empty)")
    verdict.wait_for()
    return verdict.inner_text()


def failed(visitor: Visitor) -> set[str]:
    """Returns the names of the checks that failed."""
    titles = visitor.tab.locator("#verify .check.failed .what").all_inner_texts()
    return {title.removesuffix(": failed") for title in titles}


def paste(visitor: Visitor, text: str) -> None:
    """Opens the page that verifies any receipt, and puts a text in."""
    visitor.open("/explorer/verify")
    visitor.tab.get_by_role("textbox", name="Receipt as JSON").fill(text)


@pytest.fixture
def receipt(visitor: Visitor, ledger: Ledger) -> dict[str, Any]:
    """The receipt as its page shows it."""
    visitor.open(f"/explorer/receipts/{ledger.receipt}")
    text = visitor.tab.locator("#receipt-json").text_content()
    assert text is not None
    return dict(json.loads(text))


def test_genuine_receipt_passes_every_check(visitor: Visitor, ledger: Ledger) -> None:
    visitor.open(f"/explorer/receipts/{ledger.receipt}")
    before = len(visitor.requested)
    assert verify(visitor) == "This receipt is genuine and in the ledger."
    titles = visitor.tab.locator("#verify .check .what").all_inner_texts()
    assert titles == [f"{name}: passed" for name in CHECKS]
    # All that is asked for are the public keys, and nothing is told.
    keys = f"{visitor.url}/.well-known/aitbc-keys.json"
    files = f"{visitor.url}/explorer/static/"
    asked = {url for url in visitor.requested[before:] if not url.startswith(files)}
    assert asked == {keys}
    assert violations(visitor.tab) == []


def test_every_receipt_passes_every_check(visitor: Visitor, explorer: str) -> None:
    # Some were signed alone and some together with others, as their miners happened to send them.
    with httpx.Client(base_url=explorer) as api:
        keys = api.get("/.well-known/aitbc-keys.json").json()["keys"]
        listed = api.get("/explorer/receipts", params={"limit": 100}).json()["receipts"]
        receipts = [api.get(f"/explorer/receipts/{one['receipt_id']}").json() for one in listed]
    visitor.open("/explorer/verify")
    script = visitor.tab.locator("script[src$='verify.js']").get_attribute("src")
    assert script is not None
    unpassed = visitor.tab.evaluate(
        """async ([module, receipts, keys]) => {
            const { check } = await import(module);
            const unpassed = [];
            for (const receipt of receipts) {
                for await (const one of check(receipt, keys)) {
                    if (one.outcome !== "passed") unpassed.push([receipt.receipt_id, one]);
                }
            }
            return unpassed;
        }""",
        [
            urljoin(visitor.tab.url, script.replace("verify.js", "ledger.js")),
            receipts,
            [key["public_key"] for key in keys],
        ],
    )
    assert unpassed == []


def test_receipt_is_verified_below_the_path_of_a_proxy(visitor: Visitor, ledger: Ledger) -> None:
    path = "/below/a/path"
    visitor.tab.route(
        f"**{path}/**", lambda route: route.continue_(url=route.request.url.replace(path, ""))
    )
    visitor.open(f"{path}/explorer/receipts/{ledger.receipt}")
    assert verify(visitor) == "This receipt is genuine and in the ledger."
    visitor.tab.get_by_role("link", name="Blocks", exact=True).click()
    visitor.tab.wait_for_url(f"{visitor.url}{path}/explorer/blocks")
    assert all(url.startswith(visitor.url + path) for url in visitor.requested)


def change(receipt: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        receipt = receipt[name]
    receipt[last] = value


@pytest.mark.parametrize(
    ("tamper", "caught_by"),
    [
        (lambda r: change(r, "price", "0.5"), {"Contents", "Signature of the coordinator"}),
        (
            lambda r: change(r, "units", r["units"] + 1),
            {"Contents", "Signature of the coordinator"},
        ),
        (lambda r: change(r, "miner_id", "somebody"), {"Signature of the miner"}),
        (lambda r: r.pop("nonce"), {"Contents"}),
        (
            lambda r: change(r, "signature.signature", "A" * 86 + "=="),
            {"Signature of the coordinator"},
        ),
        (
            lambda r: change(r, "signature.public_key", r["miner_signature"]["public_key"]),
            {"Signature of the coordinator"},
        ),
        (
            lambda r: change(r, "miner_signature.signature", r["signature"]["signature"]),
            {"Contents", "Signature of the miner"},
        ),
        (lambda r: change(r, "proof.leaf_index", 0), {"Place in the ledger"}),
        (lambda r: change(r, "proof.path", ["0" * 64]), {"Place in the ledger"}),
        (
            lambda r: change(r, "proof.root_hash", "0" * 64),
            {"Place in the ledger", "Signature of the block"},
        ),
        (
            lambda r: change(
                r, "proof.checkpoint", r["proof"]["checkpoint"].replace("time 2", "time 3")
            ),
            {"Signature of the block"},
        ),
        (lambda r: change(r, "block_height", r["block_height"] + 1), {"Signature of the block"}),
        (lambda r: change(r, "leaf_index", r["leaf_index"] + 1), {"Place in the ledger"}),
        (lambda r: change(r, "status", "pending"), {"Place in the ledger"}),
        (lambda r: change(r, "proof.receipt_id", "rcpt-other"), {"Place in the ledger"}),
    ],
)
def test_changed_receipt_fails(
    visitor: Visitor,
    receipt: dict[str, Any],
    tamper: Callable[[dict[str, Any]], object],
    caught_by: set[str],
) -> None:
    tamper(receipt)
    paste(visitor, json.dumps(receipt))
    assert verify(visitor) == "This receipt is not genuine, or was changed."
    assert failed(visitor) >= caught_by


def test_receipt_without_a_proof_is_told_apart(visitor: Visitor, receipt: dict[str, Any]) -> None:
    del receipt["proof"]
    paste(visitor, json.dumps(receipt))
    assert verify(visitor) == "This receipt is signed, but has no proof that it is in the ledger."


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"receipt"'])
def test_what_is_no_receipt_is_said(visitor: Visitor, text: str) -> None:
    paste(visitor, text)
    assert verify(visitor) == "Nothing was verified: this is not a receipt as JSON."
    assert violations(visitor.tab) == []
