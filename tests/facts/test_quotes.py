"""Reference prices: exact, positive, fresh, and inside a budget."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from typing import Any

import pytest
from facts_house import FakeClock, FakeHouse, own_tasks, security
from hypothesis import given
from hypothesis import strategies as st

from sidecar.facts.quotes import MAX_CODES, Quotes, price_of
from sidecar.wire.messages import message_class


class QuoteHouse(FakeHouse):
    def __init__(self, prices: dict[str, float]) -> None:
        super().__init__(self._fill)
        self.prices = prices
        self.suspended: set[str] = set()

    def _fill(self, _proto_id: int, request: Any, s2c: Any) -> None:
        for one in request.c2s.securityList:
            if one.code in self.prices:
                basic = s2c.snapshotList.add().basic
                fill(basic, self.prices[one.code], one.code in self.suspended)
                basic.security.CopyFrom(one)


def fill(basic: Any, price: float, suspended: bool = False) -> None:
    basic.security.market, basic.security.code = 1, "00700"
    basic.type, basic.isSuspend, basic.lotSize, basic.volume = 3, suspended, 100, 0
    basic.listTime = basic.updateTime = ""
    for name in ["priceSpread", "highPrice", "openPrice", "lowPrice", "lastClosePrice", "turnover", "turnoverRate"]:
        setattr(basic, name, 0.0)
    basic.curPrice = price


async def test_the_price_is_exactly_what_opend_said() -> None:
    async with own_tasks() as tasks:
        assert await Quotes(QuoteHouse({"00700": 350.1}), tasks).get(security("00700")) == Decimal("350.1")


@pytest.mark.parametrize("price", [0.0, -0.0, -1.5, math.nan, math.inf, -math.inf])
async def test_what_is_not_a_positive_finite_number_is_no_price(price: float) -> None:
    async with own_tasks() as tasks:
        assert await Quotes(QuoteHouse({"00700": price}), tasks).get(security("00700")) is None


@given(st.floats())
def test_every_double_is_an_exact_price_or_none(price: float) -> None:
    basic: Any = message_class("Qot_GetSecuritySnapshot.SnapshotBasicData")()
    fill(basic, price)
    found = price_of(basic)
    if math.isfinite(price) and price > 0:
        assert found is not None
        assert float(found) == price
        assert found.is_finite()
        assert found > 0
    else:
        assert found is None


async def test_a_suspended_or_unknown_security_has_no_price() -> None:
    house = QuoteHouse({"00700": 350.0})
    house.suspended = {"00700"}
    async with own_tasks() as tasks:
        quotes = Quotes(house, tasks)
        assert await quotes.get(security("00700")) is None
        assert await quotes.get(security("00001")) is None


async def test_a_price_is_used_for_three_seconds_and_then_asked_for_again() -> None:
    house, clock = QuoteHouse({"00700": 350.0}), FakeClock()
    async with own_tasks() as tasks:
        quotes = Quotes(house, tasks, clock=clock)
        assert await quotes.get(security("00700")) == 350
        house.prices["00700"] = 360.0
        clock.now += 2.9
        assert await quotes.get(security("00700")) == 350
        clock.now += 0.1
        assert await quotes.get(security("00700")) == 360
    assert len(house.asked) == 2


async def test_quotes_asked_for_together_are_one_request_of_at_most_four_hundred() -> None:
    house = QuoteHouse({f"{n:05d}": n + 1.0 for n in range(500)})
    async with own_tasks() as tasks:
        quotes = Quotes(house, tasks)
        found = await asyncio.gather(*(quotes.get(security(code)) for code in list(house.prices) * 2))
    assert found == [Decimal(n + 1) for n in range(500)] * 2
    assert [len(codes) for _, codes in house.asked] == [MAX_CODES, 100]


async def test_beyond_its_budget_a_quote_waits_for_its_turn_or_is_none() -> None:
    house, clock = QuoteHouse({f"{n:05d}": 1.0 for n in range(100)}), FakeClock()
    async with own_tasks() as tasks:
        quotes = Quotes(house, tasks, timeout=0.2, clock=clock)
        for n in range(60):
            assert await quotes.get(security(f"{n:05d}")) == 1
        assert await quotes.get(security("00060")) is None
        assert len(house.asked) == 60
        waiting = tasks.spawn(quotes.get(security("00061")))
        await asyncio.sleep(0.02)
        clock.now += 30.0
        assert await waiting == 1
    assert len(house.asked) == 61


async def test_a_refused_snapshot_is_none_and_one_bad_code_does_not_hide_the_others() -> None:
    house = QuoteHouse({"00700": 350.0, "00005": 60.0})
    house.refuse_codes = {"BAD"}
    async with own_tasks() as tasks:
        quotes = Quotes(house, tasks)
        found = await asyncio.gather(*(quotes.get(security(code)) for code in ("00700", "BAD", "00005")))
    assert found == [Decimal(350), None, Decimal(60)]


async def test_a_slow_price_is_none_in_time() -> None:
    house = QuoteHouse({"00700": 350.0})
    house.delay = 0.08
    async with own_tasks() as tasks:
        quotes = Quotes(house, tasks, timeout=0.02)
        started = asyncio.get_running_loop().time()
        assert await quotes.get(security("00700")) is None
        assert asyncio.get_running_loop().time() - started < 0.07
        await asyncio.sleep(0.1)
        assert await quotes.get(security("00700")) == 350
    assert len(house.asked) == 1
