"""The operator's rates of exchange, exact and dated, and what an amount is in another currency; knows no limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Context, Decimal, Inexact, InvalidOperation, Overflow

from sidecar.policy.exact import EXACT, plain

_ONE = Decimal(1)
_TO = Decimal("0.0001")
_UPWARDS = Context(prec=EXACT.prec, rounding=ROUND_CEILING, traps=[InvalidOperation, Overflow])
"""INVARIANT: where a quotient has no end it is rounded up, against the order."""
_AHEAD = 1
"""Days by which rates may be dated ahead of UTC: where they were written down it may be tomorrow already."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one unit of each currency is worth, in units of `base`. Currencies by their ISO codes."""

    base: str
    as_of: date
    max_age_days: int
    """Whole days after `as_of` in which the rates may be used."""
    per_unit: Mapping[str, Decimal]
    """Each above 0; without `base` itself, which is 1."""

    def of(self, currency: str) -> Decimal | None:
        if currency == self.base:
            return _ONE
        rate = self.per_unit.get(currency)
        return rate if rate is not None and rate.is_finite() and rate > 0 else None


@dataclass(frozen=True, slots=True)
class Exchange:
    """The currency in which a key's amounts are, and the rates by which others are converted into it today."""

    into: str
    rates: Rates | None
    """None: there are none that may be used."""
    unusable: str = ""
    """Why not."""

    def lacks(self, currency: str) -> str | None:
        """Why an amount cannot be converted, in words; None where it can."""
        if currency == self.into:
            return None
        if self.rates is None:
            return f"an amount in {currency} cannot be held against limits in {self.into}: {self.unusable}"
        for one in (currency, self.into):
            if self.rates.of(one) is None:
                return (
                    f"an amount in {currency} cannot be held against limits in {self.into}: there is no rate of {one}"
                )
        return None

    def convert(self, amount: Decimal, currency: str) -> Decimal | None:
        """The amount in `into`, exact or rounded up in the fourth decimal; None where it cannot be told."""
        if currency == self.into:
            return amount
        if self.rates is None:
            return None
        times, by = self.rates.of(currency), self.rates.of(self.into)
        if times is None or by is None:
            return None
        product = EXACT.multiply(amount, times)
        try:
            return EXACT.divide(product, by)
        except Inexact:
            return _UPWARDS.quantize(_UPWARDS.divide(product, by), _TO)

    def factor(self, currency: str) -> str:
        """How an amount is converted, as it follows the amount: ` × 7.78`, ` / 7.78`, ` × 7.78 / 1.07`, or nothing."""
        if currency == self.into or self.rates is None:
            return ""
        times, by = self.rates.of(currency) or _ONE, self.rates.of(self.into) or _ONE
        shown = "" if currency == self.rates.base else f" × {plain(times)}"
        return shown if self.into == self.rates.base else f"{shown} / {plain(by)}"


def exchange(cap_currency: str | None, rates: Rates | None, now: datetime) -> Exchange | None:
    """As `exchange_into`; None where each amount stays in its own currency."""
    return None if cap_currency is None else exchange_into(cap_currency, rates, now)


def exchange_into(currency: str, rates: Rates | None, now: datetime) -> Exchange:
    """`now` is aware; the age of rates counts in days of UTC."""
    if rates is None:
        return Exchange(currency, None, "the settings have no rates of exchange (policy.fx)")
    if now.tzinfo is None:
        return Exchange(currency, None, "what day it is cannot be told")
    age = (now.astimezone(UTC).date() - rates.as_of).days
    if age > rates.max_age_days:
        old = f"the rates of exchange are of {rates.as_of}, {age} days old, and may be used for {rates.max_age_days}"
        return Exchange(currency, None, f"{old} (policy.fx)")
    if age < -_AHEAD:
        return Exchange(
            currency, None, f"the rates of exchange are of {rates.as_of}, which is still to come (policy.fx)"
        )
    return Exchange(currency, rates)
