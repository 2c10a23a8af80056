"""Market states: one question for the stock markets, one by security for the rest, fresh, bounded, and refusing what is unknown."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from facts_house import FakeClock, FakeHouse, own_tasks, security

from sidecar.facts.market_states import STATES, MarketStates
from sidecar.intents.model import Security
from sidecar.policy.market_state import MarketState, Session
from sidecar.wire.messages import module

MORNING = MarketState(Session.REGULAR, "MORNING")
REST = MarketState(Session.CLOSED, "REST")
TENCENT = security("00700")
APPLE = security("AAPL", 11, "US")
CALL = security("AAPL261218C240000", 11, "US")
FUTURE = replace(security("HSI2612"), trd_market=10)


class StateHouse(FakeHouse):
    """`markets` are fields of 1002, `securities` states by code for 3223."""

    def __init__(self, securities: dict[str, int] | None = None, **markets: int) -> None:
        super().__init__(self._fill)
        self.markets = {"marketHK": 3, "marketUS": 3, "marketSH": 3, "marketSZ": 3, "marketHKFuture": 15, **markets}
        self.securities = securities or {}

    def _fill(self, proto_id: int, request: Any, s2c: Any) -> None:
        if proto_id == 1002:
            for name, value in self.markets.items():
                setattr(s2c, name, value)
            s2c.qotLogined = s2c.trdLogined = True
            s2c.serverVer = s2c.serverBuildNo = s2c.time = 1
            return
        for one in request.c2s.securityList:
            if one.code in self.securities:
                info = s2c.marketInfoList.add(name="", marketState=self.securities[one.code])
                info.security.CopyFrom(one)


@pytest.mark.parametrize(
    ("asked", "state"),
    [
        (TENCENT, "REST"),
        (APPLE, "PRE_MARKET_BEGIN"),
        (security("BRK.B", 11, "US"), "PRE_MARKET_BEGIN"),
        (Security("CN", "SH.600519", 21, "600519"), "AFTERNOON"),
        (Security("CN", "SZ.000001", 22, "000001"), "CLOSED"),
        (security("D05", 31, "SG"), "MORNING"),
        (security("7203", 41, "JP"), "WAITING_OPEN"),
    ],
)
async def test_shares_and_funds_have_the_state_of_their_market(asked: Security, state: str) -> None:
    house = StateHouse(marketHK=4, marketUS=8, marketSH=5, marketSZ=6, marketSG=3, marketJP=2)
    async with own_tasks() as tasks:
        found = await MarketStates(house, tasks).get(asked)
    assert found is not None
    assert found.name == state
    assert [proto for proto, _ in house.asked] == [1002]


async def test_one_question_answers_for_all_stock_markets() -> None:
    house = StateHouse(marketUS=4)
    async with own_tasks() as tasks:
        states = MarketStates(house, tasks)
        found = await asyncio.gather(states.get(TENCENT), states.get(APPLE), states.get(TENCENT))
    assert found == [MORNING, REST, MORNING]
    assert len(house.asked) == 1


async def test_what_keeps_hours_of_its_own_is_asked_by_security() -> None:
    house = StateHouse({"HSI2612": 13, "AAPL261218C240000": 6, "TCH261127C460000": 5, "BTCUSD": 32})
    async with own_tasks() as tasks:
        states = MarketStates(house, tasks)
        wanted = [FUTURE, CALL, security("TCH261127C460000"), security("BTCUSD", 91, "CC")]
        found = await asyncio.gather(*(states.get(each) for each in wanted))
    assert [each and each.name for each in found] == ["NIGHT_OPEN", "CLOSED", "AFTERNOON", "NIGHT"]
    assert [proto for proto, _ in house.asked] == [3223]


async def test_an_american_future_is_not_taken_for_a_share() -> None:
    house = StateHouse({"ES": 23}, marketUS=6)
    async with own_tasks() as tasks:
        found = await MarketStates(house, tasks).get(replace(security("ES", 11, "US"), trd_market=5))
    assert found is not None
    assert found.name == "FUTURE_OPEN"


async def test_an_answer_is_good_for_five_seconds() -> None:
    house, clock = StateHouse(), FakeClock()
    async with own_tasks() as tasks:
        states = MarketStates(house, tasks, clock=clock)
        assert await states.get(TENCENT) == MORNING
        house.markets["marketHK"] = 4
        clock.now += 4.9
        assert await states.get(TENCENT) == MORNING
        clock.now += 0.2
        assert await states.get(TENCENT) == REST


async def test_forgetting_asks_again() -> None:
    house = StateHouse({"HSI2612": 15})
    async with own_tasks() as tasks:
        states = MarketStates(house, tasks)
        await states.get(TENCENT)
        await states.get(FUTURE)
        states.forget()
        await states.get(TENCENT)
        await states.get(FUTURE)
    assert len(house.asked) == 4


@pytest.mark.parametrize(
    ("asked", "house"),
    [
        (TENCENT, StateHouse(marketHK=99)),
        (security("D05", 31, "SG"), StateHouse()),
        (FUTURE, StateHouse({"HSI2612": 99})),
        (FUTURE, StateHouse({})),
    ],
)
async def test_a_state_that_is_not_told_or_not_known_is_none(asked: Security, house: StateHouse) -> None:
    async with own_tasks() as tasks:
        assert await MarketStates(house, tasks).get(asked) is None


async def test_a_slow_or_absent_opend_is_none_in_time() -> None:
    slow, away, refusing = StateHouse(), StateHouse(), StateHouse()
    slow.delay, away.away, refusing.refuse_all = 0.3, True, "not logged in"
    async with own_tasks() as tasks:
        for house in (slow, away, refusing):
            begin = asyncio.get_running_loop().time()
            assert await MarketStates(house, tasks, timeout=0.05).get(TENCENT) is None
            assert asyncio.get_running_loop().time() - begin < 0.25


async def test_more_questions_by_security_than_opend_takes_are_not_sent() -> None:
    house, clock = StateHouse({f"HSI{n}": 15 for n in range(20)}), FakeClock()
    async with own_tasks() as tasks:
        states = MarketStates(house, tasks, timeout=0.05, clock=clock)
        found = [await states.get(replace(security(f"HSI{n}"), trd_market=10)) for n in range(12)]
    assert [each is None for each in found] == [False] * 10 + [True] * 2
    assert len(house.asked) == 10


def test_every_state_opend_may_report_is_told_apart() -> None:
    values = module("Qot_Common").QotMarketState.DESCRIPTOR.values_by_number
    assert set(STATES) == set(values)
    assert {state.session for state in STATES.values()} == set(Session)
    assert len({state.name for state in STATES.values()}) == len(STATES)
