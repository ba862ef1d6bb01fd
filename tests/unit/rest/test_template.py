from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.rest.template import TemplateError, parse, percent_decode


@pytest.mark.parametrize(
    ("text", "segments", "verb", "variables"),
    [
        ("/v1/jobs", ("v1", "jobs"), "", []),
        ("/v1/jobs:batch", ("v1", "jobs"), "batch", []),
        ("/v1/jobs/{job_id}", ("v1", "jobs", "*"), "", [("job_id", 2, 3)]),
        ("/v1/{a.b=x/*/y}/z", ("v1", "x", "*", "y", "z"), "", [("a.b", 1, 4)]),
        ("/v1/{rest=**}", ("v1", "**"), "", [("rest", 1, None)]),
        ("/{a}/{b}:go", ("*", "*"), "go", [("a", 0, 1), ("b", 1, 2)]),
        ("/*/**", ("*", "**"), "", []),
        ("/a:b/c", ("a:b", "c"), "", []),
    ],
)
def test_a_template_is_parsed(
    text: str, segments: tuple[str, ...], verb: str, variables: list[tuple[str, int, int | None]]
) -> None:
    template = parse(text)

    assert (template.segments, template.verb) == (segments, verb)
    assert [(".".join(v.field_path), v.start, v.end) for v in template.variables] == variables


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "v1", "//", "/v1/", "/v1//x", "/{", "/{}", "/{a", "/{a=}", "/{a=x/}", "/{1a}",
        "/{a={b}}", "/{a}{b}", "/{a}/{a}", "/a*b", "/**/x", "/{a=**}/x", "/a:", "/{a.}", "/a}",
        "/=",
    ],
)  # fmt: skip
def test_a_template_off_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse(text)


@given(st.text(alphabet="/{}=*:.ab", max_size=20))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        template = parse(text)
    except TemplateError:
        return
    assert template.segments


def test_a_variable_captures_its_segments() -> None:
    template = parse("/v1/{name=shelves/*}/{rest=**}")

    segments = ["v1", "shelves", "7", "a", "b"]

    assert [v.capture(segments) for v in template.variables] == ["shelves/7", "a/b"]


@given(st.text())
def test_percent_decoding_undoes_encoding(text: str) -> None:
    encoded = "".join(f"%{byte:02x}" for byte in text.encode())

    assert percent_decode(encoded) == text


@pytest.mark.parametrize("text", ["%", "%4", "%zz", "a%2", "%ff", "%c3%28"])
def test_a_bad_escape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"percent sign|codec"):
        percent_decode(text)
