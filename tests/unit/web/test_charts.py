from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.web.charts import HEIGHT, WIDTH, bar_chart, share


@given(st.lists(st.integers(0, 10**9), max_size=60))
def test_bars_stay_within_the_chart(values: list[int]) -> None:
    chart = bar_chart(values)
    for value, bar in zip(values, chart.bars, strict=True):
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH + 0.1
        assert bar.y >= 0
        assert abs(bar.y + bar.height - HEIGHT) < 0.1
        assert (bar.height > 0) == (value > 0)


def test_bars_are_as_high_as_their_values() -> None:
    chart = bar_chart([1, 4, 2])
    assert [bar.height for bar in chart.bars] == [25, 100, 50]
    assert (chart.most, chart.last) == (4, 2)


def test_a_share_is_of_the_greatest() -> None:
    assert share(1, 2) == WIDTH / 2
    assert share(0, 0) == 0
