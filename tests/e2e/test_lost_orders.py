"""Orders whose reply never comes: found at OpenD, settled once, and whose they were; through the official SDK."""

from __future__ import annotations

import time
from typing import Any

from live import LiveApp, LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import SdkProcess
from rest_client import RestClient, header

BLIND = ("qot:read", "trade:simulate")
BACK = 15.0
"""Seconds in which the SDK, which tries every 6 s, is connected again."""


def order(price: float = 400) -> dict[str, Any]:
    return {"price": price, "qty": 100, "code": "HK.00700", "trd_side": "BUY", "trd_env": "SIMULATE", "acc_id": 1001001}


def bot(stage: Stage, sidecar: LiveSidecar | LiveApp, key: str) -> SdkProcess:
    made = stage.sdk(sidecar.port, key)
    made.open("trade", "trade")
    return made


def orders(bot: SdkProcess) -> set[str]:
    listed = bot.call("trade", "order_list_query", trd_env="SIMULATE", acc_id=1001001, timeout=BACK + 5)
    assert listed.ok, listed.data
    return {one["order_id"] for one in listed.data}


def outcomes(sidecar: LiveSidecar | LiveApp, decision_id: str) -> list[str]:
    return [line["outcome"] for line in sidecar.audit(decision_id=decision_id)]


def left_of_the_day(sidecar: LiveSidecar | LiveApp, key_id: str) -> float:
    return sidecar.metric("sidecar_ledger_headroom", key_id=key_id, limit="max_daily_value")


def is_its_keys_alone(order_id: str, mine: SdkProcess, theirs: SdkProcess) -> None:
    """Its key sees, changes and cancels it; another key of the same account can do none of that."""
    assert order_id in orders(mine)
    assert order_id not in orders(theirs)
    changed = {"modify_order_op": "NORMAL", "order_id": order_id, "qty": 200, "price": 401, "trd_env": "SIMULATE"}
    assert theirs.call("trade", "modify_order", **changed).code() == "not_own_order"
    assert theirs.cancel(order_id).code() == "not_own_order"
    assert mine.cancel(order_id).ok


