"""What an account gained or lost today: of all holdings or not at all, and never through a limited request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import structlog
from facts_house import NAMES
from structlog.testing import capture_logs
from test_positions import HoldingsHouse

from sidecar import loss_watch
from sidecar.errors import UpstreamError
from sidecar.facts.asking import Rejected
from sidecar.facts.day_profit import day_profit
from sidecar.intents.model import TrdEnv
from sidecar.loss_watch import LossWatch, loss_in
from sidecar.policy.currency import Rates
from sidecar.policy.usage import Account
from tests.test_breakers import World

NAMES[2102] = "Trd_GetPositionList"
ACCOUNT = Account(1001, TrdEnv.REAL, frozenset({2, 1}))
HKD, USD = 1, 2
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
RATES = Rates("HKD", date(2026, 11, 20), 7, {"USD": Decimal("7.78"), "JPY": Decimal("0.05")})


def held(profit: float, currency: int = HKD, **more: Any) -> dict[str, Any]:
    return {"td_plVal": profit, "currency": currency, **more}


async def test_the_profit_of_the_day_is_added_up_by_currency_closed_positions_included() -> None:
    house = HoldingsHouse(held(-1200.5), held(200.25, qty=0.0), held(-3.1, USD), held(0.3, USD, code="AAPL"))
    assert await day_profit(house, ACCOUNT, 2.0) == {"HKD": Decimal("-1000.25"), "USD": Decimal("-2.8")}
    (asked,) = house.requests
    header = asked.request.c2s.header
    assert (header.accID, header.trdEnv, header.trdMarket) == (1001, 1, 1)


async def test_an_account_without_holdings_lost_nothing() -> None:
    assert await day_profit(HoldingsHouse(), ACCOUNT, 2.0) == {}


@pytest.mark.parametrize("one", [{"currency": HKD}, held(1.0, 99), {"td_plVal": 1.0}, held(math.nan), held(-math.inf)])
async def test_one_holding_that_does_not_say_it_makes_the_whole_unknown(one: dict[str, Any]) -> None:
    found = await day_profit(HoldingsHouse(held(-9000.0), one), ACCOUNT, 2.0)
    assert isinstance(found, Rejected)
    assert found.message == "OpenD does not say what `00700` gained or lost today"


async def test_a_refusal_and_an_answer_about_another_account_are_unknown() -> None:
    house = HoldingsHouse(held(-1.0))
    house.refuse_all = "no such account"
    assert await day_profit(house, ACCOUNT, 2.0) == Rejected("no such account")
    house = HoldingsHouse(held(-1.0))
    house.answers_for = 2002
    assert await day_profit(house, ACCOUNT, 2.0) == Rejected("the answer is about account 2002")
    assert isinstance(await day_profit(house, Account(1, TrdEnv.REAL, frozenset()), 2.0), Rejected)


@pytest.mark.parametrize(
    ("profit", "loss"),
    [
        ({}, "0"),
        ({"HKD": "-5000"}, "5000"),
        ({"HKD": "5000"}, "-5000"),
        ({"HKD": "-1000", "USD": "-100"}, "1778"),
        ({"HKD": "-1000", "USD": "100"}, "222"),
        ({"HKD": "-1000", "SGD": "0"}, "1000"),
    ],
)
def test_currencies_are_added_up_at_the_rates_of_the_settings(profit: Mapping[str, str], loss: str) -> None:
    amounts = {currency: Decimal(amount) for currency, amount in profit.items()}
    assert loss_in("HKD", amounts, RATES, NOW) == Decimal(loss)


def test_what_has_no_rate_or_one_that_is_too_old_makes_the_loss_unknown() -> None:
    for currency, amount, rates, now, why in (
        ("HKD", "SGD", RATES, NOW, "there is no rate of SGD"),
        ("HKD", "USD", None, NOW, "no rates of exchange"),
        ("SGD", "HKD", RATES, NOW, "there is no rate of SGD"),
        ("HKD", "USD", RATES, datetime(2026, 11, 28, 3, 0, tzinfo=UTC), "days old"),
        ("HKD", "USD", RATES, datetime(2026, 11, 1, 3, 0, tzinfo=UTC), "still to come"),
    ):
        found = loss_in(currency, {amount: Decimal(-1)}, rates, now)
        assert isinstance(found, Rejected)
        assert why in found.message
    assert loss_in("HKD", {"USD": Decimal(-1)}, RATES, datetime(2026, 11, 27, 3, 0, tzinfo=UTC)) == Decimal("7.78")


def test_what_does_not_come_out_even_is_taken_for_more_of_a_loss_and_less_of_a_gain() -> None:
    lost = loss_in("USD", {"HKD": Decimal(-100)}, RATES, NOW)
    won = loss_in("USD", {"HKD": Decimal(100)}, RATES, NOW)
    assert isinstance(lost, Decimal) and isinstance(won, Decimal)
    assert Fraction(lost) * Fraction("7.78") > 100 > -Fraction(won) * Fraction("7.78")
    assert lost < Decimal("12.8536")


class Watch:
    def __init__(self, folder: Path, *positions: dict[str, Any]) -> None:
        self.house = HoldingsHouse(*positions)
        self.world = World(folder, daily_loss=Decimal(5000), daily_loss_currency="HKD")
        self.unknown: list[float] = []
        day = self.world.now.replace(hour=0).timestamp()
        self.watch = LossWatch(
            self.house, self, self.world.breakers, currency="HKD", rates=None, day_start=lambda at: day,  # type: ignore[arg-type]
            unknown=self.unknown.append, clock=lambda: self.world.now.timestamp(),
        )  # fmt: skip

    def get(self, acc_id: int) -> Account | None:
        return ACCOUNT if acc_id == 1001 else None


async def test_only_accounts_in_which_a_key_placed_orders_today_are_asked_about(tmp_path: Path) -> None:
    watch = Watch(tmp_path, held(-6000.0))
    await watch.watch.look("HKD")
    assert watch.house.requests == []
    watch.world.breakers.order_allowed("bot", 1001)
    await watch.watch.look("HKD")
    assert len(watch.house.requests) == 1
    assert watch.world.states.of("bot").breaker == "daily_loss"
    await watch.watch.look("HKD")
    assert len(watch.house.requests) == 1, "the key is halted"


async def test_a_loss_that_is_not_known_halts_nobody_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_watch, "log", structlog.get_logger())  # one that no earlier test has set up
    watch = Watch(tmp_path, {"td_plVal": -9000.0})
    watch.world.breakers.order_allowed("bot", 1001)
    watch.world.breakers.order_allowed("bot", 4711)
    with capture_logs() as told:
        for _ in range(3):
            await watch.watch.look("HKD")
    assert watch.world.state().name == "ACTIVE"
    assert watch.unknown == [2, 2, 2]
    assert str(told).count("no breaker judges it") == 2, "once for each account"
    watch.house.away = True
    await watch.watch.look("HKD")
    assert watch.unknown[-1] == 2


async def test_rates_that_change_hold_from_the_next_look_on_and_without_a_limit_nothing_is_unknown(
    tmp_path: Path,
) -> None:
    watch = Watch(tmp_path, held(-1000.0, USD))
    watch.world.breakers.order_allowed("bot", 1001)
    await watch.watch.look("HKD")
    assert watch.unknown == [1.0], "there is no rate"
    watch.watch.use(None, None)
    assert watch.unknown == [1.0, 0.0]
    watch.watch.use("HKD", replace(RATES, as_of=date(2026, 1, 5)))
    await watch.watch.look("HKD")
    assert watch.unknown == [1.0, 0.0, 0.0]
    assert watch.world.states.of("bot").breaker == "daily_loss"


async def test_opend_that_is_away_raises_where_it_is_asked() -> None:
    house = HoldingsHouse()
    house.away = True
    with pytest.raises(UpstreamError):
        await day_profit(house, ACCOUNT, 2.0)
