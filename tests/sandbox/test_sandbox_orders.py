from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from sandbox_client import PAPER_FUTURES_HK, PAPER_HK, PAPER_US, REAL, STILL, RawClient

from sidecar.sandbox import Fault, FaultKind, Sandbox

NO_LIMITS = replace(STILL, limits=False)
UNLOCKED = replace(STILL, limits=False, unlocked=True)
RELAXED = replace(STILL, limits=False, relaxed_paper=True)

SUBMITTING, SUBMITTED, FILLED_PART, FILLED_ALL, CANCELLED_PART, CANCELLED_ALL, FAILED, DISABLED, DELETED = (
    2, 5, 10, 11, 14, 15, 21, 22, 23,
)  # fmt: skip
CHANGE, CANCEL, DISABLE, ENABLE, DELETE = 1, 2, 3, 4, 5


async def listen(client: RawClient, *accounts: int) -> None:
    assert (await client.ask(2008, accIDList=list(accounts))).retType == 0


async def power(client: RawClient, acc_id: int = PAPER_HK) -> tuple[float, float]:
    """Buying power and frozen cash."""
    answer = await client.ask(2101, header={"trdEnv": int(acc_id > 10**9), "accID": acc_id, "trdMarket": 1})
    return answer.s2c.funds.power, answer.s2c.funds.frozenCash


async def held(client: RawClient, code: str, acc_id: int = PAPER_HK) -> tuple[float, float]:
    """Quantity and how much of it can be sold."""
    answer = await client.ask(2102, header={"trdEnv": int(acc_id > 10**9), "accID": acc_id, "trdMarket": 1})
    return next(((one.qty, one.canSellQty) for one in answer.s2c.positionList if one.code == code), (0.0, 0.0))


# --- the life of an order ---


