"""What others say, on a terminal: shown, and never obeyed."""

from __future__ import annotations

# What a terminal obeys, or lets change the order of what is read: control characters but the end of
# a line and the tab, and those that turn the direction of writing.
_OBEYED = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_ESCAPED = {code: f"\\u{code:04x}" for code in _OBEYED}
_IN_LINES = {code: text for code, text in _ESCAPED.items() if chr(code) not in "\n\t"}


def harmless(text: str) -> str:
    """Returns a text of others as a terminal may show it, its control characters visible."""
    return text.translate(_IN_LINES)


def harmless_line(text: str) -> str:
    """Does the same for what must not leave its line, such as a cell of a table."""
    return text.translate(_ESCAPED)
