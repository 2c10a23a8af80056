"""OpenD goes and comes back, or is not there yet: an SDK script that nobody touches works again by itself."""

from __future__ import annotations

import json
import time

from live import LiveSandbox, Stage, eventually

TRADER = ("qot:read", "acc:read", "trade:simulate")
ALL_IN = 15.0
"""Seconds from OpenD's return until quotes and orders must work again; the SDK tries every 6 s."""


def test_after_opend_was_restarted_an_untouched_script_gets_quotes_and_trades_again(stage: Stage) -> None:
    sandbox = stage.sandbox()
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    bot = stage.sdk(sidecar.port, key)
    bot.open("quotes", "quote")
    bot.open("trade", "trade")
    assert bot.call("quotes", "subscribe", ["HK.00700"], ["QUOTE"]).ok
    bot.wait_push("quote")
    before = bot.place("HK.00700", 400, 100)
    assert before.ok, before.data

    sandbox.stop()
    eventually(lambda: sidecar.get("/readyz")[0] == 503, 5, "the sidecar to notice")
    problems = json.loads(sidecar.get("/readyz")[1])["problems"]
    assert [one["component"] for one in problems] == ["upstream"]
    assert sidecar.metric("sidecar_upstream_up") == 0
    time.sleep(1)
    sandbox.start()
    back = time.monotonic()
    bot.forget_pushes()

    bot.wait_push("quote", timeout=ALL_IN)
    placed = bot.begin(
        "call", context="trade", method="place_order", args=[],
        kwargs={"price": 401, "qty": 100, "code": "HK.00700", "trd_side": "BUY", "trd_env": "SIMULATE"},
    ).result(ALL_IN)  # fmt: skip
    assert placed.ok, placed.data
    order_id = placed.data[0]["order_id"]
    bot.wait_push(
        "order", lambda data: data[0][0]["order_id"] == order_id and data[0][0]["order_status"] == "SUBMITTED"
    )
    assert bot.cancel(before.data[0]["order_id"]).ok, "the order of before is still its own"
    assert time.monotonic() - back < ALL_IN
    assert sidecar.get("/readyz")[0] == 200


def test_without_opend_the_sidecar_starts_says_so_and_the_sdk_connects_once_it_is_there(stage: Stage) -> None:
    sandbox = stage.sandbox()
    sandbox.stop()
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port, start=False).start(ready=False)
    assert sidecar.get("/healthz")[0] == 200
    status, text = sidecar.get("/readyz")
    assert status == 503
    problem = json.loads(text)["problems"][0]
    assert problem["component"] == "upstream"
    assert f"127.0.0.1:{sandbox.port}" in problem["message"]

    bot = stage.sdk(sidecar.port, key)
    opened = bot.begin("open", name="quotes", kind="quote")
    refused = sidecar.wait_audit(key_id="bot", outcome="reject", reason="upstream_unavailable", timeout=5)
    assert refused["endpoint"] == "init_connect proto_id=1001"
    assert not opened.done()
    assert sidecar.running()
    sandbox.start()
    back = time.monotonic()
    opened.result(ALL_IN)
    assert bot.call("quotes", "get_market_snapshot", ["HK.00700"]).ok
    assert time.monotonic() - back < ALL_IN
    eventually(lambda: sidecar.get("/readyz")[0] == 200, 5, "the sidecar to be ready")


def test_an_order_that_opend_never_answered_is_said_to_be_unknown_and_stays_counted(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_daily_value=50000)
    sidecar = stage.sidecar(sandbox.port)
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    sandbox.delays[2202] = 30
    order = {"price": 400, "qty": 100, "code": "HK.00700", "trd_side": "BUY", "trd_env": "SIMULATE"}
    placing = bot.begin("call", context="trade", method="place_order", args=[], kwargs=order)
    eventually(sandbox.orders, 5, "the order at OpenD")

    sandbox.stop()

    answer = placing.result(5)
    assert answer.code() == "upstream_unavailable", answer.data
    assert "unknown" in answer.data
    assert sidecar.wait_audit(key_id="bot", outcome="unknown")["endpoint"] == "place_order proto_id=2202"
    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit="max_daily_value") == 10000
    sandbox.delays.clear()
    sandbox.start()
    again = bot.begin("call", context="trade", method="place_order", args=[], kwargs=order).result(ALL_IN)
    assert again.code() == "daily_value", again.data
    assert len(sandbox.orders()) == 1
