"""Kind, multiplier and currency of securities, as OpenD's static data gives them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from facts_house import FakeClock, FakeHouse, own_tasks, security

from sidecar.errors import UpstreamError
from sidecar.facts.instruments import MAX_CODES, Instruments
from sidecar.policy.usage import Instrument, InstrumentKind


@dataclass
class Static:
    sec_type: int = 3
    lot_size: int = 100
    delisting: bool = False


class StaticHouse(FakeHouse):
    def __init__(self, known: dict[str, Static]) -> None:
        super().__init__(self._fill)
        self.known = known
        self.future_currency = "HKD"

    def _fill(self, proto_id: int, request: Any, s2c: Any) -> None:
        for one in request.c2s.securityList:
            if proto_id == 3218:
                info = s2c.futureInfoList.add(
                    name="", lastTradeTime="", ownerOther="", exchange="", contractType="", contractSize=50.0,
                    contractSizeUnit="", quoteCurrency=self.future_currency, minVar=1.0, minVarUnit="", timeZone="",
                    exchangeFormatUrl="",
                )  # fmt: skip
                info.security.CopyFrom(one)
            elif (static := self.known.get(one.code)) is not None:
                basic = s2c.staticInfoList.add().basic
                basic.security.CopyFrom(one)
                basic.id, basic.lotSize, basic.secType = 1, static.lot_size, static.sec_type
                basic.name = basic.listTime = ""
                basic.delisting = static.delisting


async def look_up(known: dict[str, Static], code: str, market: int = 1, currency: str = "HKD") -> Instrument | None:
    house = StaticHouse(known)
    house.future_currency = currency
    async with own_tasks() as tasks:
        return await Instruments(house, tasks).get(security(code, market))


@pytest.mark.parametrize(
    ("sec_type", "kind", "multiplier"),
    [
        (3, InstrumentKind.STOCK, Decimal(1)),
        (4, InstrumentKind.ETF, Decimal(1)),
        (5, InstrumentKind.WARRANT, Decimal(1)),
        (2, InstrumentKind.WARRANT, Decimal(1)),
        (8, InstrumentKind.OPTION, Decimal(100)),
        (6, InstrumentKind.OTHER, None),
        (0, InstrumentKind.OTHER, None),
        (99, InstrumentKind.OTHER, None),
    ],
)
async def test_the_security_type_gives_the_kind_and_only_known_kinds_a_multiplier(
    sec_type: int, kind: InstrumentKind, multiplier: Decimal | None
) -> None:
    assert await look_up({"00700": Static(sec_type, 100)}, "00700") == Instrument(kind, multiplier, "HKD")


@pytest.mark.parametrize("lot_size", [0, -1])
async def test_an_option_without_a_contract_size_has_no_multiplier(lot_size: int) -> None:
    found = await look_up({"HSI": Static(8, lot_size)}, "HSI")
    assert found == Instrument(InstrumentKind.OPTION, None, "HKD")


@pytest.mark.parametrize(
    ("market", "code", "currency"),
    [
        (1, "00700", "HKD"),
        (11, "AAPL", "USD"),
        (21, "600519", "CNH"),
        (22, "000001", "CNH"),
        (31, "D05", "SGD"),
        (41, "7203", "JPY"),
        (51, "BHP", "AUD"),
        (61, "1155", "MYR"),
        (71, "RY", "CAD"),
    ],
)
async def test_the_currency_is_that_of_the_market(market: int, code: str, currency: str) -> None:
    found = await look_up({code: Static()}, code, market)
    assert found is not None
    assert found.currency == currency


@pytest.mark.parametrize(
    ("market", "code", "sec_type"),
    [
        (1, "80700", 3),  # renminbi counter
        (1, "83188", 4),
        (1, "89988", 3),
        (1, "04604", 3),  # preference share in dollars
        (1, "09834", 4),  # dollar counter of a fund
        (21, "900901", 3),  # B shares
        (22, "200002", 3),
        (91, "BTCUSD", 12),
        (81, "USDHKD", 11),
        (77, "X", 3),
    ],
)
async def test_a_security_whose_currency_is_not_certain_is_no_instrument(market: int, code: str, sec_type: int) -> None:
    assert await look_up({code: Static(sec_type)}, code, market) is None


@pytest.mark.parametrize(("code", "sec_type"), [("09988", 3), ("08083", 3), ("02800", 4), ("00080", 3)])
async def test_ordinary_hong_kong_codes_are_not_mistaken_for_foreign_counters(code: str, sec_type: int) -> None:
    found = await look_up({code: Static(sec_type)}, code)
    assert found is not None
    assert found.currency == "HKD"


@pytest.mark.parametrize(("word", "currency"), [("USD", "USD"), ("港元", "HKD"), (" 人民币 ", "CNH")])
async def test_a_future_is_in_the_currency_its_contract_says(word: str, currency: str) -> None:
    found = await look_up({"CUSmain": Static(10, 50)}, "CUSmain", currency=word)
    assert found == Instrument(InstrumentKind.FUTURE, Decimal(50), currency)


@pytest.mark.parametrize("word", ["", "doubloon"])
async def test_a_future_in_a_currency_nobody_knows_is_no_instrument(word: str) -> None:
    assert await look_up({"XXX": Static(10, 50)}, "XXX", currency=word) is None


@pytest.mark.parametrize("refused", [True, False])
async def test_when_contracts_cannot_be_read_only_futures_feel_it(refused: bool) -> None:
    class NoContracts(StaticHouse):
        async def ask(self, proto_id: int, request: Any, *, timeout: float) -> Any:
            if proto_id == 3218 and not refused:
                raise UpstreamError("away")
            self.refuse_all = "no rights" if proto_id == 3218 else None
            return await super().ask(proto_id, request, timeout=timeout)

    house = NoContracts({"00700": Static(), "HSImain": Static(10, 50)})
    async with own_tasks() as tasks:
        instruments = Instruments(house, tasks)
        stock, future = await asyncio.gather(instruments.get(security("00700")), instruments.get(security("HSImain")))
    assert stock is not None
    assert future is None


async def test_a_delisted_or_unknown_security_is_no_instrument() -> None:
    assert await look_up({"00001": Static(delisting=True)}, "00001") is None
    assert await look_up({}, "00002") is None


async def test_many_securities_are_one_request_of_at_most_two_hundred() -> None:
    known = {f"{n:05d}": Static() for n in range(450)}
    house = StaticHouse(known)
    async with own_tasks() as tasks:
        instruments = Instruments(house, tasks)
        found = await asyncio.gather(*(instruments.get(security(code)) for code in known))
    assert None not in found
    assert [len(codes) for _, codes in house.asked] == [MAX_CODES, MAX_CODES, 50]


async def test_a_day_long_it_is_not_asked_again() -> None:
    house, clock = StaticHouse({"00700": Static()}), FakeClock()
    async with own_tasks() as tasks:
        instruments = Instruments(house, tasks, clock=clock)
        await instruments.get(security("00700"))
        clock.now += 86_399.0
        await instruments.get(security("00700"))
        assert len(house.asked) == 1
        clock.now += 1.0
        await instruments.get(security("00700"))
        assert len(house.asked) == 2


async def test_an_unknown_code_is_remembered_five_seconds() -> None:
    house, clock = StaticHouse({}), FakeClock()
    async with own_tasks() as tasks:
        instruments = Instruments(house, tasks, clock=clock)
        for _ in range(3):
            assert await instruments.get(security("99999")) is None
        assert len(house.asked) == 1
        clock.now += 5.0
        await instruments.get(security("99999"))
        assert len(house.asked) == 2


async def test_the_same_code_on_two_markets_is_two_securities() -> None:
    house = StaticHouse({"D05": Static()})
    async with own_tasks() as tasks:
        instruments = Instruments(house, tasks)
        sg, us = await asyncio.gather(instruments.get(security("D05", 31)), instruments.get(security("D05", 11)))
    assert sg is not None
    assert us is not None
    assert (sg.currency, us.currency) == ("SGD", "USD")


async def test_one_code_opend_refuses_does_not_hide_the_others() -> None:
    house = StaticHouse({"00700": Static(), "00005": Static()})
    house.refuse_codes = {"BAD"}
    async with own_tasks() as tasks:
        instruments = Instruments(house, tasks)
        found = await asyncio.gather(*(instruments.get(security(code)) for code in ("00700", "BAD", "00005")))
    assert [one is not None for one in found] == [True, False, True]


async def test_an_opend_that_is_away_or_slow_is_none_and_never_a_hang() -> None:
    house = StaticHouse({"00700": Static()})
    async with own_tasks() as tasks:
        instruments = Instruments(house, tasks, timeout=0.03)
        house.away = True
        assert await instruments.get(security("00700")) is None
        house.away, house.delay = False, 0.08
        assert await instruments.get(security("00700")) is None
        await asyncio.sleep(0.1)
        assert await instruments.get(security("00700")) is not None  # the late answer
    assert len(house.asked) == 2