async def test_a_limit_below_the_market_rests_and_holds_back_its_value(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    before = await power(client)
    placed = await client.order(price=400.0, remark="mine")
    order = await client.order_push(SUBMITTED)
    assert (order.orderIDEx, order.remark, order.qty, order.price) == (placed.s2c.orderIDEx, "mine", 100, 400)
    assert order.orderID == placed.s2c.orderID > 2**32
    after = await power(client)
    assert (before[0] - after[0], after[1] - before[1]) == (40_000, 40_000)


async def test_a_marketable_limit_fills_at_the_ask_and_moves_cash_and_holding(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    before, had = await power(client), await held(client, "00700")
    await client.order(price=500.0)
    order = await client.order_push(FILLED_ALL)
    assert (order.fillQty, order.fillAvgPrice) == (100, 480.2)
    assert before[0] - (await power(client))[0] == pytest.approx(48_020)
    assert (await held(client, "00700"))[0] - had[0] == 100


async def test_a_working_sale_can_be_sold_by_no_other_and_is_sold_when_it_fills(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    qty, free = await held(client, "00700")
    assert qty == free
    await client.order(price=600.0, trdSide=2, qty=300.0)
    await client.order_push(SUBMITTED)
    assert await held(client, "00700") == (qty, qty - 300)
    await client.order(price=470.0, trdSide=2, qty=200.0)
    await client.order_push(FILLED_ALL)
    assert await held(client, "00700") == (qty - 200, qty - 500)


@pytest.mark.parametrize("settings", [NO_LIMITS])
async def test_more_than_the_touch_has_fills_in_parts_as_the_market_moves(sandbox: Sandbox, client: RawClient) -> None:
    await listen(client, PAPER_HK)
    sandbox.set_price("HK.00700", "480", volume=300)
    await client.order(price=490.0, qty=1000.0)
    part = await client.order_push(FILLED_PART)
    assert part.fillQty == 300
    sandbox.set_price("HK.00700", "481", volume=600)
    assert (await client.order_push(FILLED_PART)).fillQty == 900
    sandbox.set_price("HK.00700", "495", volume=600)
    assert (await client.orders())[0].orderStatus == FILLED_PART
    sandbox.set_price("HK.00700", "480", volume=600)
    done = await client.order_push(FILLED_ALL)
    assert done.fillAvgPrice == pytest.approx((300 * 480.2 + 600 * 481.2 + 100 * 480.2) / 1000)


async def test_a_market_order_needs_no_price(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    await client.order(price=0.0, orderType=2)
    assert (await client.order_push(FILLED_ALL)).fillAvgPrice == 480.2


async def test_a_change_names_the_new_total_and_is_matched_again(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    placed = await client.order(price=400.0)
    await client.order_push(SUBMITTED)
    answer = await client.modify(placed.s2c.orderIDEx, CHANGE, qty=300.0, price=490.0)
    assert answer.s2c.orderIDEx == placed.s2c.orderIDEx
    order = await client.order_push(FILLED_ALL)
    assert (order.qty, order.fillQty) == (300, 300)


@pytest.mark.parametrize("settings", [NO_LIMITS])
async def test_a_change_to_no_more_than_what_is_filled_is_refused(sandbox: Sandbox, client: RawClient) -> None:
    await listen(client, PAPER_HK)
    sandbox.set_price("HK.00700", "480", volume=300)
    placed = await client.order(price=490.0, qty=1000.0)
    await client.order_push(FILLED_PART)
    assert "300" in (await client.modify(placed.s2c.orderIDEx, CHANGE, qty=300.0, price=490.0)).retMsg
    assert (await client.modify(placed.s2c.orderIDEx, CANCEL)).retType == 0
    order = await client.order_push(CANCELLED_PART)
    assert (order.fillQty, await power(client)) == (300, (pytest.approx(1_000_000 - 300 * 480.2), 0))


async def test_a_cancel_gives_the_money_back_and_cannot_be_repeated(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    before = await power(client)
    placed = await client.order()
    await client.order_push(SUBMITTED)
    await client.modify(placed.s2c.orderIDEx, CANCEL)
    await client.order_push(CANCELLED_ALL)
    assert await power(client) == before
    await asyncio.sleep(0.05)
    again = await client.modify(placed.s2c.orderIDEx, CANCEL)
    assert again.retType == -1
    assert "CANCELLED_ALL" in again.retMsg


async def test_a_limit_far_above_the_market_is_taken_and_fails_at_the_exchange(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    placed = await client.order(price=4400.0)
    assert placed.retType == 0
    order = await client.order_push(FAILED)
    assert order.lastErrMsg
    assert (await power(client))[1] == 0


@pytest.mark.parametrize("settings", [NO_LIMITS])
async def test_the_first_push_comes_sometimes_before_and_sometimes_after_the_reply(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    for _ in range(20):
        await client.order(price=10.0)
    arrived = [proto_id for proto_id in client.arrived if proto_id in (2202, 2208)]
    assert arrived[0] in (2202, 2208)
    early = sum(1 for first, second in pairwise([0, *arrived]) if second == 2202 and first == 2208)
    assert 0 < early < 20


@pytest.mark.parametrize("settings", [replace(STILL, order_latency=30.0, limits=False)])
async def test_the_first_push_of_an_order_waits_for_nothing_on_other_connections(
    sandbox: Sandbox, client: RawClient
) -> None:
    async with RawClient(sandbox.port) as other:
        await other.connect()
        await listen(other, PAPER_HK)
        for _ in range(5):
            placed = await client.order()
            assert (await other.order_push(SUBMITTING)).orderIDEx == placed.s2c.orderIDEx


async def test_only_connections_that_asked_for_an_account_hear_of_it(sandbox: Sandbox, client: RawClient) -> None:
    async with RawClient(sandbox.port) as subscribed, RawClient(sandbox.port) as other:
        for one in (subscribed, other):
            await one.connect()
        await listen(subscribed, PAPER_HK)
        await listen(other, PAPER_US)
        await client.order()
        await subscribed.order_push(SUBMITTED)
        await other.ask(1002, userID=0)
        await client.ask(1002, userID=0)
        assert not other.pushes[2208]
        assert not client.pushes[2208]
        await listen(subscribed)
        subscribed.pushes.clear()
        await asyncio.sleep(0.03)
        await client.order()
        await subscribed.ask(1002, userID=0)
        assert not subscribed.pushes[2208]


@pytest.mark.parametrize("settings", [replace(STILL, faults=(Fault(FaultKind.SILENT, 2202),))])
async def test_an_order_whose_reply_is_lost_is_still_pushed_and_listed(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    request = client.request(
        2202, packetID={"connID": client.conn_id, "serialNo": 1}, header={"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1},
        trdSide=1, orderType=1, code="00700", qty=100.0, price=400.0, remark="lost",
    )  # fmt: skip
    client.send(2202, request)
    order = await client.order_push(SUBMITTED)
    assert order.remark == "lost"
    assert [one.orderIDEx for one in await client.orders()] == [order.orderIDEx]
    assert 2202 not in client.arrived


# --- what is refused ---


@pytest.mark.parametrize("settings", [NO_LIMITS])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"qty": 150.0}, "lot size 100"),
        ({"qty": 0.0}, "quantity"),
        ({"qty": float("nan")}, "quantity"),
        ({"price": 0.0}, "price must be above 0"),
        ({"price": -1.0}, "price must be above 0"),
        ({"price": float("inf")}, "price must be above 0"),
        ({"price": 480.13}, "price step 0.2"),
        ({"qty": 100_000.0}, "buying power"),
        ({"trdSide": 2, "qty": 5_000.0}, "holdings"),
        ({"code": "NOPE"}, "Unknown stock"),
        ({"code": "800000"}, "cannot be traded"),
        ({"secMarket": 2}, "does not belong"),
        ({"orderType": 3}, "order type"),
        ({"orderType": 5}, "limit and market orders only"),
        ({"orderType": 10, "auxPrice": 470.0}, "limit and market orders only"),
        ({"timeInForce": 1}, "day orders only"),
        ({"trdSide": 9}, "side"),
        ({"remark": "x" * 65}, "64 bytes"),
        ({"trdMarket": 2, "secMarket": 2}, "no authority"),
        ({"acc_id": 77}, "Nonexisting"),
    ],
)
async def test_a_wrong_order_is_refused_and_leaves_nothing_behind(
    client: RawClient, change: dict[str, object], words: str
) -> None:
    answer = await client.order(**change)  # type: ignore[arg-type]
    assert answer.retType == -1
    assert words in answer.retMsg
    assert await client.orders() == []


async def test_adjust_price_moves_a_price_onto_the_ladder_within_its_bound(client: RawClient) -> None:
    await client.order(price=400.13, adjustPrice=True, adjustSideAndLimit=-0.01)
    assert [order.price for order in await client.orders()] == [400.0]


@pytest.mark.parametrize("settings", [NO_LIMITS])
async def test_the_packet_id_must_be_of_this_connection_and_fresh(sandbox: Sandbox, client: RawClient) -> None:
    head = {"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1}
    c2s = {"header": head, "trdSide": 1, "orderType": 1, "code": "00700", "qty": 100.0, "price": 400.0, "secMarket": 1}
    foreign = await client.ask(2202, packetID={"connID": client.conn_id + 1, "serialNo": 1}, **c2s)
    assert "connID" in foreign.retMsg
    fine = await client.ask(2202, packetID={"connID": client.conn_id, "serialNo": 1}, **c2s)
    assert fine.retType == 0
    replayed = await client.ask(2202, packetID={"connID": client.conn_id, "serialNo": 1}, **c2s)
    assert "serialNo" in replayed.retMsg
    assert len(await client.orders()) == 1


async def test_two_ids_that_name_different_orders_are_refused(client: RawClient) -> None:
    first = await client.order()
    await asyncio.sleep(0.03)
    second = await client.order()
    head = {"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1}
    answer = await client.write(
        2205, header=head, orderID=first.s2c.orderID, orderIDEx=second.s2c.orderIDEx, modifyOrderOp=CANCEL
    )
    assert answer.retType == -1


# --- real accounts ---


async def test_real_orders_need_an_unlock_with_the_right_password(sandbox: Sandbox, client: RawClient) -> None:
    assert "locked" in (await client.order(REAL)).retMsg
    wrong = await client.ask(2005, unlock=True, pwdMD5="0" * 32)
    assert wrong.retType == -1
    assert not sandbox.trading.unlocked
    assert (await client.ask(2005, unlock=True, pwdMD5="e10adc3949ba59abbe56e057f20f883e")).retType == 0
    await asyncio.sleep(0.03)
    assert (await client.order(REAL)).retType == 0
    assert (await client.ask(2005, unlock=False)).retType == 0
    await asyncio.sleep(0.03)
    assert "locked" in (await client.order(REAL)).retMsg


@pytest.mark.parametrize("settings", [UNLOCKED])
async def test_a_real_fill_is_pushed_listed_and_charged(client: RawClient) -> None:
    await listen(client, REAL)
    placed = await client.order(REAL, price=500.0)
    fill = (await client.push(2218)).s2c.orderFill
    assert (fill.orderIDEx, fill.qty, fill.price) == (placed.s2c.orderIDEx, 100, 480.2)
    assert not placed.s2c.orderIDEx.isdigit()
    head = {"trdEnv": 1, "accID": REAL, "trdMarket": 1}
    listed = (await client.ask(2211, header=head)).s2c.orderFillList
    assert [one.fillID for one in listed] == [fill.fillID]
    fees = (await client.ask(2225, header=head, orderIdExList=[placed.s2c.orderIDEx])).s2c.orderFeeList
    assert fees[0].feeAmount > 15


@pytest.mark.parametrize("settings", [UNLOCKED])
async def test_a_real_order_can_be_disabled_enabled_and_deleted(client: RawClient) -> None:
    await listen(client, REAL)
    text_id = (await client.order(REAL)).s2c.orderIDEx
    await client.order_push(SUBMITTED)
    for operation, status in ((DISABLE, DISABLED), (ENABLE, SUBMITTED), (DISABLE, DISABLED), (DELETE, DELETED)):
        assert (await client.modify(text_id, operation, REAL)).retType == 0
        await client.order_push(status)
    assert (await client.modify(text_id, ENABLE, REAL)).retType == -1


@pytest.mark.parametrize("settings", [UNLOCKED])
async def test_cancelling_all_leaves_stock_connect_and_other_accounts_alone(client: RawClient) -> None:
    await listen(client, REAL)
    for _ in range(2):
        await client.order(REAL)
    await client.order(REAL, code="300750", price=250.0, secMarket=32, trdMarket=4)
    await client.order(PAPER_HK)
    await asyncio.sleep(0.03)
    head = {"trdEnv": 1, "accID": REAL, "trdMarket": 1}
    assert (await client.write(2205, header=head, orderID=0, modifyOrderOp=CANCEL, forAll=True)).retType == 0
    await asyncio.sleep(0.03)
    assert [order.orderStatus for order in await client.orders(REAL)] == [CANCELLED_ALL, CANCELLED_ALL, SUBMITTED]
    assert [order.orderStatus for order in await client.orders(PAPER_HK)] == [SUBMITTED]


# --- paper accounts ---


async def test_paper_accounts_have_no_fills_no_cancel_all_and_no_disabling(client: RawClient) -> None:
    await listen(client, PAPER_HK)
    await client.order(price=500.0)
    await client.order_push(FILLED_ALL)
    await client.ask(1002, userID=0)
    assert not client.pushes[2218]
    head = {"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1}
    assert "deals" in (await client.ask(2211, header=head)).retMsg
    assert "Paper" in (await client.write(2205, header=head, orderID=0, modifyOrderOp=CANCEL, forAll=True)).retMsg
    await asyncio.sleep(0.05)
    text_id = (await client.order()).s2c.orderIDEx
    assert "Paper" in (await client.modify(text_id, DISABLE)).retMsg


@pytest.mark.parametrize("settings", [RELAXED])
async def test_relaxed_paper_accounts_have_all_of_these(sandbox: Sandbox, client: RawClient) -> None:
    await listen(client, PAPER_HK)
    await client.order(price=500.0)
    assert (await client.push(2218)).s2c.orderFill.qty == 100
    client.pushes.clear()
    stop = await client.order(price=0.0, orderType=10, auxPrice=490.0)
    await client.order_push(SUBMITTED)
    sandbox.set_price("HK.00700", "489", volume=1000)
    await client.ask(1002, userID=0)
    assert (await client.orders())[1].orderStatus == SUBMITTED
    sandbox.set_price("HK.00700", "491", volume=1000)
    filled = await client.order_push(FILLED_ALL)
    assert (filled.orderIDEx, filled.fillAvgPrice) == (stop.s2c.orderIDEx, 491.2)


@pytest.mark.parametrize("settings", [NO_LIMITS])
async def test_short_selling_is_for_us_stocks_and_derivatives(client: RawClient) -> None:
    assert "holdings" in (await client.order(code="00005", price=92.0, qty=400.0, trdSide=2)).retMsg
    await listen(client, PAPER_US)
    placed = await client.order(PAPER_US, code="TSLA", price=300.0, qty=5.0, trdSide=2, secMarket=2, trdMarket=2)
    assert placed.retType == 0
    order = await client.order_push(FILLED_ALL)
    assert order.trdSide == 3
    head = {"trdEnv": 0, "accID": PAPER_US, "trdMarket": 2}
    short = next(one for one in (await client.ask(2102, header=head)).s2c.positionList if one.code == "TSLA")
    assert (short.qty, short.positionSide) == (-5, 1)


async def test_a_futures_main_code_becomes_its_contract(sandbox: Sandbox, client: RawClient) -> None:
    placed = await client.order(PAPER_FUTURES_HK, code="HSImain", price=23_000.0, qty=1.0, trdMarket=10)
    assert placed.retType == 0, placed.retMsg
    order = (await client.orders(PAPER_FUTURES_HK, market=10))[0]
    assert order.code.startswith("HSI2")
    assert order.orderIDEx == placed.s2c.orderIDEx


async def test_an_absent_security_market_is_taken_from_the_account_s_market(client: RawClient) -> None:
    head = {"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1}
    answer = await client.write(2202, header=head, trdSide=1, orderType=1, code="00700", qty=100.0, price=400.0)
    assert answer.retType == 0


# --- limits ---


async def test_the_sixteenth_order_of_an_account_in_half_a_minute_is_too_many(client: RawClient) -> None:
    answers = []
    for _ in range(16):
        answers.append(await client.order(price=10.0))
        await asyncio.sleep(0.025)
    assert [answer.retType for answer in answers] == [0] * 15 + [-1]
    assert "15 requests in 30 seconds" in answers[-1].retMsg
    assert (await client.order(PAPER_US, code="AAPL", price=10.0, secMarket=2, trdMarket=2)).retType == 0


async def test_two_orders_within_twenty_milliseconds_are_too_close(client: RawClient) -> None:
    sent = []
    for number in (1, 2):
        packet, head = {"connID": client.conn_id, "serialNo": number}, {"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1}
        terms = {"trdSide": 1, "orderType": 1, "code": "00700", "qty": 100.0, "price": 400.0}
        sent.append(client.send(2202, client.request(2202, packetID=packet, header=head, **terms)))
    first, second = [await client.reply(2202, serial) for serial in sent]
    assert (first.retType, second.retType) == (0, -1)
    assert "0.02 seconds" in second.retMsg


async def test_a_client_that_waits_for_its_replies_never_comes_too_close(client: RawClient) -> None:
    text_ids = []
    for _ in range(10):
        placed = await client.order(price=10.0)
        assert placed.retType == 0, placed.retMsg
        text_ids.append(placed.s2c.orderIDEx)
    for text_id in text_ids:
        cancelled = await client.modify(text_id, CANCEL)
        assert cancelled.retType == 0, cancelled.retMsg


async def test_reads_count_only_when_they_refresh_the_cache(client: RawClient) -> None:
    head = {"trdEnv": 0, "accID": PAPER_HK, "trdMarket": 1}
    for _ in range(30):
        assert (await client.ask(2201, header=head)).retType == 0
    answers = [(await client.ask(2201, header=head, refreshCache=True)).retType for _ in range(11)]
    assert answers == [0] * 10 + [-1]


@pytest.mark.parametrize("settings", [STILL])
async def test_the_same_seed_gives_the_same_order_ids(settings: object) -> None:
    ids = []
    for _ in range(2):
        async with Sandbox(STILL) as sandbox, RawClient(sandbox.port) as client:
            await client.connect()
            ids.append((await client.order()).s2c.orderID)
    assert ids[0] == ids[1]
    async with Sandbox(replace(STILL, seed=2)) as sandbox, RawClient(sandbox.port) as client:
        await client.connect()
        assert (await client.order()).s2c.orderID != ids[0]


@pytest.mark.parametrize("settings", [replace(UNLOCKED, order_latency=0.0, relaxed_paper=True)])
@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_to_orders_what_is_held_back_is_what_working_orders_need(
    sandbox: Sandbox, client: RawClient, seed: int
) -> None:
    chance = Random(seed)
    account = sandbox.accounts[REAL]
    for _ in range(80):
        working = [order for order in account.orders.values() if order.working]
        what = chance.choice(["buy", "sell", "market", "change", "cancel", "disable", "enable", "move"])
        price = float(chance.randrange(465, 495))
        if what in ("buy", "sell", "market"):
            kind = 2 if what == "market" else 1
            await client.order(
                REAL,
                price=price,
                qty=chance.randrange(1, 6) * 100.0,
                trdSide=2 if what == "sell" else 1,
                orderType=kind,
            )
        elif what == "move":
            sandbox.set_price("HK.00700", str(chance.randrange(465, 495)), volume=chance.randrange(1, 8) * 100)
        elif what == "enable":
            for order in [one for one in account.orders.values() if one.status == DISABLED][:1]:
                await client.modify(order.text_id, ENABLE, REAL)
        elif working:
            operation = {"change": CHANGE, "cancel": CANCEL, "disable": DISABLE}[what]
            await client.modify(
                chance.choice(working).text_id, operation, REAL, qty=chance.randrange(1, 6) * 100.0, price=price
            )
        needed = [one for one in account.orders.values() if one.working and one.price is not None]
        assert sum(one.money_held for one in needed) == sum(one.reserved() for one in needed)
        assert sum(account.frozen_money.values()) == sum(one.money_held for one in account.orders.values())
        assert sum(account.offered.values()) == sum(
            one.left for one in account.orders.values() if one.working and not one.buy
        )
        assert all(one.money_held == 0 for one in account.orders.values() if not one.working)
    assert len({order.status for order in account.orders.values()}) > 3
