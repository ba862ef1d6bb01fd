"""A key allows the models that it names, by whole names and by beginnings."""

from __future__ import annotations

import pytest

from aitbc_server.domain.allowed_models import check_allowed, is_allowed, parse_models
from aitbc_server.domain.errors import ModelNotAllowed


@pytest.mark.parametrize(
    ("allowed", "model", "expected"),
    [
        ("llama3.2", "llama3.2", True),
        ("llama3.2", "llama3.2-vision", False),
        ("llama3.2", "llama3x2", False),
        ("llama3.2", "LLAMA3.2", False),
        ("a, llama*", "llama", True),
        ("a, llama*", "llama3.2", True),
        ("a, llama*", "a", True),
        ("a, llama*", "my-llama", False),
        ("org/*", "org/model:tag", True),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("?", "a", False),
        ("*", "anything", True),
    ],
)
def test_names_are_whole_or_beginnings(allowed: str, model: str, expected: bool) -> None:
    assert is_allowed(parse_models(allowed), model) is expected


def test_no_names_allow_all() -> None:
    assert is_allowed((), "anything")
    check_allowed((), ["anything"])


def test_the_first_model_that_is_not_allowed_is_named() -> None:
    check_allowed(("a", "b*"), ["a", "b1", "b2"])
    with pytest.raises(ModelNotAllowed, match=r"'c'.*keys models"):
        check_allowed(("a", "b*"), ["a", "c", "d"])


@pytest.mark.parametrize("text", ["", "a,", ",a", "a b", "a\nb", "*a", "a*b", "a**", "x" * 257])
def test_what_is_no_list_of_names_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="name"):
        parse_models(text)


def test_a_key_names_so_many_models() -> None:
    names = [f"m{number}" for number in range(257)]
    assert len(parse_models(",".join(names[:256]))) == 256
    with pytest.raises(ValueError, match="at most 256"):
        parse_models(",".join(names))
