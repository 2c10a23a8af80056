"""Holdings: what may be sold of what is held, as of when it was asked, and nothing that is not clear."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from facts_house import NAMES, FakeClock, FakeHouse, own_tasks, security

from sidecar.facts.positions import Positions
from sidecar.intents.model import Security, TrdEnv
from sidecar.policy.usage import Account, Position

NAMES[2102] = "Trd_GetPositionList"
PAPER = Account(1001, TrdEnv.SIMULATE, frozenset({2, 1}))
OTHER = Account(1002, TrdEnv.REAL, frozenset({1}))
TENCENT = security("00700")
Held = dict[str, Any]


class HoldingsHouse(FakeHouse):
    def __init__(self, *held: Held) -> None:
        super().__init__(self._fill)
        self.held: Sequence[Held] = held
        self.answers_for: int | None = None

    async def ask(self, proto_id: int, request: Any, *, timeout: float) -> Any:
        # the list names no securities
        assert not request.c2s.refreshCache, "lists that refresh the cache are limited, and clients may use that up"
        return await super().ask(proto_id, _Named(request), timeout=timeout)

    def _fill(self, _proto_id: int, request: Any, s2c: Any) -> None:
        s2c.header.CopyFrom(request.request.c2s.header)
        s2c.header.accID = self.answers_for or s2c.header.accID
        for told in self.held:
            one = s2c.positionList.add(positionID=1, positionSide=0, code="00700", name="", qty=0.0, canSellQty=0.0)
            one.price = one.val = one.plVal = 0.0
            one.secMarket, one.trdMarket = 1, 1
            for name, value in told.items():
                setattr(one, name, value)


class _Named:
    """A request as the house of the other facts notes it: with the securities it names, here none."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self.c2s = self
        self.securityList: list[Any] = []

    def IsInitialized(self) -> bool:
        return bool(self.request.IsInitialized())


async def sellable(house: HoldingsHouse, of: Security = TENCENT) -> Decimal | None:
    async with own_tasks() as tasks:
        found = await Positions(house, tasks, lambda lag: 7).get(PAPER, of)
    if found is None:
        return None
    assert found.reserved is None, "counted at the decision, not here"
    assert found.sequence == 7
    return found.sellable


async def test_what_may_be_sold_is_what_opend_says_can_be_sold() -> None:
    house = HoldingsHouse({"qty": 1000.0, "canSellQty": 600.0}, {"code": "00005", "qty": 1.0, "canSellQty": 1.0})
    assert await sellable(house) == 600
    header = house.requests[0].request.c2s.header
    assert (header.trdEnv, header.accID, header.trdMarket) == (0, 1001, 1)


async def test_what_is_not_in_the_list_is_not_held() -> None:
    assert await sellable(HoldingsHouse()) == 0
    assert await sellable(HoldingsHouse({"qty": 100.0, "canSellQty": 100.0, "secMarket": 2})) == 0


@pytest.mark.parametrize(
    ("held", "may_sell"),
    [
        ([{"qty": 10.0, "canSellQty": 30.0}], 10),
        ([{"qty": 0.1, "canSellQty": 0.1}, {"qty": 0.2, "canSellQty": 0.2}], Decimal("0.3")),
        ([{"qty": -10.0, "canSellQty": 10.0, "positionSide": 1}], 0),
        ([{"qty": 10.0, "canSellQty": 10.0, "positionSide": 1}], 0),
        ([{"qty": -10.0, "canSellQty": 10.0}], 0),
        ([{"qty": 30.0, "canSellQty": 30.0}, {"qty": -10.0, "canSellQty": 10.0, "positionSide": 1}], 20),
        ([{"qty": 10.0, "canSellQty": -5.0}], 0),
        ([{"qty": 0.0, "canSellQty": 0.0}], 0),
    ],
)  # fmt: skip
async def test_positions_of_one_security_add_up_and_never_to_more_than_is_held_net(
    held: list[Held], may_sell: Decimal
) -> None:
    assert await sellable(HoldingsHouse(*held)) == may_sell


@pytest.mark.parametrize(
    ("held", "net", "price"),
    [
        ([], 0, None),
        ([{"qty": 10.0, "canSellQty": 4.0, "price": 480.2}], 10, Decimal("480.2")),
        ([{"qty": -10.0, "positionSide": 1, "price": 480.2}], -10, Decimal("480.2")),
        ([{"qty": 10.0, "positionSide": 1}], -10, None),
        ([{"qty": 30.0, "price": 480.0}, {"qty": -10.0, "positionSide": 1, "price": 481.0}], 20, Decimal(481)),
        ([{"qty": 30.0, "price": 481.0}, {"qty": 0.1, "price": 480.0}], Decimal("30.1"), Decimal(481)),
        ([{"qty": 10.0, "price": 0.0}], 10, None),
        ([{"qty": 10.0, "price": -1.0}], 10, None),
        ([{"qty": 10.0, "price": math.nan}], 10, None),
        ([{"qty": 10.0, "price": math.inf}], 10, None),
    ],
)  # fmt: skip
async def test_what_is_held_net_and_what_a_unit_of_it_is_worth_are_told(
    held: list[Held], net: Decimal, price: Decimal | None
) -> None:
    async with own_tasks() as tasks:
        found = await Positions(HoldingsHouse(*held), tasks, lambda lag: 7).get(PAPER, TENCENT)
    assert found is not None
    assert (found.net, found.price) == (net, price)
    assert found.open_buys is None and found.open_sells is None, "counted at the decision, not here"


