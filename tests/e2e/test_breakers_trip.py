"""Bots of the official SDK that run wild are halted by themselves, and by nobody else than their owner set going again."""

from __future__ import annotations

import pytest
from live import LiveSandbox, Stage, eventually
from official_sdk import SdkProcess
from test_halt import command

from sidecar import loss_watch

TRADER = ("qot:read", "acc:read", "trade:simulate")


def connected(stage: Stage, port: int, key: str) -> SdkProcess:
    bot = stage.sdk(port, key)
    bot.open("trade", "trade")
    return bot


def test_a_runaway_loop_is_halted_over_restarts_until_its_owner_resumes_it(stage: Stage, sandbox: LiveSandbox) -> None:
    keys = [stage.keys.add(name, *TRADER) for name in ("loop", "other")]
    sidecar = stage.sidecar(sandbox.port, breakers={"identical_orders": 5})
    loop, other = (connected(stage, sidecar.port, key) for key in keys)

    answers = [loop.place("HK.00700", 300, 100) for _ in range(8)]

    assert [answer.code() for answer in answers] == [None] * 4 + ["breaker"] * 4
    assert "by the breaker identical_orders: the 5th order for BUY 100 HK.00700 at 300 within 60 s" in answers[-1].data
    assert "only the owner can resume it, cancels still work" in answers[-1].data
    assert len(sandbox.orders()) == 4
    assert loop.cancel(answers[0].data[0]["order_id"]).ok
    assert other.place("HK.00700", 300, 100).ok, "another key goes on"
    line = sidecar.wait_audit(endpoint="halt")
    assert (line["key_id"], line["reason"], line["iface"]) == ("loop", "breaker", "sidecar")
    assert sidecar.metric("sidecar_breaker_trips_total", breaker="identical_orders", key_id="loop") == 1
    assert sidecar.metric("sidecar_trading_state", key_id="loop") == 2
    assert any(line.get("event") == "a breaker has halted a key" for line in sidecar.log())
    assert "key `loop` is HALTED since" in command(sidecar, "status").stdout
    eventually(lambda: sidecar.metric("sidecar_trading_states_saved") == 1, 3, "the halt to be on disk")

    sidecar.kill()
    sidecar.start()
    loop = connected(stage, sidecar.port, keys[0])
    assert loop.place("HK.00700", 300, 100).code() == "breaker"
    assert command(sidecar, "resume", "--key", "loop", "--reason", "mended").returncode == 0
    assert [loop.place("HK.00700", 300, 100).code() for _ in range(4)] == [None] * 4, "it is counted anew"
    assert loop.place("HK.00700", 300, 100).code() == "breaker"


def test_orders_refused_in_a_row_halt_the_key_also_for_what_would_be_allowed(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_order_value=100_000)
    sidecar = stage.sidecar(sandbox.port, breakers={"refusals_in_a_row": 3})
    bot = connected(stage, sidecar.port, key)
    codes = [bot.place("HK.00700", 300, qty).code() for qty in (400, 500, 100, 400, 500, 600, 100)]
    assert codes == ["order_value", "order_value", None, "order_value", "order_value", "order_value", "breaker"]
    halted = command(sidecar, "status").stdout
    assert "by the breaker refusals_in_a_row: 3 orders in a row were refused, the last one with order_value" in halted


def test_a_lossy_day_halts_the_keys_that_traded_in_the_account(
    stage: Stage, sandbox: LiveSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_watch, "LOOK_EVERY", 0.2)
    keys = [stage.keys.add(name, *TRADER) for name in ("loser", "bystander")]
    sidecar = stage.app(sandbox.port, breakers={"daily_loss": 1000, "daily_loss_currency": "HKD"})
    loser, bystander = (connected(stage, sidecar.port, key) for key in keys)
    sandbox.set_price("HK.00700", "480")
    assert loser.place("HK.00700", 490, 100).ok
    eventually(lambda: _day_profit(loser) is not None, 5, "the purchase to be filled")
    sandbox.set_price("HK.00700", "380")
    assert loser.place("HK.00700", 300, 100, "SELL").ok

    eventually(lambda: sidecar.app.states.of("loser").breaker == "daily_loss", 10, "the breaker to trip")

    refused = loser.place("HK.00700", 300, 100)
    assert refused.code() == "breaker"
    assert "account 1001001 has lost more than 1000 HKD today" in refused.data
    assert bystander.place("HK.00700", 300, 100).ok, "it had placed nothing there before"
    assert "HKD lost)" in command(sidecar, "status").stdout
    assert sidecar.metric("sidecar_daily_loss_unknown_accounts") == 0


def _day_profit(bot: SdkProcess) -> float | None:
    listed = bot.call("trade", "position_list_query", trd_env="SIMULATE", refresh_cache=True)
    for row in listed.data if listed.ok else []:
        if row["code"] == "HK.00700" and row["qty"] == 1100:
            return float(row["today_pl_val"])
    return None
