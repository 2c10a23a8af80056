"""Keys that trade but do not read accounts: the SDK's place_order works, and each sees its own orders and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from live import LiveSandbox, LiveSidecar, Stage, eventually
from official_sdk import SdkProcess

BLIND = ("qot:read", "trade:simulate")


@dataclass(frozen=True)
class Pair:
    """Two bots on one paper account, `left` and `right`, and `reader`, which has acc:read."""

    sandbox: LiveSandbox
    sidecar: LiveSidecar
    left: SdkProcess
    right: SdkProcess
    reader: SdkProcess


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Stage(tmp_path_factory.mktemp("pair")) as stage:
        left_key, right_key = stage.keys.add("left", *BLIND), stage.keys.add("right", *BLIND)
        reader_key = stage.keys.add("reader", "qot:read", "acc:read", allowed_acc_ids=[1001001])
        sandbox = stage.sandbox(tick_interval=0, relaxed_paper=True)
        sidecar = stage.sidecar(sandbox.port)
        bots = [stage.sdk(sidecar.port, key) for key in (left_key, right_key, reader_key)]
        for bot in bots:
            bot.open("trade", "trade")
        yield Pair(sandbox, sidecar, *bots)


def orders(bot: SdkProcess) -> set[str]:
    listed = bot.call("trade", "order_list_query", trd_env="SIMULATE", acc_id=1001001)
    assert listed.ok, listed.data
    return {one["order_id"] for one in listed.data}


def deals(bot: SdkProcess) -> set[str]:
    listed = bot.call("trade", "deal_list_query", trd_env="SIMULATE", acc_id=1001001)
    assert listed.ok, listed.data
    return {one["order_id"] for one in listed.data}


def pushed(bot: SdkProcess) -> set[str]:
    """The orders and fills that this bot was pushed."""
    return {push["data"][0][0]["order_id"] for push in bot.pushes() if push["kind"] in ("order", "deal")}


def kinds(bot: SdkProcess) -> set[str]:
    return {push["kind"] for push in bot.pushes()}


def placed(bot: SdkProcess, price: float, **kwargs: Any) -> str:
    answer = bot.place("HK.00700", price, 100, **kwargs)
    assert answer.ok, answer.data
    row = answer.data[0]
    assert row["qty"] == 100, "the SDK found its order in 2201 after placing it"
    return str(row["order_id"])


def test_only_paper_accounts_are_listed(pair: Pair) -> None:
    accounts = pair.left.call("trade", "get_acc_list")
    assert accounts.ok
    assert accounts.data
    assert {one["trd_env"] for one in accounts.data} == {"SIMULATE"}


def test_an_account_not_on_the_whitelist_is_not_listed(pair: Pair) -> None:
    accounts = pair.reader.call("trade", "get_acc_list")
    assert [one["acc_id"] for one in accounts.data] == [1001001]


def test_each_bot_lists_and_is_pushed_its_own_orders_and_fills_only(pair: Pair) -> None:
    left, right, reader = pair.left, pair.right, pair.reader
    mine, theirs = placed(left, 400), placed(right, 401)
    filled, also_filled = placed(left, 500), placed(right, 501)
    eventually(lambda: pushed(left) >= {mine, filled} and "deal" in kinds(left), 10, "the left bot's pushes")
    eventually(lambda: pushed(right) >= {theirs, also_filled} and "deal" in kinds(right), 10, "the right bot's pushes")
    eventually(lambda: pushed(reader) >= {mine, theirs, filled, also_filled}, 5, "acc:read sees all of the account")
    time.sleep(2.2)  # pushes of unknown owners are held for 2 s, then dropped

    assert pushed(left) == {mine, filled}
    assert pushed(right) == {theirs, also_filled}
    assert orders(left) >= {mine, filled}
    assert not orders(left) & {theirs, also_filled}
    assert not orders(right) & {mine, filled}
    assert orders(reader) >= {mine, theirs, filled, also_filled}
    assert deals(left) == {filled}
    assert deals(right) == {also_filled}
    assert pair.sidecar.metric("futu_ws_filtered_pushes_total", key_id="left") > 0


def test_another_bots_order_can_neither_be_cancelled_nor_changed(pair: Pair) -> None:
    theirs = placed(pair.right, 402)
    before = len(pair.sandbox.received(2205))
    answer = pair.left.cancel(theirs)
    assert answer.code() == "not_own_order", answer.data
    changed = pair.left.call(
        "trade", "modify_order", modify_order_op="NORMAL", order_id=theirs, qty=200, price=402, trd_env="SIMULATE"
    )
    assert changed.code() == "not_own_order", changed.data
    assert len(pair.sandbox.received(2205)) == before
    assert theirs in orders(pair.right)
    assert pair.right.cancel(theirs).ok


def test_nothing_about_the_account_itself_can_be_read(pair: Pair) -> None:
    for method in ("accinfo_query", "position_list_query", "history_order_list_query", "history_deal_list_query"):
        answer = pair.left.call("trade", method, trd_env="SIMULATE")
        assert answer.code() == "scope", (method, answer.data)


def test_after_kill_9_each_still_knows_its_own_orders(pair: Pair) -> None:
    mine, theirs = placed(pair.left, 403), placed(pair.right, 404)
    pair.sidecar.kill()
    pair.sidecar.start()
    # the SDK tries every 6 s
    listed = pair.left.call("trade", "order_list_query", trd_env="SIMULATE", timeout=15)
    assert listed.ok, listed.data
    ids = {one["order_id"] for one in listed.data}
    assert mine in ids
    assert theirs not in ids
    assert pair.left.cancel(theirs).code() == "not_own_order"
    assert pair.left.cancel(mine).ok


def test_after_opend_was_away_neither_can_see_cancel_or_change_the_others_orders(pair: Pair) -> None:
    mine, theirs = placed(pair.left, 405), placed(pair.right, 406)
    pair.sandbox.stop()
    eventually(lambda: pair.sidecar.get("/readyz")[0] == 503, 5, "the sidecar to notice")
    pair.sandbox.start()
    for bot, own, other in ((pair.left, mine, theirs), (pair.right, theirs, mine)):
        listed = bot.call("trade", "order_list_query", trd_env="SIMULATE", acc_id=1001001, timeout=20)
        assert listed.ok, listed.data
        ids = {one["order_id"] for one in listed.data}
        assert own in ids
        assert other not in ids
        for changed in ({"modify_order_op": "NORMAL", "qty": 200, "price": 405}, {"modify_order_op": "DISABLE"}):
            refused = bot.call(
                "trade", "modify_order", order_id=other, trd_env="SIMULATE", **{"qty": 0, "price": 0, **changed}
            )
            assert refused.code() == "not_own_order", refused.data
        assert bot.cancel(other).code() == "not_own_order"
    before = len(pair.sandbox.received(2205))
    changed = pair.left.call(
        "trade", "modify_order", modify_order_op="NORMAL", order_id=mine, qty=200, price=405, trd_env="SIMULATE"
    )
    assert changed.ok, changed.data
    assert pair.left.cancel(mine).ok
    assert pair.right.cancel(theirs).ok
    assert len(pair.sandbox.received(2205)) == before + 3
