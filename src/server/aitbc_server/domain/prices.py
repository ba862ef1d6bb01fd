"""What work costs: a price table by model, in exact decimal arithmetic."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

# Amounts are counted in units of 10**-18, prices for a million units in 10**-12.
_AMOUNT_DIGITS = 18
_PRICE_DIGITS = 12
_PRICE = re.compile(rf"([0-9]{{1,12}})(?:\.([0-9]{{1,{_PRICE_DIGITS}}}))?")
_CURRENCY = re.compile(r"[A-Za-z0-9]{1,16}")
_TABLE_FIELDS = frozenset({"currency", "default", "models"})


class UnitType(StrEnum):
    """What work is counted in."""

    #: Tokens of prompt and result, as the miner reported them.
    TOKENS = "tokens"
    #: Characters of the result, where the miner reported no tokens.
    CHARACTERS = "characters"


# Price of a million units by their type, in 10**-12; a type that is missing is free.
Rates = Mapping[UnitType, int]


class PriceTableError(ValueError):
    """The file of prices is wrong. The text names the file and what is wrong in it."""


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by model. Without any, everything is free."""

    currency: str = "AITBC"
    # For models that have no prices of their own.
    default: Rates = field(default_factory=dict)
    models: Mapping[str, Rates] = field(default_factory=dict)

    def price(self, model: str, units: int, unit_type: UnitType) -> str:
        """Returns what so many units cost, as a decimal number. Raises ValueError below zero."""
        if units < 0:
            raise ValueError(f"{units} units of work cannot be")
        return decimal(self.amount(model, units, unit_type))

    def amount(self, model: str, units: int, unit_type: UnitType) -> int:
        """Returns the same as an amount."""
        return units * self.models.get(model, self.default).get(unit_type, 0)


def load_prices(file: Path) -> PriceTable:
    """Returns the table in a JSON file. Raises OSError and PriceTableError.

    Prices are for a million units, as texts:
    `{"currency": "USD", "default": {"tokens": "0.2"}, "models": {"llama3.2": {"tokens": "0.15"}}}`
    """
    try:
        table = json.loads(file.read_text())
    except ValueError as error:
        raise PriceTableError(f"{file}: is not JSON: {error}") from error
    if not isinstance(table, dict) or not table.keys() <= _TABLE_FIELDS:
        raise PriceTableError(f"{file}: must be an object of currency, default and models")
    currency = table.get("currency", "AITBC")
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise PriceTableError(f"{file}: currency: must be up to 16 letters and digits")
    models = table.get("models", {})
    if not isinstance(models, dict):
        raise PriceTableError(f"{file}: models: must be an object")
    return PriceTable(
        currency=currency,
        default=_rates(table.get("default", {}), f"{file}: default"),
        models={name: _rates(rates, f"{file}: models.{name}") for name, rates in models.items()},
    )


def _rates(value: Any, where: str) -> Rates:
    if not isinstance(value, dict):
        raise PriceTableError(f"{where}: must be an object of tokens and characters")
    rates = {}
    for name, price in value.items():
        match = _PRICE.fullmatch(price) if isinstance(price, str) else None
        if name not in list(UnitType) or match is None:
            raise PriceTableError(
                f'{where}.{name}: must be a decimal text for tokens, such as "0.20"'
            )
        whole, fraction = match.groups()
        rates[UnitType(name)] = int(whole + (fraction or "").ljust(_PRICE_DIGITS, "0"))
    return rates


def decimal(amount: int) -> str:
    """Returns an amount as a decimal number."""
    # Ledgers of earlier versions may have amounts below zero.
    sign, text = "-" if amount < 0 else "", f"{abs(amount):0{_AMOUNT_DIGITS + 1}}"
    whole, fraction = text[:-_AMOUNT_DIGITS], text[-_AMOUNT_DIGITS:].rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
