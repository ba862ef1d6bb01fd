"""The reference pages are what `make docs` writes."""

from __future__ import annotations

import pytest
from scripts.docs import REFERENCE, pages

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name], "run `make docs`"


def test_no_page_is_left_over() -> None:
    # `make compat` writes one more: it takes half an hour, and a real vLLM.
    assert {path.name for path in REFERENCE.iterdir()} == {*PAGES, "compatibility.md"}
