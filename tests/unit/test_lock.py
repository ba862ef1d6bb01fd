"""What is installed where everybody can reach it is locked, and the lock is not stale."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "deploy/requirements.txt").read_text()
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def pinned(text: str) -> dict[str, set[str]]:
    """Returns the versions by name."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;]+)", text):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def test_the_lock_has_names_versions_and_hashes_and_nothing_else() -> None:
    lines = LOCK.splitlines()[1:]
    begins = [place for place, line in enumerate(lines) if not line.startswith(" ")]
    assert len(begins) > 20
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        assert re.match(r"[a-z0-9._-]+==[^ ]+ .*\\$", lines[begin]), lines[begin]
        assert end - begin > 1
        assert all(_HASH.fullmatch(line) for line in lines[begin + 1 : end])


def test_the_lock_has_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["otel"],
        *project["build-system"]["requires"],
    ]
    versions = pinned(LOCK)
    for requirement in map(Requirement, asked):
        of_it = versions.get(canonicalize_name(requirement.name), set())
        assert of_it, f"{requirement.name} is not locked: make lock"
        assert all(map(requirement.specifier.contains, of_it)), f"{requirement}: make lock"


def test_the_lock_has_the_versions_that_are_tested() -> None:
    tested = pinned((ROOT / "constraints/dev.txt").read_text())
    versions = pinned(LOCK)
    differing = {name for name in tested.keys() & versions if tested[name] != versions[name]}
    assert not differing, "make lock"


def test_the_documentation_installs_by_the_lock() -> None:
    for name in ("deploy/Containerfile", "docs/how-to/deploy.md"):
        assert "--require-hashes" in (ROOT / name).read_text()


def test_no_page_puts_a_key_on_a_command_line() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("[!r]*/*.md"), *(ROOT / "deploy").iterdir()]
    shown = re.compile(r"--api-key[ =]+[^`,\s]|--engine-opt api_key=")
    assert [page.name for page in pages if shown.search(page.read_text())] == []
