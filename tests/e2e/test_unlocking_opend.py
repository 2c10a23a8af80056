"""Bots of the official SDK in front of an OpenD that starts locked: with an owner who unlocks it, and a sidecar that does."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path

import pytest
from live import LiveApp, LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import Answer, SdkProcess
from prometheus_client.parser import text_string_to_metric_families
from test_halt import command

TRADER = ("qot:read", "acc:read", "trade:real")
ACC = 281756455000000001
UNLOCK = 2005
PASSWORD = "123456"
MD5 = hashlib.md5(PASSWORD.encode(), usedforsecurity=False).hexdigest()


def password_file(stage: Stage, text: str = PASSWORD) -> dict[str, str]:
    path = stage.folder / "trade-password"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return {"mode": "sidecar", "password_file": str(path)}


def place(sdk: SdkProcess) -> Answer:
    return sdk.place("HK.00700", 300, 100, trd_env="REAL", acc_id=ACC)


def cancel(sdk: SdkProcess, placed: Answer) -> Answer:
    return sdk.cancel(placed.data[0]["order_id"], trd_env="REAL", acc_id=ACC)


def by_hand(sandbox: LiveSandbox, *, unlocked: bool) -> None:
    """As the owner does it in OpenD's own window."""
    sandbox.do(lambda: setattr(sandbox.sandbox.trading, "unlocked", unlocked))


def unlocked(sandbox: LiveSandbox) -> bool:
    return sandbox.do(lambda: bool(sandbox.sandbox.trading.unlocked))


def locked_metric(sidecar: LiveSidecar | LiveApp) -> float:
    families = text_string_to_metric_families(sidecar.get("/metrics")[1])
    return next(one.samples[0].value for one in families if one.name == "sidecar_upstream_locked")


@pytest.mark.parametrize("mode", ["owner", "sidecar"])
def test_a_bot_that_unlocks_at_its_start_and_at_each_reconnect_runs_unchanged(
    stage: Stage, sandbox: LiveSandbox, mode: str
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port, unlock=password_file(stage) if mode == "sidecar" else {})
    by_hand(sandbox, unlocked=mode == "owner")
    sdk = stage.sdk(sidecar.port, key)
    sdk.open("trade", "trade")

    assert sdk.call("trade", "unlock_trade", "the bot's own, of no use to OpenD").ok
    assert place(sdk).ok
    assert cancel(sdk, place(sdk)).ok

    sandbox.stop()
    by_hand(sandbox, unlocked=mode == "owner")
    sandbox.start()
    again = eventually(lambda: [answer for answer in [place(sdk)] if answer.ok], 30, "an order after the reconnect")
    assert cancel(sdk, again[0]).ok
    asked = sandbox.received(UNLOCK)
    assert len(asked) == (0 if mode == "owner" else 2), "once for each life of OpenD"
    assert all(one.c2s["pwdMD5"] == MD5 and one.c2s["securityFirm"] == 1 for one in asked)


