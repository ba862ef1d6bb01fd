"""Small charts as SVG shapes; the templates draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Shapes stretch to the width that the page has; heights and widths are in these units.
WIDTH = 600
HEIGHT = 100
_GAP = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One rectangle, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """A value for each span of time, the last of which is not over."""

    bars: Sequence[Bar]
    most: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A value over time as a line, and the area below it: points as SVG takes them."""

    line: str
    area: str
    most: float


def bar_chart(values: Sequence[float]) -> BarChart:
    """Returns bars from left to right; a value of zero has none."""
    most = max(values, default=0)
    step = WIDTH / max(1, len(values))
    bars = []
    for index, value in enumerate(values):
        # Whatever is not zero can be seen.
        height = max(2.0, HEIGHT * value / most) if value else 0.0
        bars.append(
            Bar(
                x=round(step * (index + _GAP / 2), 2),
                y=round(HEIGHT - height, 2),
                width=round(step * (1 - _GAP), 2),
                height=round(height, 2),
            )
        )
    return BarChart(bars=bars, most=most, last=values[-1] if values else 0)


def curve(values: Sequence[float]) -> Curve:
    """Returns a line through two values or more, from left to right."""
    most = max(values)
    step = WIDTH / (len(values) - 1)
    scale = HEIGHT / most if most else 0.0
    line = " ".join(
        f"{step * index:.1f},{HEIGHT - scale * value:.1f}" for index, value in enumerate(values)
    )
    return Curve(line=line, area=f"0,{HEIGHT} {line} {WIDTH},{HEIGHT}", most=most)


def share(value: float, most: float) -> float:
    """Returns the width of a bar among others of which the widest is `most`."""
    return round(WIDTH * value / most, 1) if most else 0.0
