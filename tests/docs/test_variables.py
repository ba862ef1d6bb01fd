"""Every AITBC_ variable that a page names exists, and every setting is on its page."""

from __future__ import annotations

import re
import subprocess

from scripts.processes import ROOT

from aitbc_server.config import Settings

_NAME = re.compile(r"\bAITBC_[A-Z0-9_]*[A-Z0-9]\b")
_PAGES = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "docs", "deploy", "examples")
_PROGRAMS = ("src", "scripts", "Makefile", "tests/conftest.py")


def _named_in(*paths: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *paths], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names: set[str] = set()
    for path in listed.stdout.splitlines():
        file = ROOT / path
        if file.is_file() and file.suffix in {
            ".md",
            ".py",
            ".service",
            ".conf",
            ".env",
            ".example",
            "",
        }:
            names.update(_NAME.findall(file.read_text(errors="replace")))
    return names


def _settings() -> set[str]:
    return {f"AITBC_{name.upper()}" for name in Settings.model_fields}


def test_every_variable_that_a_page_names_is_read_by_a_program() -> None:
    known = _settings() | _named_in(*_PROGRAMS)
    assert _named_in(*_PAGES) - known == set()


def test_every_setting_is_on_the_page_of_settings() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert _settings() - set(_NAME.findall(page)) == set()


def test_the_page_of_settings_names_nothing_else() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    # Whatever begins so must be a whole name.
    begun = set(re.findall(r"AITBC_[^\s`|,.)]*", page))
    assert begun - _settings() - _named_in("src") == set()
