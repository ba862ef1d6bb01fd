from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_server.domain.prices import PriceTable, PriceTableError, UnitType, load_prices

TABLE = """{
  "currency": "USD",
  "default": {"tokens": "0.20", "characters": "0.05"},
  "models": {"llama3.2": {"tokens": "0.15"}}
}"""


def table(directory: Path, text: str = TABLE) -> PriceTable:
    file = directory / "prices.json"
    file.write_text(text)
    return load_prices(file)


@pytest.mark.parametrize(
    ("model", "units", "unit_type", "price"),
    [
        ("llama3.2", 1_000_000, UnitType.TOKENS, "0.15"),
        ("llama3.2", 1, UnitType.TOKENS, "0.00000015"),
        ("llama3.2", 20_000_000, UnitType.TOKENS, "3"),
        ("llama3.2", 5, UnitType.CHARACTERS, "0"),
        ("other", 1, UnitType.CHARACTERS, "0.00000005"),
        ("other", 0, UnitType.TOKENS, "0"),
    ],
)
def test_prices_are_exact_decimals(
    tmp_path: Path, model: str, units: int, unit_type: UnitType, price: str
) -> None:
    assert table(tmp_path).price(model, units, unit_type) == price


@given(st.integers(0, 2**53), st.decimals("0", "1000000", places=12))
def test_no_amount_is_rounded(units: int, rate: Decimal) -> None:
    prices = PriceTable("USD", {UnitType.TOKENS: int(rate * 10**12)})
    price = prices.price("m", units, UnitType.TOKENS)
    assert Decimal(price) * 1_000_000 == rate * units
    assert "E" not in price
    assert not (price.endswith("0") and "." in price)


def test_without_a_table_everything_is_free() -> None:
    assert PriceTable().price("m", 10**9, UnitType.TOKENS) == "0"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "is not JSON"),
        ("[]", "object of currency"),
        ('{"price": {}}', "object of currency"),
        ('{"currency": "US Dollar"}', "currency"),
        ('{"models": []}', "models"),
        ('{"default": {"tokens": 0.2}}', r"default\.tokens"),
        ('{"default": {"tokens": "-1"}}', r"default\.tokens"),
        ('{"default": {"words": "1"}}', r"default\.words"),
        ('{"models": {"m": {"tokens": "1e3"}}}', r"models\.m\.tokens"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(PriceTableError, match=named):
        table(tmp_path, text)
