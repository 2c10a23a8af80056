"""Amounts in another currency: exact, or rounded against the order, by rates of a day that counts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.currency import Exchange, Rates, exchange
from sidecar.policy.exact import EXACT

DAY = date(2026, 11, 19)
RATES = Rates("HKD", DAY, 7, {"USD": Decimal("7.78"), "CNH": Decimal("1.07"), "JPY": Decimal("0.0512")})
CURRENCIES = ("HKD", "USD", "CNH", "JPY")
amounts = st.decimals("0.0001", 10**12, allow_nan=False)
rates = st.decimals("0.000001", 10**4, allow_nan=False, places=8).filter(bool)


def exact(currency: str, of: Rates) -> Fraction:
    return Fraction(1) if currency == of.base else Fraction(of.per_unit[currency])


@given(amounts, st.sampled_from(CURRENCIES), st.sampled_from(CURRENCIES), rates, rates, rates)
def test_what_is_converted_is_never_less_than_it_is_and_less_than_a_hundredth_of_a_cent_more(
    amount: Decimal, of: str, into: str, usd: Decimal, cnh: Decimal, jpy: Decimal
) -> None:
    some = Rates("HKD", DAY, 7, {"USD": usd, "CNH": cnh, "JPY": jpy})
    converted = Exchange(into, some).convert(amount, of)
    assert converted is not None
    true = Fraction(amount) * exact(of, some) / exact(into, some)
    assert true <= Fraction(converted) < true + Fraction(1, 10_000)
    if into == "HKD" or of == into:
        assert Fraction(converted) == true, "nothing is divided, so nothing is rounded"


@given(amounts, amounts, st.sampled_from(CURRENCIES), st.sampled_from(CURRENCIES))
def test_more_is_never_less_in_another_currency(one: Decimal, other: Decimal, of: str, into: str) -> None:
    to = Exchange(into, RATES)
    less, more = to.convert(min(one, other), of), to.convert(max(one, other), of)
    assert less is not None and more is not None
    assert less <= more


@given(st.lists(amounts, min_size=1, max_size=5), st.sampled_from(CURRENCIES))
def test_the_parts_of_a_sum_come_to_no_less_than_the_whole(parts: list[Decimal], into: str) -> None:
    to = Exchange(into, RATES)
    converted = [to.convert(part, "USD") for part in parts]
    whole = Fraction(to.convert(reduce(EXACT.add, parts), "USD") or 0)
    assert sum(Fraction(part or 0) for part in converted) >= whole


@pytest.mark.parametrize(
    ("of", "into", "shown"),
    [("USD", "HKD", " × 7.78"), ("HKD", "USD", " / 7.78"), ("USD", "CNH", " × 7.78 / 1.07"), ("USD", "USD", "")],
)
def test_how_it_is_converted_is_shown(of: str, into: str, shown: str) -> None:
    assert Exchange(into, RATES).factor(of) == shown


@pytest.mark.parametrize(
    ("days", "usable"), [(-1.5, False), (-1, True), (-0.5, True), (0, True), (7, True), (7.99, True), (8, False)]
)
def test_rates_count_from_the_day_before_theirs_to_the_end_of_their_age(days: float, usable: bool) -> None:
    midnight = datetime(2026, 11, 19, tzinfo=UTC)
    found = exchange("HKD", RATES, midnight + timedelta(days=days))
    assert found is not None
    assert (found.rates is not None) is usable
    assert bool(found.unusable) is not usable


def test_without_a_currency_there_is_nothing_to_convert() -> None:
    assert exchange(None, RATES, datetime.now(UTC)) is None


def test_a_clock_without_a_zone_says_no_day() -> None:
    found = exchange("HKD", RATES, datetime(2026, 11, 20, 3, 0))
    assert found is not None and found.rates is None
    assert found.lacks("USD") is not None


@pytest.mark.parametrize("rate", [Decimal(0), Decimal(-1), Decimal("NaN"), Decimal("Infinity")])
def test_a_rate_that_is_no_rate_is_none(rate: Decimal) -> None:
    to = Exchange("HKD", Rates("HKD", DAY, 7, {"USD": rate}))
    assert to.convert(Decimal(1), "USD") is None
    assert to.lacks("USD") is not None
    assert to.convert(Decimal(1), "HKD") == 1
