"""Limits that look beyond the one order, met by the official SDK: amounts in one currency, what is held of a security, and a
sale whose quote is not to be had.
"""

from __future__ import annotations

import asyncio
import collections
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from live import LiveSandbox, Stage
from official_sdk import SdkProcess
from scenarios.scenario_clients import add_key, at_every_door, order

TRADER = ("qot:read", "acc:read", "trade:simulate")
TENCENT, APPLE = "HK.00700", "US.AAPL"
HELD = 1000
"""Shares of HK.00700 in the first paper account at the start."""
GET_SNAPSHOT = 3203


def rates(days_old: int = 0) -> dict[str, Any]:
    day = datetime.now(UTC).date() - timedelta(days=days_old)
    return {"fx": {"as_of": day.isoformat(), "base": "HKD", "rates": {"USD": 7.78}}}


def american(bot: SdkProcess) -> None:
    bot.open("US", "trade", filter_trdmarket="US")


def buy_apple(bot: SdkProcess, price: float, qty: int) -> Any:
    return bot.call("US", "place_order", price=price, qty=qty, code=APPLE, trd_side="BUY", trd_env="SIMULATE")


def test_shares_in_dollars_are_held_against_limits_in_hkd(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100_000, max_daily_value=150_000, cap_currency="HKD")
    sidecar = stage.sidecar(sandbox.port, policy=rates())
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    american(bot)

    too_much = buy_apple(bot, 130, 100)
    assert too_much.code() == "order_value"
    assert "order value 101140 HKD is over the limit of 100000 HKD" in too_much.data

    assert buy_apple(bot, 120, 100).ok
    line = sidecar.wait_audit(outcome="allow", symbol=APPLE)
    assert (Decimal(str(line["value"])), line["currency"]) == (Decimal(93_360), "HKD")

    rest = bot.place(TENCENT, 300, 200)
    assert rest.code() == "daily_value"
    assert "93360 used + 60000 this order = 153360 HKD is over the limit of 150000 HKD" in rest.data
    assert bot.place(TENCENT, 280, 200).ok
    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit="max_daily_value") == 640
    assert [sent["code"] for sent in sandbox.orders()] == ["AAPL", "00700"]


def test_rates_that_are_too_old_stop_orders_in_other_currencies_and_nothing_else(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100_000, cap_currency="HKD")
    sidecar = stage.sidecar(sandbox.port, policy=rates(days_old=9))
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    american(bot)

    refused = buy_apple(bot, 120, 1)
    assert refused.code() == "fx_unavailable"
    assert "9 days old, and may be used for 7" in refused.data
    placed = bot.place(TENCENT, 300, 100)
    assert placed.ok
    assert bot.cancel(placed.data[0]["order_id"]).ok


def test_of_buys_at_once_only_as_many_pass_as_a_position_has_room_for(stage: Stage, sandbox: LiveSandbox) -> None:
    sidecar = stage.sidecar(sandbox.port)
    limit = (HELD + 200) * 400
    bots = []
    for name in ("one", "two"):
        key = stage.keys.add(name, *TRADER, max_position_value=limit)
        sidecar.wait_keys()
        bots.append(stage.sdk(sidecar.port, key))
        for number in range(2):
            bots[-1].open(f"trade{number}", "trade")
    terms = {"price": 400, "qty": 200, "code": TENCENT, "trd_side": "BUY", "trd_env": "SIMULATE"}
    calls = [{"context": f"trade{number}", "method": "place_order", "args": [], "kwargs": terms} for number in range(2)]

    begun = [bot.begin("together", calls=calls) for bot in bots]
    answers = [answer for future in begun for answer in future.result(60).data]

    refused = [str(answer[1]) for answer in answers if answer[0] != 0]
    assert len(refused) == 3
    assert all(text.startswith("[sidecar:position_value] position value 560000 HKD is over the ") for text in refused)
    assert all("(1000 held + 200 buying already + 200) of HK.00700 × 400 (limit)" in text for text in refused)
    assert [sent["qty"] for sent in sandbox.orders()] == [200]


def test_a_position_limit_stops_what_makes_it_larger_and_lets_out_what_makes_it_smaller(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_position_value=(HELD + 200) * 400)
    sidecar = stage.sidecar(sandbox.port)
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")

    placed = bot.place(TENCENT, 400, 100)
    assert placed.ok
    number = placed.data[0]["order_id"]
    larger = {"modify_order_op": "NORMAL", "order_id": number, "price": 400, "trd_env": "SIMULATE"}
    refused = bot.call("trade", "modify_order", qty=300, **larger)
    assert refused.code() == "position_value"
    assert "(1000 held + 100 buying already + 200)" in refused.data
    assert bot.call("trade", "modify_order", qty=200, **larger).ok
    assert bot.place(TENCENT, 400, 100).code() == "position_value"
    assert bot.place(TENCENT, 600, HELD, "SELL").ok, "what is held may always be sold"
    assert bot.cancel(number).ok
    assert bot.call("trade", "accinfo_query", trd_env="SIMULATE").ok


def test_a_sale_of_what_is_held_needs_no_quote(stage: Stage, sandbox: LiveSandbox) -> None:
    sandbox.set_price(TENCENT, "480")
    sandbox.set_faults(f"refuse:{GET_SNAPSHOT}")
    key = stage.keys.add("bot", *TRADER, max_order_value=100_000)
    sidecar = stage.sidecar(sandbox.port)
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")

    refused = bot.place(TENCENT, 0.01, 300, "SELL")
    assert refused.code() == "order_value", refused.data
    assert "order value 144000 HKD is over the limit of 100000 HKD" in refused.data
    assert bot.place(TENCENT, 480, 100, "SELL").ok
    line = sidecar.wait_audit(outcome="allow", symbol=TENCENT)
    assert Decimal(str(line["value"])) == 48_000
    assert bot.place("HK.00005", 60, 400, "SELL").code() == "price_unavailable", "it is not held"
    assert bot.place(TENCENT, 0, 100, order_type="MARKET").code() == "price_unavailable", "it is a buy"
    assert bot.place(TENCENT, 400, 100).ok, "its limit says enough"


async def test_buys_through_all_doors_at_once_fill_a_position_and_no_more(stage: Stage, sandbox: LiveSandbox) -> None:
    limit = (HELD + 500) * 400
    key = add_key(stage.keys, "bot", "trade:simulate", max_position_value=limit)
    other = add_key(stage.keys, "other", "trade:simulate", max_position_value=limit)
    sidecar = await asyncio.to_thread(stage.app, sandbox.port)
    bought = order(price=400.0, qty=100.0, trdSide=1)
    async with at_every_door(sidecar, key) as ours, at_every_door(sidecar, other) as theirs:
        clients = [*ours.values(), *theirs.values()]
        answers = await asyncio.gather(*(client.ask(bought) for client in clients))
    outcomes = collections.Counter(answer.code or answer.response.retType for answer in answers)
    assert outcomes == {0: 5, "position_value": len(clients) - 5}
    assert sum(sent["qty"] for sent in sandbox.orders()) == 500
