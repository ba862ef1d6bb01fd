"""The receivers of the guide verify and print what a coordinator sends."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from scripts.processes import Coordinator, Program

from tests.conftest import CLEAN_ENV, Launcher
from tests.docs.snippets import snippets
from tests.e2e.jobs import submit

PAGE = "docs/how-to/receive-webhooks.md"
PATIENCE_S = 30


@pytest.fixture
def notifying(launcher: Launcher) -> Iterator[tuple[Coordinator, httpx.Client]]:
    """A coordinator that may post to loopback, with a miner."""
    env = CLEAN_ENV | {"AITBC_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8"}
    coordinator = launcher.coordinator(env=env)
    launcher.miner(coordinator)
    with httpx.Client(base_url=coordinator.url, timeout=70) as api:
        yield coordinator, api


def test_receivers_of_the_guide_print_what_they_get(
    notifying: tuple[Coordinator, httpx.Client], launcher: Launcher, tmp_path: Path
) -> None:
    _, api = notifying
    for language, name, command in (
        ("python", "receiver.py", [sys.executable]),
        ("js", "receiver.mjs", ["node"]),
    ):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        made = api.post(
            "/v1/webhooks",
            json={"url": f"http://127.0.0.1:{port}/", "events": ["job.completed"]},
        ).json()
        (code,) = snippets(PAGE, language)
        program = tmp_path / name
        program.write_text(code.replace("9000", str(port)))
        env = CLEAN_ENV | {"WEBHOOK_SECRET": made["secret"]}
        receiver = Program([*command, program], log=tmp_path / f"{name}.log", env=env)
        launcher.own(receiver)
        receiver.wait_for_line("listening", timeout_s=PATIENCE_S)

        forged = httpx.post(
            f"http://127.0.0.1:{port}/",
            content=b"{}",
            headers={
                "webhook-id": "msg-1",
                "webhook-timestamp": "1",
                "webhook-signature": "v1,AAAA",
            },
        )
        assert forged.status_code == 400
        job_id = submit(api, prompt="naïve 🙂")
        receiver.wait_for_line(f"^job.completed {job_id} naïve 🙂$", timeout_s=PATIENCE_S)
