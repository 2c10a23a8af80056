"""Contracts behind continuous futures codes: what OpenD names, of the same market, and nothing that is no contract."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from facts_house import FakeClock, FakeHouse, own_tasks, security

from sidecar.facts.contracts import Contracts

MAIN = replace(security("HSImain"), trd_market=10)


class FutureHouse(FakeHouse):
    """`origins`: code → market and code of the contract; a code that is not there has none."""

    def __init__(self, **origins: tuple[int, str]) -> None:
        super().__init__(self._fill)
        self.origins = origins

    def _fill(self, _proto_id: int, request: Any, s2c: Any) -> None:
        for one in request.c2s.securityList:
            info = s2c.futureInfoList.add(security=one, contractSize=50.0, quoteCurrency="HKD", minVar=1.0)
            for name in ("name", "lastTradeTime", "ownerOther", "exchange", "contractType", "contractSizeUnit"):
                setattr(info, name, "")
            info.minVarUnit = info.timeZone = info.exchangeFormatUrl = ""
            if one.code in self.origins:
                info.origin.market, info.origin.code = self.origins[one.code]


async def test_the_contract_is_what_opend_says_it_stands_for() -> None:
    async with own_tasks() as tasks:
        found = await Contracts(FutureHouse(HSImain=(1, "HSI2612")), tasks).get(MAIN)
    assert found is not None
    assert (found.symbol, found.code, found.market, found.qot_market, found.trd_market) == (
        "HK.HSI2612", "HSI2612", "HK", 1, 10,
    )  # fmt: skip
    assert not found.continuous


@pytest.mark.parametrize(
    "origin",
    [
        None,
        (11, "HSI2612"),
        (1, "HSImain"),
        (1, "HSInext"),
        (1, "HK.HSI2612"),
        (1, "hsi2612"),
        (1, ""),
        (99, "HSI2612"),
    ],
)
async def test_what_is_no_contract_of_the_same_market_is_none(origin: tuple[int, str] | None) -> None:
    house = FutureHouse() if origin is None else FutureHouse(HSImain=origin)
    async with own_tasks() as tasks:
        assert await Contracts(house, tasks).get(MAIN) is None


async def test_it_is_asked_again_after_a_minute_and_after_forgetting() -> None:
    house, clock = FutureHouse(HSImain=(1, "HSI2611")), FakeClock()
    async with own_tasks() as tasks:
        contracts = Contracts(house, tasks, clock=clock)
        for advance, code in ((0, "HSI2611"), (59, "HSI2611"), (2, "HSI2612")):
            clock.now += advance
            found = await contracts.get(MAIN)
            assert found is not None
            assert found.code == code
            house.origins["HSImain"] = (1, "HSI2612")
        contracts.forget()
        await contracts.get(MAIN)
    assert len(house.asked) == 3


async def test_an_absent_opend_is_none() -> None:
    house = FutureHouse(HSImain=(1, "HSI2611"))
    house.away = True
    async with own_tasks() as tasks:
        assert await Contracts(house, tasks, timeout=0.1).get(MAIN) is None
