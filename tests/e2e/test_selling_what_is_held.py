"""Keys that may not sell short, met by the official SDK: what is held can be sold once, by whomever, through any door."""

from __future__ import annotations

import asyncio
import collections
import time

from live import LiveSandbox, Stage, eventually
from raw_client import PLACE_ORDER, RawClient, code_of
from scenarios.scenario_clients import add_key, at_every_door, order

TRADER = ("qot:read", "acc:read", "trade:simulate")
HELD = 1000
"""Shares of HK.00700 in the paper account at the start; at 600 a sale rests."""
GET_POSITIONS = 2102
QUICK = {"position_lag": 0.5}
LAG = 1.7
"""After this many seconds, with QUICK, a list of holdings is asked for again and trusted to show an order."""


def test_of_two_sales_of_the_whole_holding_at_once_one_passes(stage: Stage, sandbox: LiveSandbox) -> None:
    sidecar = stage.sidecar(sandbox.port)
    bots = []
    for name in ("one", "two"):
        key = stage.keys.add(name, *TRADER, allow_short=False)
        sidecar.wait_keys()
        bots.append(stage.sdk(sidecar.port, key))
        for number in range(2):
            bots[-1].open(f"trade{number}", "trade")
    sale = {"price": 600, "qty": HELD, "code": "HK.00700", "trd_side": "SELL", "trd_env": "SIMULATE"}
    calls = [{"context": f"trade{number}", "method": "place_order", "args": [], "kwargs": sale} for number in range(2)]

    begun = [bot.begin("together", calls=calls) for bot in bots]
    answers = [answer for future in begun for answer in future.result(60).data]

    refused = [str(answer[1]) for answer in answers if answer[0] != 0]
    assert len(refused) == 3
    assert all(text.startswith("[sidecar:short_sale] selling 1000 of `HK.00700` would go short") for text in refused)
    assert [sent["qty"] for sent in sandbox.orders()] == [HELD]


def test_the_sdk_is_told_how_much_is_held_reserved_and_asked(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, allow_short=False)
    sidecar = stage.sidecar(sandbox.port)
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")

    too_much = bot.place("HK.00700", 600, HELD + 100, "SELL")
    assert too_much.code() == "short_sale"
    assert "selling 1100 of `HK.00700` would go short" in too_much.data
    assert "1000 can be sold, 0 already reserved" in too_much.data
    assert bot.place("HK.00700", 600, 100, "SELL_SHORT").code() == "short_sale"
    assert bot.place("HK.00001", 90, 500, "SELL").code() == "short_sale"
    assert sandbox.orders() == []

    assert bot.place("HK.00700", 600, 600, "SELL").ok
    rest = bot.place("HK.00700", 600, 500, "SELL")
    assert rest.code() == "short_sale"
    assert "selling 500" in rest.data
    assert bot.place("HK.00700", 600, 400, "SELL").ok
    assert bot.place("HK.00700", 400, 100, "BUY").ok
    assert bot.place("HK.00700", 600, 100, "SELL").code() == "short_sale"
    assert sidecar.wait_audit(reason="short_sale", side="SELL_SHORT")["outcome"] == "reject"


def test_what_was_sold_and_cancelled_may_be_sold_again_once_opend_is_sure_to_show_it(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, allow_short=False)
    sidecar = stage.sidecar(sandbox.port, policy=QUICK)
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    placed = bot.place("HK.00700", 600, HELD, "SELL")
    assert placed.ok
    time.sleep(LAG)
    assert bot.place("HK.00700", 600, 100, "SELL").code() == "short_sale", "it works in the market: OpenD shows it"
    asked = len(sandbox.received(GET_POSITIONS))
    assert bot.cancel(placed.data[0]["order_id"]).ok
    assert len(sandbox.received(GET_POSITIONS)) == asked, "a cancel asks nothing"
    time.sleep(LAG)
    assert bot.place("HK.00700", 600, HELD, "SELL").ok


def test_a_filled_sale_leaves_nothing_to_sell(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, allow_short=False)
    sidecar = stage.sidecar(sandbox.port, policy=QUICK)
    client = RawClient(sidecar.port, key)
    assert client.ask(PLACE_ORDER, client.order_request(price=400, qty=HELD, side=2)).retType == 0
    until = time.monotonic() + LAG + 1
    while time.monotonic() < until:
        assert code_of(client.ask(PLACE_ORDER, client.order_request(price=400, qty=100, side=2))) == "short_sale"
        time.sleep(0.1)
    assert len(sandbox.orders()) == 1


def test_a_sale_whose_answer_never_came_is_taken_as_sold_over_a_crash(stage: Stage, sandbox: LiveSandbox) -> None:
    sandbox.delays[PLACE_ORDER] = 30
    key = stage.keys.add("bot", *TRADER, allow_short=False)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    client.send(PLACE_ORDER, client.order_request(price=600, qty=600, side=2))
    eventually(lambda: len(sandbox.orders()) == 1, 5, "the sale")
    assert code_of(client.ask(PLACE_ORDER, client.order_request(price=600, qty=500, side=2))) == "short_sale"

    sidecar.kill()
    sandbox.delays.clear()
    sidecar.start()

    client = RawClient(sidecar.port, key)
    assert code_of(client.ask(PLACE_ORDER, client.order_request(price=600, qty=500, side=2))) == "short_sale"
    assert len(sandbox.orders()) == 1


def test_holdings_that_do_not_come_in_time_refuse_the_sale_and_nothing_else(stage: Stage, sandbox: LiveSandbox) -> None:
    sandbox.delays[GET_POSITIONS] = 30
    key = stage.keys.add("bot", *TRADER, allow_short=False)
    sidecar = stage.sidecar(sandbox.port, policy={"facts_timeout": 0.5})
    client = RawClient(sidecar.port, key)
    begun = time.monotonic()
    assert code_of(client.ask(PLACE_ORDER, client.order_request(price=600, side=2))) == "position_unknown"
    assert time.monotonic() - begun < 2
    bought = client.ask(PLACE_ORDER, client.order_request(price=400))
    assert bought.retType == 0
    assert client.ask(2205, client.cancel_request(bought.s2c.orderIDEx)).retType == 0


async def test_sales_through_all_doors_at_once_sell_what_is_held_and_no_more(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = add_key(stage.keys, "bot", "trade:simulate", allow_short=False)
    other = add_key(stage.keys, "other", "trade:simulate", allow_short=False)
    sidecar = await asyncio.to_thread(stage.app, sandbox.port)
    sale = order(price=600.0, qty=100.0, trdSide=2)
    async with at_every_door(sidecar, key) as ours, at_every_door(sidecar, other) as theirs:
        clients = [*ours.values(), *theirs.values()]
        asking = [client.ask(sale) for _ in range(2) for client in clients]
        answers = await asyncio.gather(*asking)
    outcomes = collections.Counter(answer.code or answer.response.retType for answer in answers)
    assert outcomes == {0: 10, "short_sale": len(asking) - 10}
    assert sum(sent["qty"] for sent in sandbox.orders()) == HELD
