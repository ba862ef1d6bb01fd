"""The example of how a receipt is opened, computed by what the page says and nothing else."""

from __future__ import annotations

from hashlib import sha256

from tests.docs.snippets import snippets

SALT = bytes(range(16))


def test_the_hashes_of_the_page_are_those_of_its_texts() -> None:
    (example,) = snippets("docs/explanation/receipts-and-ledger.md", "text")
    told = dict(line.split(maxsplit=1) for line in example.splitlines())
    for text, beside, whole in (
        ("prompt", "asked", "request_hash"),
        ("result", "answered", "answer_hash"),
    ):
        text_hash = sha256(SALT + told[text].encode()).digest()
        assert text_hash.hex() == told[f"{text}_hash"]
        assert sha256(SALT + text_hash + told[beside].encode()).hexdigest() == told[whole]