def test_a_key_without_trade_real_sends_no_real_order_whether_opend_is_locked_or_not(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    keys = [
        stage.keys.add("paper", "qot:read", "acc:read", "trade:simulate"),
        stage.keys.add("opener", "qot:read", "acc:read", "trade:unlock", "trade:simulate"),
    ]
    sidecar = stage.sidecar(sandbox.port, unlock=password_file(stage))
    bots = [stage.sdk(sidecar.port, key) for key in keys]
    for sdk in bots:
        sdk.open("trade", "trade")
    assert bots[0].call("trade", "unlock_trade", PASSWORD).code() == "scope"
    assert bots[1].call("trade", "unlock_trade", PASSWORD).ok
    for state in (False, True):
        by_hand(sandbox, unlocked=state)
        assert [place(sdk).code() for sdk in bots] == ["scope", "scope"]
    assert sandbox.orders() == []
    assert sandbox.received(UNLOCK) == []


def test_the_sidecar_unlocks_for_the_first_real_order_and_the_password_is_nowhere_to_be_read(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port, unlock=password_file(stage), log={"json": True, "level": "debug"})
    sdk = stage.sdk(sidecar.port, key)
    sdk.open("trade", "trade")
    assert sdk.call("trade", "unlock_trade", "tr4de-by-the-bot").ok
    assert not unlocked(sandbox), "a bot's unlock sends nothing to OpenD"
    assert math.isnan(locked_metric(sidecar))

    assert place(sdk).ok

    assert unlocked(sandbox)
    assert locked_metric(sidecar) == 0
    told = command(sidecar, "status")
    assert "real trading: OpenD is unlocked" in told.stdout
    assert sdk.call("trade", "accinfo_query", trd_env="REAL", acc_id=ACC).ok
    sidecar.wait_audit(endpoint="place_order proto_id=2202", outcome="success")
    everything = [sidecar.log_text(), told.stdout, command(sidecar, "status", "--json").stdout]
    everything += [sidecar.get(page)[1] for page in ("/readyz", "/metrics")]
    everything += [path.read_text(errors="replace") for path in _files(sidecar.folder)]
    bots_own = hashlib.md5(b"tr4de-by-the-bot", usedforsecurity=False).hexdigest()
    for secret in (MD5, bots_own, "tr4de-by-the-bot", f'"{PASSWORD}"'):
        assert not [text[:200] for text in everything if secret in text], secret
    sidecar.stop()
    assert not unlocked(sandbox), "a sidecar that ends locks what it has unlocked"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_opend_is_locked_after_idle_time_and_unlocked_for_the_cancel_of_what_still_rests(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.app(sandbox.port, unlock=password_file(stage))
    sdk = stage.sdk(sidecar.port, key)
    sdk.open("trade", "trade")
    placed = place(sdk)
    assert placed.ok and unlocked(sandbox)

    sidecar.app.unlocking._idle = 0.5
    eventually(lambda: not unlocked(sandbox), 5, "OpenD to be locked again")
    assert locked_metric(sidecar) == 1
    assert '"opend_lock":"locked"' in sidecar.get("/readyz")[1]
    assert sidecar.get("/readyz")[0] == 200, "locked is no reason not to be ready: the next order unlocks it"
    sidecar.app.unlocking._idle = None

    assert cancel(sdk, placed).ok
    assert unlocked(sandbox)


def test_a_halt_that_cancels_orders_unlocks_opend_for_that(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.app(sandbox.port, unlock=password_file(stage))
    sdk = stage.sdk(sidecar.port, key)
    sdk.open("trade", "trade")
    assert place(sdk).ok
    sidecar.app.unlocking._idle = 0.5
    eventually(lambda: not unlocked(sandbox), 5, "OpenD to be locked again")
    sidecar.app.unlocking._idle = None
    done = command(sidecar, "halt", "--cancel-orders", "--reason", "fat finger")
    assert done.returncode == 0, done
    listed = sdk.call("trade", "order_list_query", trd_env="REAL", acc_id=ACC)
    assert {row["order_status"] for row in listed.data} == {"CANCELLED_ALL"}


def test_a_wrong_password_refuses_real_orders_and_is_not_tried_with_each_of_them(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_orders_per_minute=100)
    sidecar = stage.sidecar(sandbox.port, unlock=password_file(stage, "999999"))
    sdk = stage.sdk(sidecar.port, key)
    sdk.open("trade", "trade")
    answers = [place(sdk) for _ in range(5)]
    assert {answer.code() for answer in answers} == {"upstream_unavailable"}
    assert "OpenD is locked and refuses to be unlocked: The trade password is wrong" in answers[0].data
    assert len(sandbox.received(UNLOCK)) == 1
    assert sandbox.orders() == []
    sidecar.wait_audit(endpoint="place_order proto_id=2202", outcome="reject", reason="upstream_unavailable")
    assert place(sdk).code() == "upstream_unavailable"


def test_where_the_owner_has_not_unlocked_the_bot_reads_opends_words_and_the_owner_sees_it(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    sdk = stage.sdk(sidecar.port, key)
    sdk.open("trade", "trade")
    assert "whether OpenD is unlocked is not known" in command(sidecar, "status").stdout
    assert place(sdk).data == "Trading is locked, please unlock trade first"
    eventually(lambda: locked_metric(sidecar) == 1, 3, "the lock to be known")
    assert "OpenD is LOCKED" in command(sidecar, "status").stdout
    assert sidecar.get("/readyz")[0] == 200
    by_hand(sandbox, unlocked=True)
    assert place(sdk).ok
    eventually(lambda: locked_metric(sidecar) == 0, 3, "the lock to be known as open")


def test_a_bot_that_locks_at_its_end_locks_its_own_key_and_no_other(stage: Stage, sandbox: LiveSandbox) -> None:
    keys = [stage.keys.add(name, *TRADER) for name in ("one", "two")]
    sidecar = stage.sidecar(sandbox.port, unlock=password_file(stage))
    one, two = (stage.sdk(sidecar.port, key) for key in keys)
    for sdk in (one, two):
        sdk.open("trade", "trade")
    placed = place(one)
    assert placed.ok

    assert one.call("trade", "unlock_trade", is_unlock=False).ok
    refused = place(one)
    assert refused.code() == "trading_halted"
    assert "real trading under this key was locked by one of its own clients since" in refused.data
    assert cancel(one, placed).ok, "cancels still work"
    assert place(two).ok
    assert unlocked(sandbox)

    assert one.call("trade", "unlock_trade", "whatever").ok
    assert place(one).ok
    time.sleep(0.1)
    assert len(sandbox.received(UNLOCK)) == 1
