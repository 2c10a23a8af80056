"""Combo orders, fills that take time, and orders that are rejected after they were taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sandbox_client import PAPER_US, REAL, STILL, US, RawClient

from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.sandbox.instruments import Instrument, Kind
from sidecar.sandbox.orders import Status

OPEN = replace(STILL, unlocked=True, limits=False)
BUY, SELL = 1, 2
SUBMIT_FAILED, SUBMITTED, FILLED_PART, FILLED_ALL, CANCELLED_ALL, FAILED = 3, 5, 10, 11, 15, 21
SECOND = 281756455000000002
"""A real cash account."""


@pytest.fixture
def settings() -> SandboxSettings:
    return OPEN


def calls(sandbox: Sandbox, side: int = 1) -> list[Instrument]:
    """Calls (or puts, 2) on Apple of the next expiry, by strike."""
    owner = sandbox.market.listing.find_symbol("US.AAPL")
    assert owner is not None
    options = [one for one in sandbox.market.listing.options_of(owner) if one.side == side]
    first = min(one.expiry for one in options)
    return sorted((one for one in options if one.expiry == first), key=lambda one: one.strike)


def leg(instrument: Instrument, side: int, ratio: float = 1.0) -> dict[str, Any]:
    return {"security": {"market": instrument.market, "code": instrument.code}, "side": side, "qtyRatio": ratio}


async def combo(client: RawClient, legs: list[dict[str, Any]], price: float, acc_id: int = REAL, **more: Any) -> Any:
    head = {"trdEnv": int(acc_id > 10**9), "accID": acc_id, "trdMarket": more.pop("trdMarket", 2)}
    fields = {"qty": 1.0, "orderType": 1, **more}
    return await client.write(2227, header=head, comboLegs=legs, price=price, **fields)


@pytest.fixture
async def spread(sandbox: Sandbox, client: RawClient) -> tuple[Instrument, Instrument]:
    """Two calls at 12.00/12.01 and 7.00/7.01, so that buying the spread costs 5.01 and selling it brings 4.99."""
    near, far = calls(sandbox)[1:3]
    sandbox.set_price(near.symbol, "12", volume=50)
    sandbox.set_price(far.symbol, "7", volume=30)
    await client.ask(2008, accIDList=[REAL, SECOND, PAPER_US])
    return near, far


async def held(client: RawClient, code: str, acc_id: int = REAL) -> float:
    answer = await client.ask(2102, header={"trdEnv": 1, "accID": acc_id, "trdMarket": 2})
    return next((one.qty for one in answer.s2c.positionList if one.code == code), 0.0)


async def cash(client: RawClient) -> float:
    answer = await client.ask(2101, header={"trdEnv": 1, "accID": REAL, "trdMarket": 2}, currency=2)
    return float(next(one.cash for one in answer.s2c.funds.cashInfoList if one.currency == 2))


async def test_a_combo_is_answered_with_its_text_id_and_listed_with_its_legs(
    client: RawClient, spread: tuple[Instrument, Instrument]
) -> None:
    near, far = spread
    placed = await combo(client, [leg(near, BUY), leg(far, SELL)], 4.0, remark="mine")
    assert placed.retType == 0, placed.retMsg
    pushed = await client.order_push(SUBMITTED)
    listed = next(one for one in await client.orders(REAL, 2) if one.orderIDEx == placed.s2c.orderIDEx)
    for order in (pushed, listed):
        assert [(one.security.code, one.security.market, one.side, one.qtyRatio) for one in order.comboLegs] == [
            (near.code, US, BUY, 1),
            (far.code, US, SELL, 1),
        ]
        assert (order.strategyType, order.qty, order.price, order.remark) == (4, 1, 4.0, "mine")


async def test_a_combo_fills_when_the_net_of_the_touches_reaches_its_price(
    sandbox: Sandbox, client: RawClient, spread: tuple[Instrument, Instrument]
) -> None:
    near, far = spread
    before = await cash(client)
    await combo(client, [leg(near, BUY), leg(far, SELL)], 5.0)
    await client.order_push(SUBMITTED)
    sandbox.set_price(far.symbol, "7.01", volume=30)
    filled = await client.order_push(FILLED_ALL)
    assert filled.fillAvgPrice == 5.0
    assert (await held(client, near.code), await held(client, far.code)) == (1, -1)
    fills = [(await client.push(2218)).s2c.orderFill for _ in range(2)]
    assert [(one.code, one.trdSide, one.price, one.orderIDEx) for one in fills] == [
        (near.code, BUY, 12.01, filled.orderIDEx),
        (far.code, SELL, 7.01, filled.orderIDEx),
    ]
    assert 500 <= before - await cash(client) < 510  # 5.00 × 100 and fees


async def test_a_credit_combo_has_a_negative_price_and_brings_money(
    client: RawClient, spread: tuple[Instrument, Instrument]
) -> None:
    near, far = spread
    before = await cash(client)
    placed = await combo(client, [leg(near, SELL), leg(far, BUY)], -4.5, qty=2.0)
    assert placed.retType == 0, placed.retMsg
    assert (await client.order_push(FILLED_ALL)).fillAvgPrice == pytest.approx(-4.99)
    assert 985 < await cash(client) - before <= 998
    assert (await held(client, near.code), await held(client, far.code)) == (-2, 2)


async def test_a_combo_fills_in_parts_where_one_leg_offers_less(
    client: RawClient, spread: tuple[Instrument, Instrument]
) -> None:
    near, far = spread
    await combo(client, [leg(near, BUY), leg(far, SELL, 2)], -1.0, qty=20.0)
    part = await client.order_push(FILLED_PART)
    assert part.fillQty == 15  # 30 of the second leg are wanted, two for each
    assert (await held(client, near.code), await held(client, far.code)) == (15, -30)


async def test_a_combo_is_changed_and_cancelled_like_any_order(
    client: RawClient, spread: tuple[Instrument, Instrument]
) -> None:
    near, far = spread
    placed = await combo(client, [leg(near, BUY), leg(far, SELL)], 4.0)
    await client.order_push(SUBMITTED)
    changed = await client.modify(placed.s2c.orderIDEx, 1, REAL, market=2, qty=2.0, price=-3.0)
    assert changed.retType == 0, changed.retMsg
    listed = next(one for one in await client.orders(REAL, 2) if one.orderIDEx == placed.s2c.orderIDEx)
    assert (listed.qty, listed.price) == (2, -3.0)
    assert (await client.modify(placed.s2c.orderIDEx, 2, REAL, market=2)).retType == 0
    assert (await client.order_push(CANCELLED_ALL)).orderIDEx == placed.s2c.orderIDEx


async def test_a_debit_is_held_back_and_a_credit_is_not(
    client: RawClient, spread: tuple[Instrument, Instrument]
) -> None:
    near, far = spread

    async def frozen() -> float:
        answer = await client.ask(2101, header={"trdEnv": 1, "accID": REAL, "trdMarket": 2}, currency=2)
        return float(answer.s2c.funds.frozenCash)

    before = await frozen()
    await combo(client, [leg(near, BUY), leg(far, SELL)], 4.0, qty=3.0)
    await combo(client, [leg(near, SELL), leg(far, BUY)], -8.0, qty=3.0)
    assert await frozen() - before == pytest.approx(1200)


async def test_stock_and_option_make_a_covered_call_priced_per_share(sandbox: Sandbox, client: RawClient) -> None:
    await client.ask(2008, accIDList=[REAL])
    owner = sandbox.market.listing.find_symbol("US.AAPL")
    assert owner is not None
    call = calls(sandbox)[2]
    sandbox.set_price("US.AAPL", "220", volume=1000)
    sandbox.set_price(call.symbol, "9", volume=50)
    placed = await combo(client, [leg(owner, BUY, 100), leg(call, SELL)], 211.01)
    assert placed.retType == 0, placed.retMsg
    filled = await client.order_push(FILLED_ALL)
    assert (filled.strategyType, filled.fillAvgPrice) == (2, pytest.approx(211.01))
    assert await held(client, "AAPL") == 250


async def test_strategies_are_told_by_their_legs(
    sandbox: Sandbox, client: RawClient, spread: tuple[Instrument, Instrument]
) -> None:
    near, far = spread
    put = next(one for one in calls(sandbox, 2) if one.strike == near.strike)
    other = next(one for one in calls(sandbox, 2) if one.strike == far.strike)
    later = max(
        (one for one in sandbox.market.listing.options_of(near.owner) if one.side == 1 and one.strike == near.strike),
        key=lambda one: one.expiry,
    )
    for legs, strategy in (
        ([leg(near, BUY), leg(put, BUY)], 6),
        ([leg(near, BUY), leg(other, BUY)], 7),
        ([leg(near, SELL), leg(later, BUY)], 15),
        ([leg(far, SELL), leg(later, BUY)], 16),
        ([leg(near, BUY), leg(far, BUY)], 100),
        ([leg(near, BUY), leg(far, SELL, 2)], 100),
        ([leg(near, BUY), leg(far, SELL), leg(put, BUY)], 100),
    ):
        placed = await combo(client, legs, -100.0)
        assert placed.retType == 0, placed.retMsg
        listed = next(one for one in await client.orders(REAL, 2) if one.orderIDEx == placed.s2c.orderIDEx)
        assert listed.strategyType == strategy


async def test_paper_takes_no_combo_and_what_is_wrong_with_one_is_said(
    sandbox: Sandbox, client: RawClient, spread: tuple[Instrument, Instrument]
) -> None:
    near, far = spread
    future = next(one for one in sandbox.market.listing if one.kind is Kind.FUTURE and one.market == US)
    two = [leg(near, BUY), leg(far, SELL)]
    for legs, more, said in (
        (two, {"acc_id": PAPER_US}, "Paper trading does not support combo orders"),
        ([leg(near, BUY)], {}, "has 2 to 4 legs"),
        ([], {}, "has 2 to 4 legs"),
        ([leg(near, BUY), leg(near, SELL)], {}, "a leg once only"),
        ([leg(near, BUY), leg(future, SELL)], {}, "cannot be a leg"),
        ([leg(near, BUY), leg(far, SELL, 0.5)], {}, "positive whole number"),
        ([leg(near, 9), leg(far, SELL)], {}, "Unknown trading side 9"),
        (two, {"orderType": 10}, "limit or market orders"),
        (two, {"qty": 0.0}, "positive whole number"),
        (two, {"price": 5.005}, "multiple of 0.01"),
        (two, {"price": float("nan")}, "multiple of 0.01"),
        (two, {"price": 90_000.0}, "Insufficient buying power"),
        (two, {"acc_id": SECOND}, "Insufficient holdings of leg"),
        (two, {"trdMarket": 1}, "cannot be a leg in trading market 1"),
    ):
        answer = await combo(client, legs, more.pop("price", 5.0), **more)  # type: ignore[arg-type]
        assert (answer.retType, said in answer.retMsg) == (-1, True), answer.retMsg


@pytest.mark.parametrize("settings", [replace(OPEN, relaxed_paper=True)])
async def test_relaxed_paper_takes_combos(client: RawClient, spread: tuple[Instrument, Instrument]) -> None:
    near, far = spread
    assert (await combo(client, [leg(near, BUY), leg(far, SELL)], 5.0, PAPER_US)).retType == 0


# --- fills that take time, and rejections ---


@pytest.mark.parametrize("settings", [replace(OPEN, partial_fills=True)])
async def test_where_fills_take_time_an_order_fills_as_the_market_moves(sandbox: Sandbox, client: RawClient) -> None:
    await client.ask(2008, accIDList=[REAL])
    placed = await client.order(REAL, price=490.0, qty=1000.0)
    amounts = [(await client.order_push(FILLED_PART)).fillQty]
    for _ in range(4):
        sandbox.set_price("HK.00700", "480", volume=10_000)
        amounts.append((await client.push(2208)).s2c.order.fillQty)
    assert amounts == [200, 400, 600, 800, 1000]
    orders = {one.orderIDEx: one.orderStatus for one in await client.orders(REAL)}
    assert orders[placed.s2c.orderIDEx] == FILLED_ALL


@pytest.mark.parametrize(("status", "number"), [(Status.FAILED, FAILED), (Status.SUBMIT_FAILED, SUBMIT_FAILED)])
async def test_an_order_taken_can_still_be_rejected_and_holds_back_nothing_then(
    sandbox: Sandbox, client: RawClient, status: Status, number: int
) -> None:
    await client.ask(2008, accIDList=[REAL])
    sandbox.trading.exchange.reject_next.append(status)
    assert (await client.order(REAL)).retType == 0
    rejected = await client.order_push(number)
    assert rejected.lastErrMsg
    answer = await client.ask(2101, header={"trdEnv": 1, "accID": REAL, "trdMarket": 1})
    assert answer.s2c.funds.frozenCash == 0
    assert (await client.modify(rejected.orderIDEx, 2, REAL)).retType == -1


@pytest.mark.parametrize("settings", [replace(OPEN, rejections=40.0)])
async def test_a_share_of_orders_is_rejected_by_the_seed(client: RawClient) -> None:
    await client.ask(2008, accIDList=[REAL])
    for _ in range(50):
        assert (await client.order(REAL)).retType == 0
    ends: list[int] = []
    while len(ends) < 50:
        order = (await client.push(2208)).s2c.order
        if order.orderStatus != 2:
            ends.append(order.orderStatus)
    assert set(ends) == {SUBMITTED, FAILED, SUBMIT_FAILED}
    assert 10 <= sum(end != SUBMITTED for end in ends) <= 30
