"""Points in which OpenD is described, by its messages or by an exchange, and a bot that learnt otherwise here would be surprised there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sandbox_client import PAPER_HK, REAL, STILL, US, RawClient, security

from sidecar.sandbox import Sandbox
from sidecar.sandbox.instruments import Kind

MARKET, ABSOLUTE_LIMIT, STOP, TRAILING_LIMIT = 2, 5, 10, 15
BUY, SELL = 1, 2
FUTURES = 281756455000000003
UNLOCKED = replace(STILL, unlocked=True, limits=False)

pytestmark = pytest.mark.parametrize("settings", [UNLOCKED])


@pytest.fixture
def option(sandbox: Sandbox) -> str:
    """A call on Apple."""
    return next(
        one.code for one in sandbox.market.listing if one.kind is Kind.OPTION and one.market == US and one.side == 1
    )


async def us(client: RawClient, code: str, side: int, qty: float, price: float = 0.0, **more: Any) -> Any:
    kind = {"orderType": 1 if price else MARKET, "trdSide": side, "qty": qty, "secMarket": 2, "trdMarket": 2}
    return await client.order(REAL, code, price, **{**kind, **more})


async def mainland(client: RawClient, side: int, **more: Any) -> Any:
    c2s = {"trdSide": side, "qty": 100.0, "secMarket": 31, "trdMarket": 4, **more}
    return await client.order(REAL, "600519", c2s.pop("price", 2000.0 if side == BUY else 1000.0), **c2s)


async def held(client: RawClient, code: str, market: int = 2) -> tuple[float, float]:
    """What is held of a code, and what can be sold of it."""
    head = {"trdEnv": 1, "accID": REAL, "trdMarket": market}
    answer = await client.ask(2102, header=head, filterConditions={"codeList": [code]})
    return next(((one.qty, one.canSellQty) for one in answer.s2c.positionList), (0.0, 0.0))


async def filled(client: RawClient) -> None:
    await client.order_push(11)


# -- quantities and prices ---------------------------------------------------------------------------------------------


async def test_the_fraction_of_a_quantity_is_dropped_when_an_order_comes_and_when_it_is_changed(
    client: RawClient,
) -> None:
    placed = await client.order(qty=100.9)
    (order,) = await client.orders()
    assert (placed.retType, order.qty) == (0, 100)
    assert (await client.modify(order.orderIDEx, 1, qty=200.7, price=400.0)).retType == 0
    assert [one.qty for one in await client.orders()] == [200]
    nothing = await client.order(qty=0.9)
    assert (nothing.retType, "positive whole number" in nothing.retMsg) == (-1, True)


async def test_places_of_a_price_that_opend_does_not_keep_are_dropped(client: RawClient, option: str) -> None:
    assert (await us(client, "AAPL", BUY, 1, 100.0114)).retType == -1, "the third place is kept, and is no step"
    assert (await us(client, "AAPL", BUY, 1, 100.0109)).retType == 0
    assert (await us(client, "AAPL", BUY, 1, 100.0004)).retType == 0
    assert (await us(client, option, BUY, 1, 0.019)).retType == 0
    assert [one.price for one in await client.orders(REAL, 2)] == [100.01, 100.0, 0.01]


# -- long, short and both ------------------------------------------------------------------------------------------------


async def test_from_long_to_short_and_back_takes_two_orders_each_way(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.set_price("US.AAPL", "200", volume=10_000)
    await client.ask(2008, accIDList=[REAL])
    assert await held(client, "AAPL") == (150, 150)
    across = await us(client, "AAPL", SELL, 200)
    assert (across.retType, "150 are held: sell those first" in across.retMsg) == (-1, True)
    for quantity in (150, 50):
        assert (await us(client, "AAPL", SELL, quantity)).retType == 0
        await filled(client)
    assert (await held(client, "AAPL"))[0] == -50
    back = await us(client, "AAPL", BUY, 60)
    assert (back.retType, "50 were sold short: buy those back first" in back.retMsg) == (-1, True)
    assert (await us(client, "AAPL", BUY, 50)).retType == 0
    await filled(client)
    assert (await held(client, "AAPL"))[0] == 0


async def test_futures_go_from_long_to_short_in_one_order(sandbox: Sandbox, client: RawClient) -> None:
    code = next(
        one.code for one in sandbox.market.listing if one.kind is Kind.FUTURE and not one.main and one.market == 1
    )
    sandbox.set_price(f"HK.{code}", "24000", volume=100)
    await client.ask(2008, accIDList=[FUTURES])
    for side, quantity in ((BUY, 1.0), (SELL, 2.0)):
        answer = await client.order(FUTURES, code, 0.0, orderType=MARKET, trdSide=side, qty=quantity, trdMarket=5)
        assert answer.retType == 0, answer.retMsg
        await filled(client)


# -- Stock Connect -------------------------------------------------------------------------------------------------------


async def test_stock_connect_takes_no_order_without_a_limit(client: RawClient) -> None:
    for order_type, more in ((MARKET, {}), (STOP, {"auxPrice": 1600.0})):
        answer = await mainland(client, BUY, orderType=order_type, **more)
        assert (answer.retType, answer.retMsg) == (-1, "Stock Connect takes orders with a limit only")
    trail = {"trailType": 2, "trailValue": 5.0, "trailSpread": 1.0}
    assert (await mainland(client, BUY, orderType=TRAILING_LIMIT, **trail)).retType == 0


async def test_mainland_shares_that_were_bought_today_are_not_sold_today(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.set_price("SH.600519", "1500", volume=1000)
    await client.ask(2008, accIDList=[REAL])
    assert (await mainland(client, BUY)).retType == 0
    await filled(client)
    assert await held(client, "600519", 4) == (100, 0)
    sold = await mainland(client, SELL)
    assert (sold.retType, "0 can be sold" in sold.retMsg) == (-1, True)
    assert await held(client, "300750", 4) == (200, 200), "from before today"


# -- types and times -------------------------------------------------------------------------------------------------------


async def test_an_absolute_limit_exists_in_hong_kong_only(client: RawClient) -> None:
    there = await us(client, "AAPL", BUY, 1, 100.0, orderType=ABSOLUTE_LIMIT)
    assert (there.retType, "in Hong Kong only" in there.retMsg) == (-1, True)
    assert (await client.order(REAL, orderType=ABSOLUTE_LIMIT)).retType == 0


async def test_good_till_date_needs_a_date(client: RawClient) -> None:
    bare = await client.order(REAL, timeInForce=3)
    assert (bare.retType, "expireTime" in bare.retMsg) == (-1, True)
    assert (await client.order(REAL, timeInForce=3, expireTime="2030-01-02")).retType == 0
    (order,) = await client.orders(REAL)
    assert order.expireTime == "2030-01-02"


# -- what could be traded ---------------------------------------------------------------------------------------------------


async def most(client: RawClient, acc_id: int, market: int, **c2s: Any) -> Any:
    head = {"trdEnv": int(acc_id > 10**9), "accID": acc_id, "trdMarket": market}
    answer = await client.ask(2111, header=head, orderType=1, **c2s)
    assert answer.retType == 0, answer.retMsg
    return answer.s2c.maxTrdQtys


async def test_margins_a_contract_are_told_of_futures_and_options_and_no_most_of_futures(
    sandbox: Sandbox, client: RawClient, option: str
) -> None:
    future = next(one for one in sandbox.market.listing if one.kind is Kind.FUTURE and one.market == 1 and not one.main)
    told = await most(client, FUTURES, 5, code=future.code, price=24000.0)
    assert told.maxCashBuy == 0
    assert not [name for name in ("maxCashAndMarginBuy", "maxSellShort", "maxBuyBack") if told.HasField(name)]
    assert told.longRequiredIM == told.shortRequiredIM == 24000 * future.multiplier / 10
    contract = await most(client, REAL, 2, code=option, price=5.0)
    assert contract.longRequiredIM == 500 and contract.maxCashBuy > 0
    stock = await most(client, PAPER_HK, 1, code="00700", price=400.0)
    assert not stock.HasField("longRequiredIM") and not stock.HasField("shortRequiredIM")


async def test_the_most_that_can_be_shorted_is_taken_and_no_lot_more(client: RawClient) -> None:
    told = await most(client, REAL, 2, code="MSFT", price=400.0)
    assert (await us(client, "MSFT", SELL, told.maxSellShort + 1, 400.0)).retType == -1
    assert (await us(client, "MSFT", SELL, told.maxSellShort, 400.0)).retType == 0


async def test_a_combo_is_told_what_it_would_take_before_it_is_placed(sandbox: Sandbox, client: RawClient) -> None:
    calls = [one for one in sandbox.market.listing if one.kind is Kind.OPTION and one.market == US and one.side == 1]
    near, far = [one for one in calls if one.expiry == calls[0].expiry][2:4]
    legs = [
        {"security": {"market": US, "code": code.code}, "side": side, "qtyRatio": 1.0}
        for code, side in ((near, BUY), (far, SELL))
    ]
    head = {"trdEnv": 1, "accID": REAL, "trdMarket": 2}
    request = client.request(2112, header=head, qty=2.0, price=5.0, orderType=1)
    for one in legs:
        leg = request.c2s.comboLegs.add(side=one["side"], qtyRatio=1.0)
        leg.security.market, leg.security.code = US, one["security"]["code"]
    answer = await client.reply(2112, client.send(2112, request))
    assert answer.retType == 0, answer.retMsg
    told = answer.s2c.maxTrdQtys
    assert told.buyPowerDecrease == pytest.approx(2 * 100 * 5.0 + told.initialMarginChange)
    assert 0 < told.maintenanceMarginChange < told.initialMarginChange
    request.c2s.header.trdEnv, request.c2s.header.accID = 0, 1001002
    assert (await client.reply(2112, client.send(2112, request))).retType == -1, "paper takes no combos"


async def test_a_snapshot_lies_within_its_own_year(client: RawClient, sandbox: Sandbox) -> None:
    for one in sandbox.market.listing:
        if one.kind is Kind.OPTION:
            answer = await client.ask(3203, securityList=[security(one.code, one.market)])
            basic = answer.s2c.snapshotList[0].basic
            assert basic.lowest52WeeksPrice <= basic.curPrice <= basic.highest52WeeksPrice <= basic.highestHistoryPrice
