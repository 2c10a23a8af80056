"""What OpenD keeps for the whole process stays behind the sidecar: unlocking, the user's identity, others' subscriptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from live import LiveSandbox, LiveSidecar, Stage
from official_sdk import SdkProcess

REAL = 281756455000000001


@dataclass(frozen=True)
class Office:
    sandbox: LiveSandbox
    sidecar: LiveSidecar
    keys: dict[str, str]
    bot: SdkProcess


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Stage(tmp_path_factory.mktemp("office")) as stage:
        keys = {
            "real": stage.keys.add("real", "qot:read", "acc:read", "trade:real"),
            "real2": stage.keys.add("real2", "qot:read", "acc:read", "trade:real"),
            "paper": stage.keys.add("paper", "qot:read", "acc:read", "trade:simulate"),
            "admin": stage.keys.add("admin", "qot:read", "admin"),
            "one": stage.keys.add("one", "qot:read"),
            "two": stage.keys.add("two", "qot:read"),
        }
        sandbox = stage.sandbox(tick_interval=0)
        sidecar = stage.sidecar(sandbox.port)
        bot = stage.sdk(sidecar.port, None)
        bot.open("real", "trade", key=keys["real"])
        bot.open("real2", "trade", key=keys["real2"])
        bot.open("paper", "trade", key=keys["paper"])
        bot.open("admin", "quote", key=keys["admin"])
        bot.open("one", "quote", key=keys["one"])
        bot.open("two", "quote", key=keys["two"])
        yield Office(sandbox, sidecar, keys, bot)


def test_unlocking_is_answered_for_a_key_that_trades_for_real_and_no_password_goes_to_opend(office: Office) -> None:
    """The owner unlocks OpenD; a bot that unlocks at its start is told yes and runs on."""
    assert office.bot.call("real", "unlock_trade", "a wrong password").ok
    assert office.sandbox.received(2005) == []
    assert not office.sandbox.sandbox.trading.unlocked
    line = office.sidecar.wait_audit(key_id="real", endpoint="unlock_trade proto_id=2005")
    assert line["outcome"] == "allow"
    assert "password" not in office.sidecar.audit_file.read_text()


def test_locking_by_one_bot_does_not_lock_the_others_out(office: Office) -> None:
    office.sandbox.do(lambda: setattr(office.sandbox.sandbox.trading, "unlocked", True))
    assert office.bot.call("real", "unlock_trade", is_unlock=False).ok
    assert office.sandbox.sandbox.trading.unlocked
    order: dict[str, Any] = {"price": 400, "qty": 100, "code": "HK.00700", "trd_side": "BUY", "trd_env": "REAL"}
    assert office.bot.call("real", "place_order", **order).code() == "trading_halted", "it locked itself out"
    _place_and_cancel(office, "real2", order)
    assert office.bot.call("real", "unlock_trade", "a wrong password").ok
    _place_and_cancel(office, "real", order)


def _place_and_cancel(office: Office, bot: str, order: dict[str, Any]) -> None:
    placed = office.bot.call(bot, "place_order", **order)
    assert placed.ok, placed.data
    office.bot.call(bot, "modify_order", "CANCEL", placed.data[0]["order_id"], 0, 0, trd_env="REAL")


def test_a_key_without_real_trading_cannot_unlock(office: Office) -> None:
    answer = office.bot.call("paper", "unlock_trade", "123456")
    assert answer.code() == "scope", answer.data
    assert office.sandbox.received(2005) == []


def test_who_the_user_is_only_an_admin_key_may_ask(office: Office) -> None:
    assert office.bot.call("one", "get_user_info").code() == "scope"
    before = len(office.sandbox.received(1005))
    assert before == 0
    assert office.bot.call("admin", "get_user_info").code() is None
    assert len(office.sandbox.received(1005)) == 1


def test_subscriptions_of_other_connections_are_never_shown(office: Office) -> None:
    bot = office.bot
    assert bot.call("one", "subscribe", ["HK.00700"], ["QUOTE"]).ok
    assert bot.call("two", "subscribe", ["US.AAPL", "HK.00123"], ["TICKER"]).ok
    shown = bot.call("one", "query_subscription", is_all_conn=True)
    assert shown.ok, shown.data
    assert shown.data["sub_list"] == {"QUOTE": ["HK.00700"]}
    assert "US.AAPL" not in str(shown.data)
    assert all(not one.c2s.get("isReqAllConn") for one in office.sandbox.received(3003))


def test_pushes_go_to_the_connection_that_subscribed(office: Office) -> None:
    bot = office.bot
    assert bot.call("one", "subscribe", ["HK.00005"], ["QUOTE"]).ok
    office.sandbox.set_price("HK.00005", "73")
    bot.wait_push("quote", lambda data: (data[0][0]["code"], data[0][0]["last_price"]) == ("HK.00005", 73))
    assert {push["context"] for push in bot.pushes() if "HK.00005" in str(push["data"])} == {"one"}