def test_opend_hangs_up_right_after_an_order_and_the_order_is_settled_exactly_once(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    mine, theirs = stage.keys.add("mine", *BLIND, max_daily_value=100_000), stage.keys.add("theirs", *BLIND)
    sidecar = stage.sidecar(sandbox.port)
    placer, other = bot(stage, sidecar, mine), bot(stage, sidecar, theirs)
    sandbox.do(sandbox.sandbox.set_faults, "disconnect:2202@1")

    answer = placer.call("trade", "place_order", **order())
    assert answer.code() == "upstream_unavailable", answer.data
    assert "unknown" in answer.data

    found = sidecar.wait_audit(key_id="mine", outcome="success", timeout=10)
    assert found["message"].startswith("its reply was lost, the order was found at OpenD")
    assert left_of_the_day(sidecar, "mine") == 60_000
    is_its_keys_alone(found["order_id_ex"], placer, other)
    assert len(sandbox.orders()) == 1
    assert outcomes(sidecar, found["decision_id"]) == ["allow", "unknown", "success"]
    assert left_of_the_day(sidecar, "mine") == 60_000


def test_what_only_opends_order_list_can_tell_is_settled_when_the_connection_is_back(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    mine = stage.keys.add("mine", *BLIND, max_daily_value=100_000, max_open_orders=2)
    theirs = stage.keys.add("theirs", *BLIND)
    app = stage.app(sandbox.port)
    app.do(setattr, app.app.returns, "learn", lambda *_: None)  # no push is heard
    placer, other = bot(stage, app, mine), bot(stage, app, theirs)
    sandbox.do(sandbox.sandbox.set_faults, "silent:2202", "refuse:2201")
    placing = [
        placer.begin("call", context="trade", method="place_order", args=[], kwargs=order(price) | {"remark": remark})
        for price, remark in ((400, ""), (390, "a remark of its own"))
    ]
    eventually(lambda: len(sandbox.orders()) == 2, 10, "both orders at OpenD")
    assert left_of_the_day(app, "mine") == 21_000

    sandbox.stop()
    for each in placing:
        assert "unknown" in each.result(10).data
    assert left_of_the_day(app, "mine") == 21_000
    sandbox.do(sandbox.sandbox.set_faults)
    sandbox.start()

    found = eventually(lambda: f if len(f := app.audit(key_id="mine", outcome="success")) == 2 else None, 15)
    assert {each["message"] for each in found} == {"its reply was lost, the order was found at OpenD: SUBMITTED"}
    assert placer.call("trade", "place_order", timeout=BACK + 5, **order(4)).code() == "open_orders"
    for each in found:
        is_its_keys_alone(each["order_id_ex"], placer, other)
        assert outcomes(app, each["decision_id"]) == ["allow", "unknown", "success"]
    assert left_of_the_day(app, "mine") == 21_000


def test_a_script_that_places_an_order_and_leaves_at_once_still_owns_it(stage: Stage, sandbox: LiveSandbox) -> None:
    mine, theirs = stage.keys.add("mine", *BLIND), stage.keys.add("theirs", *BLIND)
    sidecar = stage.sidecar(sandbox.port)
    script, other = bot(stage, sidecar, mine), bot(stage, sidecar, theirs)
    sandbox.delays[2202] = 1.5
    script.begin("call", context="trade", method="place_order", args=[], kwargs=order())
    eventually(sandbox.orders, 5, "the order at OpenD")
    script.end()

    settled = sidecar.wait_audit(key_id="mine", outcome="success", timeout=5)
    assert outcomes(sidecar, settled["decision_id"]) == ["allow", "success"]
    is_its_keys_alone(settled["order_id_ex"], bot(stage, sidecar, mine), other)


def test_a_sidecar_that_dies_with_an_order_under_way_finds_it_when_it_runs_again(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    mine, theirs = stage.keys.add("mine", *BLIND, max_daily_value=100_000), stage.keys.add("theirs", *BLIND)
    sidecar = stage.sidecar(sandbox.port)
    placer, other = bot(stage, sidecar, mine), bot(stage, sidecar, theirs)
    sandbox.delays[2202] = 60
    sandbox.do(setattr, sandbox.sandbox.trading.exchange, "_publish_order", lambda order: None)  # nor a push
    placer.begin("call", context="trade", method="place_order", args=[], kwargs=order())
    eventually(sandbox.orders, 5, "the order at OpenD")
    sidecar.kill()
    sandbox.delays.clear()
    sidecar.start()

    found = sidecar.wait_audit(key_id="mine", outcome="success", timeout=10)
    assert found["iface"] == "sidecar"
    assert outcomes(sidecar, found["decision_id"]) == ["allow", "success"]
    assert left_of_the_day(sidecar, "mine") == 60_000
    time.sleep(0.5)
    is_its_keys_alone(found["order_id_ex"], placer, other)


def test_a_combo_whose_reply_is_lost_is_known_by_its_tag_and_its_legs(stage: Stage) -> None:
    sandbox = stage.sandbox(tick_interval=0, relaxed_paper=True)
    mine = stage.keys.add("mine", *BLIND, max_open_orders=1)
    sidecar = stage.sidecar(sandbox.port)
    rest = RestClient(sidecar.doors["rest"], mine)
    legs = [
        {"security": {"market": 11, "code": code}, "side": side, "qty_ratio": 1.0}
        for code, side in (("AAPL", 1), ("MSFT", 2))
    ]
    combo = {
        "header": header(1001002, market=2), "combo_legs": legs, "qty": 1.0, "price": -1000.0, "order_type": 1
    }  # fmt: skip
    sandbox.do(sandbox.sandbox.set_faults, "disconnect:2227@1")
    answer = rest.post("/api/proto/2227", combo)
    assert answer.code == "upstream_unavailable", answer.raw

    found = sidecar.wait_audit(key_id="mine", outcome="success", timeout=10)
    assert found["message"].startswith("its reply was lost, the order was found at OpenD")
    assert rest.post("/api/proto/2227", combo).code == "open_orders"
    assert rest.get("/api/key").s2c["open_orders"] == {"limit": 1, "used": 1, "left": 0}
    account = {"trd_env": "SIMULATE", "acc_id": 1001002, "trd_market": "US"}
    cancelled = rest.post("/api/cancel-order", {**account, "order_id": found["order_id"]})
    assert cancelled.s2c
    eventually(lambda: rest.get("/api/key").s2c["open_orders"]["used"] == 0, 5, "the combo to have ended")
