"""The order behind a change: asked for by either id in its own account, and never taken for another."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from facts_house import NAMES, FakeClock, FakeHouse, own_tasks

from sidecar.facts.orders import Orders
from sidecar.intents.model import OrderRef, RestingOrder, TrdEnv
from sidecar.policy.usage import Account

NAMES[2201] = "Trd_GetOrderList"
PAPER = Account(1001, TrdEnv.SIMULATE, frozenset({2, 1}))
BY_ID, BY_EX = OrderRef(7, ""), OrderRef(0, "EX7")


class OrdersHouse(FakeHouse):
    """An OpenD that lists these orders, whatever it is asked for."""

    def __init__(self, *listed: dict[str, Any]) -> None:
        super().__init__(self._fill)
        self.listed = listed or ({},)
        self.answers_for: tuple[int, int] | None = None

    async def ask(self, proto_id: int, request: Any, *, timeout: float) -> Any:
        assert not request.c2s.refreshCache, "lists that refresh the cache are limited, and clients may use that up"
        return await super().ask(proto_id, _Named(request), timeout=timeout)

    def _fill(self, _proto_id: int, request: Any, s2c: Any) -> None:
        s2c.header.CopyFrom(request.request.c2s.header)
        if self.answers_for is not None:
            s2c.header.accID, s2c.header.trdEnv = self.answers_for
        for told in self.listed:
            one = s2c.orderList.add(trdSide=1, orderType=1, orderStatus=5, orderID=7, orderIDEx="EX7", code="00700")
            one.name, one.qty, one.price, one.createTime, one.updateTime = "", 100.0, 500.0, "", ""
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


async def found(house: FakeHouse, order: OrderRef = BY_EX, account: Account | None = PAPER) -> RestingOrder | None:
    async with own_tasks() as tasks:
        return await Orders(house, tasks, clock=FakeClock()).get(account, order)


@pytest.mark.parametrize("order", [BY_ID, BY_EX])
async def test_an_order_is_asked_for_by_the_id_it_is_named_by_and_both_come_back(order: OrderRef) -> None:
    house = OrdersHouse()
    resting = await found(house, order)
    assert resting is not None
    assert (resting.order_id, resting.order_id_ex, resting.order.qty) == (7, "EX7", Decimal(100))
    c2s = house.requests[0].request.c2s
    assert list(c2s.filterConditions.idList) == ([7] if order is BY_ID else [])
    assert list(c2s.filterConditions.orderIDExList) == (["EX7"] if order is BY_EX else [])
    assert (c2s.header.accID, c2s.header.trdEnv, c2s.header.trdMarket) == (1001, 0, 1)


async def test_of_a_list_that_was_not_narrowed_the_named_order_is_taken() -> None:
    others = {"orderID": 8, "orderIDEx": "EX8", "qty": 1.0}
    resting = await found(OrdersHouse(others, {}))
    assert resting is not None and resting.order.qty == 100


async def test_another_order_is_not_taken_for_it() -> None:
    assert await found(OrdersHouse({"orderID": 8, "orderIDEx": "EX8"})) is None


async def test_two_orders_of_one_id_are_none() -> None:
    assert await found(OrdersHouse({}, {"qty": 1.0})) is None


@pytest.mark.parametrize("told", [(1002, 0), (1001, 1)])
async def test_an_answer_about_another_account_is_none(told: tuple[int, int]) -> None:
    house = OrdersHouse()
    house.answers_for = told
    assert await found(house) is None


async def test_an_order_that_cannot_be_read_whole_is_none() -> None:
    assert await found(OrdersHouse({"trdSide": 9})) is None


async def test_an_account_nobody_knows_is_not_asked_about() -> None:
    house = OrdersHouse()
    assert await found(house, account=None) is None
    assert await found(house, account=Account(1001, TrdEnv.SIMULATE, frozenset())) is None
    assert house.asked == []


async def test_a_no_of_opend_an_absent_and_a_slow_one_are_none_in_time() -> None:
    refusing, away, slow = OrdersHouse(), OrdersHouse(), OrdersHouse()
    refusing.refuse_all, away.away, slow.delay = "no", True, 60.0
    assert await found(refusing) is None
    assert await found(away) is None
    async with own_tasks() as tasks:
        async with asyncio.timeout(1.0):
            assert await Orders(slow, tasks, timeout=0.05).get(PAPER, BY_EX) is None


async def test_nothing_is_remembered_but_two_who_ask_at_once_share_an_answer() -> None:
    house = OrdersHouse()
    house.delay = 0.01
    async with own_tasks() as tasks:
        orders = Orders(house, tasks)
        await asyncio.gather(orders.get(PAPER, BY_EX), orders.get(PAPER, BY_EX))
        assert len(house.asked) == 1
        house.listed = ({"qty": 50.0},)
        again = await orders.get(PAPER, BY_EX)
        assert again is not None and again.order.qty == 50
    assert len(house.asked) == 2


async def test_more_questions_than_the_bound_are_not_asked() -> None:
    house, clock = OrdersHouse(), FakeClock()
    async with own_tasks() as tasks:
        orders = Orders(house, tasks, requests=2, period=30.0, timeout=0.05, clock=clock)
        answers = [await orders.get(PAPER, BY_EX) for _ in range(3)]
    assert [answer is not None for answer in answers] == [True, True, False]
    assert len(house.asked) == 2
