"""The page and the commands of the guide to browsers work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts.processes import BIN, ROOT, Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.docs.snippets import pointed_at, snippets
from tests.e2e.browser import chromium, site
from tests.e2e.node_client import SCRIPTS

PAGE = "docs/how-to/call-from-a-browser.md"
HTTP_PORT = ":8080"
PATH = f"{SCRIPTS / 'node_modules' / '.bin'}:{BIN}:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a directory with what the guide generates."""
    directory = tmp_path_factory.mktemp("page")
    shutil.copytree(ROOT / "protos", directory / "protos")
    (directory / "buf.gen.yaml").write_text(snippets(PAGE, "yaml")[0])
    command = next(line for line in _commands() if "buf generate" in line)
    assert _run(command, directory) == ""
    return directory


@pytest.fixture(scope="module")
def origin(stubs: Path) -> Iterator[str]:
    """Returns the origin of a page that can import the stubs."""
    with site(stubs) as origin:
        yield origin


@pytest.fixture(scope="module")
def allowed(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    """Returns a coordinator that the page may call."""
    launcher = Launcher(tmp_path_factory.mktemp("allowed"))
    coordinator = launcher.coordinator(env=CLEAN_ENV | {"AITBC_CORS_ORIGINS": origin})
    launcher.miner(coordinator)
    yield coordinator
    launcher.close()


@pytest.mark.parametrize(
    ("snippet", "printed"),
    [("@connectrpc", ["One two three", "JOB_NOT_FOUND"]), ("openai", ["One two three"])],
)
def test_a_page_of_the_guide_prints_the_answer(
    allowed: Coordinator, origin: str, stubs: Path, snippet: str, printed: list[str]
) -> None:
    (code,) = [code for code in snippets(PAGE, "js") if f'from "{snippet}' in code]
    (stubs / f"{snippet}.mjs").write_text(pointed_at(code, allowed))
    said: list[Any] = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.goto(origin)
        page.evaluate("async (name) => { await import(`/${name}.mjs`); }", snippet)
    # The browser itself tells of answers that are failures.
    assert [text for text in said if not text.startswith("Failed to load")] == printed


@pytest.mark.parametrize("number", range(3))
def test_a_command_of_the_guide_is_answered(allowed: Coordinator, number: int) -> None:
    command = [line for line in _commands() if HTTP_PORT in line][number]
    printed = _run(pointed_at(command, allowed), ROOT)
    if "SubmitJob" in command:
        assert json.loads(printed)["status"] == "JOB_STATUS_PENDING"
    elif "GetStats" in command:
        assert json.loads(printed)["miners"]["online"] == 1
    else:
        assert '"status": "JOB_STATUS_COMPLETED"' in printed


def _commands() -> list[str]:
    return [
        line.removeprefix("$ ")
        for block in snippets(PAGE, "console")
        for line in block.splitlines()
    ]


def _run(command: str, directory: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command.replace("PATH=node_modules/.bin:$PATH ", "")],
        cwd=directory,
        env=CLEAN_ENV | {"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
