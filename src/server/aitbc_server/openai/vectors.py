"""Vectors as bytes, in the formats that vLLM tells them in."""

from __future__ import annotations

import math
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

Format = Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"]
Endianness = Literal["native", "little", "big"]

# What a 16-bit number of IEEE 754 rounds to infinity.
_HALF_INFINITY = 65520.0
# Bits of a 32-bit number that a bfloat16 does not have.
_DROPPED = 16


def packed(vector: Sequence[float], form: Format, endianness: Endianness) -> bytes:
    """Returns the finite numbers of a vector, one after the other. `native` is little."""
    return _PACKERS[form](vector, ">" if endianness == "big" else "<")


def _floats(vector: Sequence[float], order: str) -> bytes:
    return struct.pack(f"{order}{len(vector)}f", *vector)


def _halves(vector: Sequence[float], order: str) -> bytes:
    numbers = [
        math.copysign(math.inf, number) if abs(number) >= _HALF_INFINITY else number
        for number in vector
    ]
    return struct.pack(f"{order}{len(numbers)}e", *numbers)


def _brains(vector: Sequence[float], order: str) -> bytes:
    bits = array("I", struct.pack(f"={len(vector)}f", *vector))
    # To the nearest; of two, to the one that ends with a zero.
    numbers = [
        # What carries over makes the exponent greater.
        (one + 0x7FFF + (one >> _DROPPED & 1)) >> _DROPPED
        for one in bits
    ]
    return struct.pack(f"{order}{len(numbers)}H", *numbers)


class _Eight:
    """Numbers of eight bits: a sign, an exponent and a mantissa."""

    def __init__(self, *, mantissa: int, bias: int, most: int, beyond: int) -> None:
        """`mantissa`: its bits; `most`: the greatest finite number, as its bits.

        `beyond`: what is greater, as its bits.
        """
        values = [_small(bits, mantissa, bias) for bits in range(most + 1)]
        # The greatest ends where the next one would begin.
        values.append(_small(most + 1, mantissa, bias))
        self._middles = [(low + high) / 2 for low, high in pairwise(values)]
        self._most = most
        self._beyond = beyond

    def pack(self, vector: Sequence[float], _: str) -> bytes:
        """Returns a byte for each number."""
        return bytes(map(self._bits, vector))

    def _bits(self, number: float) -> int:
        sign = 0x80 if math.copysign(1, number) < 0 else 0
        size = abs(number)
        bits = bisect_left(self._middles, size)
        # In the middle of two is the one that ends with a zero.
        if bits < len(self._middles) and self._middles[bits] == size and bits & 1:
            bits += 1
        return sign | (bits if bits <= self._most else self._beyond)


def _small(bits: int, mantissa: int, bias: int) -> float:
    exponent, rest = bits >> mantissa, bits & (1 << mantissa) - 1
    part = rest / (1 << mantissa)
    return math.ldexp(part, 1 - bias) if exponent == 0 else math.ldexp(1 + part, exponent - bias)


_PACKERS: dict[Format, Callable[[Sequence[float], str], bytes]] = {
    "float32": _floats,
    "float16": _halves,
    "bfloat16": _brains,
    # Without infinities: what is too great is the greatest.
    "fp8_e4m3": _Eight(mantissa=3, bias=7, most=0x7E, beyond=0x7E).pack,
    "fp8_e5m2": _Eight(mantissa=2, bias=15, most=0x7B, beyond=0x7C).pack,
}
