"""The code of the guides works, and the links lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scripts.processes import ROOT, Coordinator, Program

from aitbc_miner.signing import Signer
from aitbc_server.rest.catalogue import error_rows
from tests.conftest import CLEAN_ENV, Launcher
from tests.docs.snippets import pages, pointed_at, snippets
from tests.e2e.jobs import final, submit


@pytest.mark.parametrize("kind", ["REST", "stream"])
def test_miner_of_the_guide_works(
    kind: str,
    api: httpx.Client,
    coordinator: Coordinator,
    launcher: Launcher,
    tmp_path: Path,
    model: str,
) -> None:
    code = snippets("docs/how-to/write-a-miner.md", "python")[["REST", "stream"].index(kind)]
    program = tmp_path / "miner.py"
    program.write_text(pointed_at(code, coordinator).replace("llama3.2", model))
    job_id = submit(api, model, prompt="shout")
    launcher.own(Program([sys.executable, program], log=tmp_path / "miner.log", env=CLEAN_ENV))
    assert final(api, job_id)["result"] == "SHOUT"


def test_signature_of_the_guide_is_taken(api: httpx.Client, model: str) -> None:
    guide: dict[str, Any] = {}
    exec(snippets("docs/how-to/write-a-miner.md", "python")[2], guide)  # noqa: S102 - our own text
    miner_id = f"signer-{model}"
    miner = {"miner_id": miner_id, "capabilities": [model], "public_key": guide["public_key"]}
    api.post("/v1/miners/register", json=miner).raise_for_status()
    job_id = submit(api, model)
    lease_id = api.post(f"/v1/jobs/{job_id}/claim", json={"miner_id": miner_id}).json()["lease_id"]
    path, body = f"/v1/jobs/{job_id}/complete", {"miner_id": miner_id, "result": "done"}
    assert api.post(path, json=body).json()["error_code"] == "MINER_SIGNATURE_REFUSED"
    body["receipt"] = guide["receipt"](miner_id, job_id, lease_id, "done")
    assert api.post(path, json=body).json()["status"] == "completed"


def test_signatures_of_the_guide_are_those_of_the_miner() -> None:
    key, before = (Ed25519PrivateKey.from_private_bytes(bytes([one]) * 32) for one in (2, 3))
    signer = Signer(key, "miner-1", previous=before)
    shown = [b64decode(text) for text in snippets("docs/how-to/write-a-miner.md", "text")]
    assert shown == [signer.prove("nonce-1"), signer.endorsement]


def test_ends_of_the_stream_are_those_of_the_catalogue() -> None:
    rows = re.findall(
        r"^\| ([A-Z_]+)(?: `([A-Z_]+)`)? \|",
        (ROOT / "docs/how-to/write-a-miner.md").read_text(),
        re.MULTILINE,
    )
    ends = {(code, reason) for code, reason in rows if code in grpc.StatusCode.__members__}
    assert ("ABORTED", "SESSION_SUPERSEDED") in ends
    known = {(row.code, row.reason) for row in error_rows()}
    assert {end for end in ends if end[1]} <= known


def test_program_of_the_client_guide_prints_the_answers(coordinator: Coordinator) -> None:
    (code,) = snippets("docs/how-to/use-the-client.md", "python")
    command = [sys.executable, "-c", pointed_at(code, coordinator)]
    output = subprocess.check_output(command, text=True, timeout=90, env=CLEAN_ENV)
    assert output == "What is the capital of Sweden?\nAnd of Japan?"


@pytest.mark.parametrize("guide", ["stream-tokens", "use-openai-clients", "use-anthropic-clients"])
def test_program_of_a_guide_prints_the_answer(guide: str, coordinator: Coordinator) -> None:
    (code,) = snippets(f"docs/how-to/{guide}.md", "python")
    command = [sys.executable, "-c", pointed_at(code, coordinator)]
    output = subprocess.check_output(command, text=True, timeout=90, env=CLEAN_ENV)
    assert output.strip() == "One two three"


def test_program_of_the_batch_guide_prints_the_output_file(coordinator: Coordinator) -> None:
    (code,) = snippets("docs/how-to/run-batches.md", "python")
    command = [sys.executable, "-c", pointed_at(code, coordinator)]
    output = subprocess.check_output(command, text=True, timeout=90, env=CLEAN_ENV)
    (line,) = (json.loads(text) for text in output.splitlines() if text)
    assert line["custom_id"] == "1"
    assert line["response"]["body"]["choices"][0]["message"]["content"] == "One two three"


def test_program_of_the_guide_to_embeddings_counts_what_it_made(coordinator: Coordinator) -> None:
    (code,) = snippets("docs/how-to/make-embeddings.md", "python")
    command = [sys.executable, "-c", pointed_at(code, coordinator)]
    output = subprocess.check_output(command, text=True, timeout=90, env=CLEAN_ENV)
    # The tokens of an echo are bytes.
    assert output == "2 11\n"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()
    ):
        linked = page.parent / target if target else page
        assert linked.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(linked), f"{target} has no heading #{anchor}"


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as they are on GitHub."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
