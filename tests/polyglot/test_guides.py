"""The programs of the guides to other languages do what these say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from scripts.processes import Coordinator, Program

from tests.conftest import CLEAN_ENV, Launcher
from tests.docs.snippets import pointed_at, snippets
from tests.e2e.jobs import final, submit
from tests.polyglot.built import GO_ENV, go_source, java_jars, run, typescript_package

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(600)]

Compile = Callable[[str, Path], list[str | Path]]

PRINTED = ["What is the capital of Sweden?", "What is the capital of Sweden?", "JOB_ALREADY_FINAL"]


def _go(code: str, directory: Path) -> list[str | Path]:
    go_source()
    (directory / "main.go").write_text(code)
    run("go", "build", "-o", directory / "main", directory / "main.go", env=GO_ENV)
    return [directory / "main"]


def _typescript(code: str, directory: Path) -> list[str | Path]:
    package = typescript_package()
    modules = directory / "node_modules"
    modules.mkdir()
    (modules / "aitbc").symlink_to(package)
    (modules / "@types").symlink_to(package / "node_modules" / "@types")
    (directory / "package.json").write_text('{"type": "module"}')
    (directory / "main.ts").write_text(code)
    options = ("--strict", "--module", "nodenext", "--target", "es2022", "--skipLibCheck")
    run(package / "node_modules" / ".bin" / "tsc", *options, "main.ts", cwd=directory)
    return ["node", directory / "main.js"]


def _java(code: str, directory: Path) -> list[str | Path]:
    (directory / "FirstJob.java").write_text(code)
    return ["java", "-cp", java_jars(), directory / "FirstJob.java"]


def test_go_package_is_tidy_and_passes_its_tests() -> None:
    package = go_source()
    sources = [path for path in package.rglob("*.go") if path.parent.name != "v1"]
    assert run("gofmt", "-l", *sources) == ""
    packages = {str(Path("aitbc", path.parent.relative_to(package))) for path in sources}
    run("go", "vet", *packages, cwd=package, env=GO_ENV)
    run("go", "test", *packages, cwd=package, env=GO_ENV)


def test_typescript_package_passes_its_tests() -> None:
    run("npm", "test", cwd=typescript_package())


MINERS = [
    pytest.param("use-go.md", "go", _go, id="go"),
    pytest.param("use-typescript.md", "typescript", _typescript, id="typescript"),
]
CLIENTS = [*MINERS, pytest.param("use-java.md", "java", _java, id="java")]


@pytest.mark.parametrize(("page", "language", "compiled"), CLIENTS)
def test_program_of_the_guide_prints_what_it_says(
    page: str, language: str, compiled: Compile, coordinator: Coordinator, tmp_path: Path
) -> None:
    client = snippets(f"docs/how-to/{page}", language)[0]
    program = compiled(pointed_at(client, coordinator), tmp_path)
    assert run(*program, env=CLEAN_ENV).splitlines() == PRINTED


@pytest.mark.parametrize(("page", "language", "compiled"), MINERS)
def test_miner_of_the_guide_works(
    page: str,
    language: str,
    compiled: Compile,
    api: httpx.Client,
    coordinator: Coordinator,
    launcher: Launcher,
    tmp_path: Path,
    model: str,
) -> None:
    miner = snippets(f"docs/how-to/{page}", language)[-1]
    program = compiled(pointed_at(miner, coordinator).replace("llama3.2", model), tmp_path)
    job_id = submit(api, model, prompt="shout this")
    running = launcher.own(Program(program, log=tmp_path / "miner.log", env=CLEAN_ENV))
    assert final(api, job_id)["result"] == "SHOUT THIS"
    assert running.terminate() == 0
