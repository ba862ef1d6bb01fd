"""What the threat model promises is shown by tests that exist."""

from __future__ import annotations

import re

import pytest
from scripts.processes import ROOT

PAGE = ROOT / "docs" / "explanation" / "threat-model.md"
NAMED = re.findall(r"`(tests/[^`]+\.py)(?:::(\w+))?`", PAGE.read_text())


def test_tests_are_named() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    source = (ROOT / file).read_text()
    assert re.search(rf"^(async )?def {test or 'test_'}", source, re.MULTILINE)


def test_every_promise_is_shown() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    promises = [row for row in rows if row[0] not in {"promised", "---"}]
    assert len(promises) > 30
    assert not [promise for promise, shown in promises if "`tests/" not in shown]