@pytest.mark.parametrize(
    "odd",
    [{"qty": math.nan}, {"canSellQty": math.inf}, {"positionSide": -1}, {"secMarket": 0}, {"secMarket": 4711}],
)  # fmt: skip
async def test_what_is_not_clear_is_none_and_hides_nothing_else(odd: Held) -> None:
    held = ({"qty": 5.0, "canSellQty": 5.0}, {"qty": 5.0, "canSellQty": 5.0, **odd})
    house = HoldingsHouse(*held, {"code": "00005", "qty": 5.0, "canSellQty": 5.0})
    assert await sellable(house) is None
    assert await sellable(house, security("00005")) == 5


async def test_an_account_nobody_knows_a_no_and_an_answer_about_another_account_are_none() -> None:
    house = HoldingsHouse({"qty": 5.0, "canSellQty": 5.0})
    async with own_tasks() as tasks:
        assert await Positions(house, tasks, lambda lag: 0).get(None, TENCENT) is None
        house.answers_for = 1002
        assert await Positions(house, tasks, lambda lag: 0).get(PAPER, TENCENT) is None
        house.answers_for, house.refuse_all = None, "no such account"
        assert await Positions(house, tasks, lambda lag: 0).get(PAPER, TENCENT) is None
        house.refuse_all, house.away = None, True
        assert await Positions(house, tasks, lambda lag: 0).get(PAPER, TENCENT) is None


async def test_the_sequence_is_that_of_when_the_question_was_sent_less_the_lag() -> None:
    house, clock = HoldingsHouse({"qty": 5.0, "canSellQty": 5.0}), FakeClock()
    house.delay, asked_with = 0.03, []
    number = 10

    def before(lag: float) -> int:
        asked_with.append(lag)
        return number

    async with own_tasks() as tasks:
        positions = Positions(house, tasks, before, lag=2.5, clock=clock)
        first = tasks.spawn(positions.get(PAPER, TENCENT))
        await asyncio.sleep(0.015)
        number, clock.now = 11, 1000.5
        late = tasks.spawn(positions.get(PAPER, TENCENT))
        assert await first == await late == Position(Decimal(5), None, 10, 1000.0, Decimal(5))
    assert asked_with == [2.5]
    assert len(house.asked) == 1


async def test_a_list_is_used_again_for_a_second_for_every_security_of_its_account() -> None:
    house, clock = HoldingsHouse({"qty": 5.0, "canSellQty": 5.0}), FakeClock()
    async with own_tasks() as tasks:
        positions = Positions(house, tasks, lambda lag: 0, clock=clock)
        await asyncio.gather(*(positions.get(PAPER, security(code)) for code in ("00700", "00005", "00700")))
        assert len(house.asked) == 1
        await positions.get(OTHER, TENCENT)
        assert len(house.asked) == 2
        clock.now += 0.9
        await positions.get(PAPER, TENCENT)
        assert len(house.asked) == 2
        clock.now += 0.1
        await positions.get(PAPER, TENCENT)
        assert len(house.asked) == 3
        positions.forget()
        await positions.get(PAPER, TENCENT)
        assert len(house.asked) == 4


async def test_sales_in_many_accounts_without_pause_leave_nobody_without_an_answer() -> None:
    house, clock = HoldingsHouse({"qty": 5.0, "canSellQty": 5.0}), FakeClock()
    accounts = [Account(number, TrdEnv.SIMULATE, frozenset({1})) for number in range(1, 11)]
    async with own_tasks() as tasks:
        positions = Positions(house, tasks, lambda lag: 0, timeout=0.5, clock=clock)
        for _ in range(30):
            found = await asyncio.gather(*(positions.get(account, TENCENT) for account in accounts))
            assert None not in found
            clock.now += 1.0


async def test_a_holding_is_fresh_until_its_age_and_the_age_counts_from_the_question() -> None:
    house, clock = HoldingsHouse({"qty": 5.0, "canSellQty": 5.0}), FakeClock()
    async with own_tasks() as tasks:
        positions = Positions(house, tasks, lambda lag: 0, max_age=3.0, clock=clock)
        found = await positions.get(PAPER, TENCENT)
    assert found is not None
    clock.now += 2.9
    assert positions.fresh(found)
    clock.now += 0.1
    assert not positions.fresh(found)


async def test_a_slow_list_is_none_in_time() -> None:
    house = HoldingsHouse({"qty": 5.0, "canSellQty": 5.0})
    house.delay = 0.08
    async with own_tasks() as tasks:
        started = asyncio.get_running_loop().time()
        assert await Positions(house, tasks, lambda lag: 0, timeout=0.02).get(PAPER, TENCENT) is None
        assert asyncio.get_running_loop().time() - started < 0.07
