"""The page that shows the OpenAPI document tries calls, and asks nobody else for anything."""

from __future__ import annotations

from tests.e2e.explorer.conftest import Visitor

SUBMIT = "#operations-JobService-submitJob"


def test_the_first_example_works_as_it_stands(visitor: Visitor) -> None:
    assert visitor.open("/api/docs") == 200
    visitor.tab.click(f"{SUBMIT} .opblock-summary-control")
    visitor.tab.click(f"{SUBMIT} button.execute")
    answer = visitor.tab.inner_text(f"{SUBMIT} .live-responses-table")
    assert "201" in answer
    assert '"status": "pending"' in answer
