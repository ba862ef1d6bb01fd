"""The reference page of the parameters of OpenAI's API, made from their table."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from aitbc_server.openai.parameters import Policy, Section, differences, section, sections

_INTRODUCTION = """
# Parameters of OpenAI's API

What OpenAI's and Anthropic's endpoints do with each parameter of a request: of its body, its query
or its form.

- *honoured*: it does what it says.
- *hint*: it is taken, and has no effect on which answers are right.
- *ignored*: it is taken, has no effect, and is told. So is every parameter that is not listed.
- *refused*: the call fails with 400 `unsupported_parameter`, because its answer would not be what
  was asked for. Values that ask for nothing are taken.

What is told stands in the header `x-aitbc-ignored` of the response, at most 16 names with their
places, such as `messages[0].bogus`, and `...` where there are more. With `AITBC_OPENAI_STRICT=1`
these requests are refused, too. `null` is the same as absent, and a number may be a text.
"""
_DIFFERENCES = """
## Where `vllm serve` answers with another status

Compared with vLLM 0.32.0, request by request.

| request | here | `vllm serve` | why |
| --- | --- | --- | --- |"""


def page() -> Iterator[str]:
    """Yields the lines of the page."""
    yield _INTRODUCTION.strip()
    for name, title in sections().items():
        yield f"\n## {title[0].upper()}{title[1:]}\n\n| parameter | | |\n| --- | --- | --- |"
        yield from _rows(section(name))
    if differences():
        yield _DIFFERENCES
    for one in differences():
        yield f"| {_cell(one.request)} | {one.status} | {one.vllm_status} | {_cell(one.why)} |"


def _rows(rows: Section) -> Iterator[str]:
    for policy in Policy:
        for row in sorted(rows.values(), key=lambda row: row.name):
            if row.policy is policy:
                taken = ", ".join(f"`{orjson.dumps(value).decode()}`" for value in row.no_ops)
                note = f"{row.note}. Taken: {taken}" if taken else row.note
                yield f"| `{row.name}` | {policy} | {_cell(note)} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
