"""A key may have so many orders on the market at one time, through the official SDK."""

from __future__ import annotations

import pytest
from live import LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import Answer, SdkProcess

LOW, HIGH = 400, 500
"""HK.00700 is at 480: a buy at the first rests, at the second it is filled."""


@pytest.fixture
def sidecar(stage: Stage, sandbox: LiveSandbox) -> LiveSidecar:
    return stage.sidecar(sandbox.port)


@pytest.fixture
def bot(stage: Stage, sidecar: LiveSidecar) -> SdkProcess:
    key = stage.keys.add("bot", "qot:read", "acc:read", "trade:simulate", max_open_orders=2)
    sidecar.wait_keys()
    made = stage.sdk(sidecar.port, key)
    made.open("trade", "trade")
    return made


def place(bot: SdkProcess, price: float) -> Answer:
    return bot.place("HK.00700", price, 100)


def placed(bot: SdkProcess, price: float) -> str:
    answer = place(bot, price)
    assert answer.ok, answer.data
    return str(answer.data[0]["order_id"])


def room(sidecar: LiveSidecar) -> float:
    return sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit="max_open_orders")


def test_an_order_more_is_refused_until_one_is_cancelled_or_filled(bot: SdkProcess, sidecar: LiveSidecar) -> None:
    first = placed(bot, LOW)
    placed(bot, HIGH)
    eventually(lambda: room(sidecar) == 1, 5, "the filled order to have ended")
    placed(bot, LOW + 1)
    refused = place(bot, LOW + 2)
    assert refused.code() == "open_orders", refused.data
    assert "2 orders are open, the limit is 2" in refused.data
    assert bot.cancel(first).ok
    eventually(lambda: room(sidecar) == 1, 5, "the cancelled order to have ended")
    placed(bot, LOW + 3)
    assert place(bot, LOW + 4).code() == "open_orders"


def test_what_opend_refuses_or_the_exchange_rejects_takes_no_room(bot: SdkProcess, sidecar: LiveSidecar) -> None:
    odd_lot = bot.place("HK.00700", LOW, 101)
    assert not odd_lot.ok
    assert odd_lot.code() is None, "OpenD's own no"
    absurd = place(bot, 4_400)
    assert absurd.ok, absurd.data
    eventually(lambda: room(sidecar) == 2, 5, "the order that failed to have ended")


def test_a_change_of_an_order_takes_no_room(bot: SdkProcess) -> None:
    first, _ = placed(bot, LOW), placed(bot, LOW + 1)
    changed = bot.call(
        "trade", "modify_order", modify_order_op="NORMAL", order_id=first, qty=200, price=LOW, trd_env="SIMULATE"
    )
    assert changed.ok, changed.data


def test_orders_sent_at_once_never_exceed_it(bot: SdkProcess, sandbox: LiveSandbox) -> None:
    calls = [
        {
            "context": "trade", "method": "place_order", "args": [],
            "kwargs": {"price": LOW + n, "qty": 100, "code": "HK.00700", "trd_side": "BUY", "trd_env": "SIMULATE"},
        }
        for n in range(8)
    ]  # fmt: skip
    answers = bot.together(calls)
    assert sum(answer.ok for answer in answers) == 2
    assert {answer.code() for answer in answers if not answer.ok} == {"open_orders"}
    assert len(sandbox.orders()) == 2


def test_over_kill_9_the_open_orders_are_still_counted(bot: SdkProcess, sidecar: LiveSidecar) -> None:
    first, _ = placed(bot, LOW), placed(bot, LOW + 1)
    sidecar.kill()
    sidecar.start()
    assert room(sidecar) == 0
    listed = bot.call("trade", "order_list_query", trd_env="SIMULATE", timeout=20)
    assert listed.ok, listed.data
    assert place(bot, LOW + 2).code() == "open_orders"
    assert bot.cancel(first).ok
    eventually(lambda: room(sidecar) == 1, 5, "the cancelled order to have ended")
    placed(bot, LOW + 2)
