"""Numbers of vectors as bytes: those that torch makes of the same, which vLLM tells."""

from __future__ import annotations

import math
import struct
from itertools import pairwise

import pytest

from aitbc_server.openai.vectors import Format, packed

# Exact ones, one between two, ones that carry over, and ones below and beyond what there is.
NUMBERS = [0.0, -1.0, 0.1, -0.3, 1.9999, 448.0, 60000.0, 1e9, -1e-9]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("float32", "00000000000080bfcdcccc3d9a9999beb9fcff3f0000e04300606a47286b6e4e5f7089b0"),
        ("float16", "000000bc662ecdb40040005f537b007c0080"),
        ("bfloat16", "000080bfcd3d9abe0040e0436a476e4e89b0"),
        ("fp8_e4m3", "00b81daa407e7e7e80"),
        ("fp8_e5m2", "00bc2eb5405f7b7c80"),
    ],
)
def test_each_format_is_that_of_torch(form: Format, expected: str) -> None:
    assert packed(NUMBERS, form, "little").hex() == expected.replace(" ", "")
    assert packed(NUMBERS, form, "native") == packed(NUMBERS, form, "little")


@pytest.mark.parametrize(("form", "size"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_big_is_the_other_way_round(form: Format, size: int) -> None:
    little, big = (packed(NUMBERS, form, order) for order in ("little", "big"))
    turned = [big[place : place + size][::-1] for place in range(0, len(big), size)]
    assert b"".join(turned) == little


def test_a_half_is_that_of_the_standard_and_never_an_error() -> None:
    numbers = [1 / 3, 65519.0, 65520.0, -math.inf]
    assert packed(numbers, "float16", "big") == struct.pack(
        ">4e", 1 / 3, 65504.0, math.inf, -math.inf
    )


@pytest.mark.parametrize(("form", "greatest"), [("fp8_e4m3", 0x7E), ("fp8_e5m2", 0x7B)])
def test_every_number_of_eight_bits_is_itself_and_between_two_is_the_even_one(
    form: Format, greatest: int
) -> None:
    mantissa, bias = (3, 7) if form == "fp8_e4m3" else (2, 15)

    def value(bits: int) -> float:
        exponent, rest = divmod(bits, 1 << mantissa)
        whole = rest / (1 << mantissa) + (exponent > 0)
        return math.ldexp(whole, max(exponent, 1) - bias)

    values = [value(bits) for bits in range(greatest + 1)]
    assert list(packed(values, form, "little")) == list(range(greatest + 1))
    between = [(low + high) / 2 for low, high in pairwise(values)]
    even = [bits + bits % 2 for bits in range(greatest)]
    assert list(packed(between, form, "little")) == even
