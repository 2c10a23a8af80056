"""What a key's holder is told of its own limits: amounts in the currency they are in, and what is left of the day."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sidecar.allowance import allowance
from sidecar.grants import Grant
from sidecar.policy.currency import Rates
from sidecar.policy.key import Key
from sidecar.policy.trading import ACTIVE
from sidecar.policy.usage import Terms, Usage

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
RATES = Rates("HKD", date(2026, 11, 19), 7, {"USD": Decimal("7.78")})
USED = {"HKD": Decimal(10_000), "USD": Decimal(1_000)}


def day(rates: Rates | None = RATES, used: dict[str, Decimal] | None = None, **limits: Any) -> dict[str, Any]:
    grant = Grant(Key("bot", frozenset(), **limits), frozenset(), frozenset(), frozenset())
    usage = Usage(daily_value=USED if used is None else used)
    told: dict[str, Any] = allowance(grant, usage, NOW, ACTIVE, Terms(rates=rates))["daily_value"]
    return told


def test_without_a_currency_of_its_own_a_day_is_told_for_each_that_was_used() -> None:
    assert day(max_daily_value=Decimal(50_000)) == {
        "limit": "50000",
        "used": {"HKD": "10000", "USD": "1000"},
        "left": {"HKD": "40000", "USD": "49000"},
    }


def test_in_one_currency_a_day_is_one_sum() -> None:
    told = day(max_daily_value=Decimal(50_000), cap_currency="HKD")
    assert told["used"] == {"HKD": "17780.00"}
    assert told["left"] == {"HKD": "32220.00"}


def test_a_day_on_which_nothing_was_used_has_all_of_it_left() -> None:
    told = day(used={}, max_daily_value=Decimal(50_000), cap_currency="USD")
    assert told == {"limit": "50000", "used": {"USD": "0"}, "left": {"USD": "50000"}}


def test_without_rates_the_day_is_told_as_it_was_used_and_what_is_left_is_not() -> None:
    told = day(rates=None, max_daily_value=Decimal(50_000), cap_currency="HKD")
    assert told == {"limit": "50000", "used": {"HKD": "10000", "USD": "1000"}, "left": {}}


def test_what_is_used_is_told_without_a_limit_as_well() -> None:
    assert day(cap_currency="HKD") == {"limit": None, "used": {"HKD": "17780.00"}, "left": None}
