"""A restart under bots of the official SDKs: what is in flight is finished, what comes after goes on, and nothing is forgotten."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from live import PLACE_ORDER, LiveSandbox, LiveSidecar, Stage, eventually
from official_js_sdk import JsSdk
from raw_client import RawClient
from test_websocket_official_sdk import order
from websocket_client import key_with_md5

TRADER = ("qot:read", "acc:read", "trade:simulate")
BACK = 25.0
"""Seconds in which an SDK comes back by itself; the one for Python tries again every 6."""


def stopping(sidecar: LiveSidecar) -> threading.Thread:
    """SIGTERM; the thread ends when the process has."""
    thread = threading.Thread(target=sidecar.stop)
    thread.start()
    return thread


def settled(sidecar: LiveSidecar) -> bool:
    return sidecar.metric("sidecar_orders_unsettled") == 0


def test_a_python_bot_has_its_order_answered_comes_back_and_its_limits_know_both(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_daily_value=100_000)
    sidecar = stage.sidecar(sandbox.port)
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    sandbox.delays[PLACE_ORDER] = 1.5
    terms = {"price": 400, "qty": 100, "code": "HK.00700", "trd_side": "BUY", "trd_env": "SIMULATE"}
    in_flight = bot.begin("call", context="trade", method="place_order", args=[], kwargs=terms)
    eventually(sandbox.orders, 5, "the order")

    ended = stopping(sidecar)
    answer = in_flight.result(10)
    assert answer.ok, answer.data
    ended.join(30)
    assert not sidecar.running()
    assert [line["outcome"] for line in sidecar.audit(symbol="HK.00700")] == ["allow", "success"]

    sandbox.delays.clear()
    sidecar.start()
    assert eventually(lambda: bot.place("HK.00700", 300, 100).ok, BACK, "the bot's next order")
    over = bot.place("HK.00700", 310, 100)
    assert over.code() == "daily_value"
    assert "70000 used + 31000 this order" in over.data
    assert len(sandbox.orders()) == 2
    orders = bot.call("trade", "order_list_query", trd_env="SIMULATE")
    assert orders.ok
    assert len(orders.data) == 2, "both are still its own"


def test_a_javascript_bot_has_its_order_answered_comes_back_and_its_limits_know_both(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = key_with_md5(stage.keys, "bot", *TRADER, max_daily_value=100_000)
    sidecar = stage.sidecar(sandbox.port)
    with JsSdk() as bot, ThreadPoolExecutor(1) as apart:
        bot.start(sidecar.doors["websocket"], key)
        conn_id = bot.logged_in()
        sandbox.delays[PLACE_ORDER] = 1.5
        in_flight = apart.submit(bot.call, "PlaceOrder", order(conn_id, price=400))
        eventually(sandbox.orders, 5, "the order")

        ended = stopping(sidecar)
        answer = in_flight.result(10)
        assert answer.ok, answer.text
        ended.join(30)
        assert not sidecar.running()
        assert [line["outcome"] for line in sidecar.audit(endpoint="place_order proto_id=2202")] == ["allow", "success"]

        sandbox.delays.clear()
        seen = len(bot.events)
        sidecar.start()
        conn_id = bot.logged_in(timeout=BACK, after=seen)
        again = bot.call("PlaceOrder", order(conn_id, price=300))
        assert again.ok, again.text
        over = bot.call("PlaceOrder", order(conn_id, price=310))
        assert not over.ok
        assert "70000 used + 31000 this order" in over.text
        assert len(sandbox.orders()) == 2


@pytest.mark.parametrize("how", ["a second SIGTERM", "the end of `drain`"])
def test_an_order_that_is_not_waited_for_is_found_after_the_restart(
    how: str, stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_daily_value=100_000)
    twice = how == "a second SIGTERM"
    sidecar = stage.sidecar(sandbox.port, drain=20 if twice else 1)
    client = RawClient(sidecar.port, key)
    sandbox.delays[PLACE_ORDER] = 30
    sandbox.do(setattr, sandbox.sandbox.trading.exchange, "_publish_order", lambda order: None)  # nor a push
    client.send(PLACE_ORDER, client.order_request(price=400))
    eventually(sandbox.orders, 5, "the order")

    began = time.monotonic()
    ended = stopping(sidecar)
    if twice:
        time.sleep(1.0)
        assert sidecar.running(), "it waits for the answer"
        began = time.monotonic()
        os.kill(sidecar.pid, signal.SIGTERM)
    ended.join(30)
    assert not sidecar.running()
    assert time.monotonic() - began < 4
    assert sidecar.stop() == 0
    assert "Traceback" not in sidecar.log_text()
    outcomes = [line["outcome"] for line in sidecar.audit(key_id="bot")]
    assert outcomes[:2] == ["allow", "unknown"]
    assert sidecar.audit(outcome="unknown")[0]["message"] == "the sidecar stopped before OpenD answered"
    if twice:
        (said,) = [line for line in sidecar.log() if line["event"].startswith("told to stop once more")]
        assert said["unanswered"] == 1

    sandbox.delays.clear()
    sidecar.start()
    eventually(lambda: sidecar.audit(key_id="bot", outcome="success"), 10, "the order to be found at OpenD")
    assert [line["outcome"] for line in sidecar.audit(key_id="bot")] == ["allow", "unknown", "success"], "each once"
    assert settled(sidecar)
    client = RawClient(sidecar.port, key)
    refused = client.ask(PLACE_ORDER, client.order_request(price=700))
    assert "40000 used + 70000 this order" in refused.retMsg
    assert len(sandbox.orders()) == 1


def test_while_it_drains_nobody_new_is_let_in_and_new_orders_are_refused(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    first, second = RawClient(sidecar.port, key), RawClient(sidecar.port, key)
    sandbox.delays[PLACE_ORDER] = 2.0
    serial = first.send(PLACE_ORDER, first.order_request())
    eventually(sandbox.orders, 5, "the order")
    ended = stopping(sidecar)
    eventually(lambda: any(line["event"].startswith("stopping") for line in sidecar.log()), 3, "the drain")
    refused = second.ask(PLACE_ORDER, second.order_request())
    assert refused.retType != 0
    with pytest.raises(OSError, match="refused"):
        RawClient(sidecar.port, key)
    assert first.reply(serial).retType == 0
    ended.join(30)
    assert len(sandbox.orders()) == 1
