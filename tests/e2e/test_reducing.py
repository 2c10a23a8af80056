"""The owner lets positions only shrink: by command and over REST, met by the official SDK; over restarts, until a resume."""

from __future__ import annotations

import json

import pytest
from live import LiveSandbox, Stage
from rest_client import RestClient
from test_halt import command

TRADER = ("qot:read", "acc:read", "trade:simulate")
HELD = 1000
"""Shares of HK.00700 in the paper account at the start; at 600 a sale rests."""


def test_the_official_sdk_may_sell_what_is_held_and_nothing_else_until_the_owner_resumes(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    resting = bot.place("HK.00700", 300, 100)
    assert resting.ok
    order_id = resting.data[0]["order_id"]

    reduced = command(sidecar, "halt", "--reduce-only", "--reason", "after the close")

    assert reduced.returncode == 0, reduced
    assert "all trading may only shrink positions: after the close\nit holds in memory and on disk" in reduced.stdout
    refused = bot.place("HK.00700", 300, 100)
    assert refused.code() == "reduce_only"
    assert "buying would grow one: 1000 held of HK.00700, 100 being bought" in refused.data
    assert "trading may only shrink positions since" in refused.data and "after the close" in refused.data
    assert bot.place("HK.00001", 40, 500).code() == "reduce_only"
    assert bot.place("HK.00001", 60, 500, "SELL").code() == "reduce_only"

    change = {"modify_order_op": "NORMAL", "order_id": order_id, "trd_env": "SIMULATE"}
    assert bot.call("trade", "modify_order", qty=100, price=299, **change).code() == "reduce_only"
    sold = bot.place("HK.00700", 600, 600, "SELL")
    assert sold.ok, sold
    assert bot.place("HK.00700", 600, HELD - 600 + 100, "SELL").code() == "reduce_only"
    change["order_id"] = sold.data[0]["order_id"]
    assert bot.call("trade", "modify_order", qty=600, price=601, **change).ok, "its price may change"
    assert bot.call("trade", "modify_order", qty=HELD + 100, price=601, **change).code() == "reduce_only"
    assert bot.cancel(order_id).ok

    sidecar.stop()
    sidecar.start()
    assert sidecar.metric("sidecar_trading_state", scope="global") == 1
    assert "all trading is REDUCING since" in command(sidecar, "status").stdout
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    assert bot.place("HK.00700", 300, 100).code() == "reduce_only"
    assert command(sidecar, "resume", "--reason", "morning").stdout.startswith("all trading is resumed")
    assert bot.place("HK.00700", 300, 100).ok
    messages = [line["message"] for line in sidecar.audit(endpoint="halt")]
    assert messages == ["all trading may only shrink positions, by the command line: after the close"]


def test_of_two_sales_of_the_whole_holding_at_once_one_passes(stage: Stage, sandbox: LiveSandbox) -> None:
    sidecar = stage.sidecar(sandbox.port)
    bots = []
    for name in ("one", "two"):
        key = stage.keys.add(name, *TRADER)
        sidecar.wait_keys()
        bots.append(stage.sdk(sidecar.port, key))
        bots[-1].open("trade", "trade")
    assert command(sidecar, "halt", "--reduce-only", "--reason", "after the close").returncode == 0
    sale = {"price": 600, "qty": HELD, "code": "HK.00700", "trd_side": "SELL", "trd_env": "SIMULATE"}
    begun = [bot.begin("call", context="trade", method="place_order", args=[], kwargs=sale) for bot in bots]
    answers = [future.result(30) for future in begun]
    assert sorted(str(answer.code()) for answer in answers) == ["None", "reduce_only"]
    assert [sent["qty"] for sent in sandbox.orders()] == [HELD]


def test_a_halt_is_not_made_laxer_but_by_a_resume_that_says_how_far(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    assert command(sidecar, "halt", "--key", "bot", "--reason", "loop").returncode == 0
    laxer = command(sidecar, "halt", "--key", "bot", "--reduce-only", "--reason", "let it out")
    assert laxer.returncode == 1
    assert "key `bot` is HALTED already, which is stricter" in laxer.stderr
    assert bot.place("HK.00700", 600, 100, "SELL").code() == "trading_halted"
    out = command(sidecar, "resume", "--key", "bot", "--reduce-only", "--reason", "let it out")
    assert out.stdout.startswith("key `bot` may only shrink positions: let it out"), out
    assert bot.place("HK.00700", 600, 100, "SELL").ok
    assert bot.place("HK.00700", 300, 100).code() == "reduce_only"
    assert command(sidecar, "halt", "--reason", "everything").returncode == 0
    assert bot.place("HK.00700", 600, 100, "SELL").code() == "trading_halted", "the strictest wins"


def test_over_rest_it_is_a_state(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    owner = stage.keys.add("ops", "admin")
    sidecar = stage.sidecar(sandbox.port)
    rest = RestClient(sidecar.doors["rest"], owner)
    wanted = {"reason": "after the close", "key": "bot", "state": "REDUCING"}
    done = rest.request("POST", "/api/admin/halt", wanted)
    assert done.s2c["state"] == "REDUCING" and done.s2c["changed"], done.raw
    again = rest.request("POST", "/api/admin/halt", wanted)
    assert not again.s2c["changed"]
    told = rest.request("GET", "/api/admin/status").s2c
    assert told["trading"]["state"] == "ACTIVE"
    assert [(one["key"], one["state"], one["breaker"]) for one in told["keys"]] == [("bot", "REDUCING", None)]
    wrong = rest.request("POST", "/api/admin/halt", {**wanted, "state": "CLOSED"})
    assert wrong.status == 400 and "`state` must be HALTED or REDUCING" in wrong.json["ret_msg"]
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    assert bot.place("HK.00700", 300, 100).code() == "reduce_only"


@pytest.mark.parametrize("how", ["halt", "resume"])
def test_where_no_sidecar_runs_the_next_one_lets_positions_shrink(stage: Stage, sandbox: LiveSandbox, how: str) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    sidecar.stop()
    if how == "resume":
        assert command(sidecar, "halt", "--reason", "fat finger").returncode == 0
        assert command(sidecar, "halt", "--reduce-only", "--reason", "laxer").returncode == 1
    done = command(sidecar, how, "--reduce-only", "--reason", "after the close")
    assert done.returncode == 0 and "all trading may only shrink positions: after the close" in done.stdout, done
    assert json.loads(command(sidecar, "status", "--json").stdout)["trading"]["state"] == "REDUCING"
    sidecar.start()
    bot = stage.sdk(sidecar.port, key)
    bot.open("trade", "trade")
    assert bot.place("HK.00700", 300, 100).code() == "reduce_only"
    assert bot.place("HK.00700", 600, 100, "SELL").ok
