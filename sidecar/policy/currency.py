"""The operator's rates of exchange, exact and dated; knows no amount and no limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Rates:
    """What one unit of each currency is worth, in units of `base`. Currencies by their ISO codes."""

    base: str
    as_of: date
    max_age_days: int
    """Whole days after `as_of` in which the rates may be used."""
    per_unit: Mapping[str, Decimal]
    """Each above 0; without `base` itself, which is 1."""
