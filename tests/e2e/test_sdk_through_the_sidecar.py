"""The official SDK's everyday work through the sidecar: in clear, encrypted on both sides, and with JSON bodies."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from live import Stage
from ways import WAYS, Scene, set_up

TRADER = ("qot:read", "acc:read", "trade:simulate")


@pytest.fixture(scope="module", params=WAYS)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp(request.param)) as stage:
        key = stage.keys.add("bot", *TRADER)
        made = set_up(stage, request.param, key, relaxed_paper=True)
        made.bot.open("quotes", "quote")
        made.bot.open("trade", "trade")
        yield made


def test_quotes_are_read_subscribed_and_pushed(scene: Scene) -> None:
    bot = scene.bot
    assert bot.call("quotes", "get_global_state").ok
    snapshot = bot.call("quotes", "get_market_snapshot", ["HK.00700"])
    assert snapshot.ok
    assert snapshot.data[0]["code"] == "HK.00700"
    assert bot.call("quotes", "subscribe", ["HK.00700", "US.AAPL"], ["QUOTE", "ORDER_BOOK"]).ok
    assert bot.wait_push("quote", lambda data: data[0][0]["code"] == "HK.00700")
    assert bot.wait_push("book", lambda data: data[0]["code"] == "US.AAPL")
    book = bot.call("quotes", "get_order_book", "HK.00700")
    assert book.ok
    assert book.data["Bid"]


def test_the_accounts_are_listed(scene: Scene) -> None:
    bot = scene.bot
    accounts = bot.call("trade", "get_acc_list")
    assert accounts.ok
    assert {(one["acc_id"], one["trd_env"]) for one in accounts.data} >= {(1001001, "SIMULATE"), (281756455000000001, "REAL")}  # fmt: skip


def test_a_paper_order_is_placed_seen_in_pushes_and_cancelled(scene: Scene) -> None:
    bot = scene.bot
    placed = bot.place("HK.00700", 400, 100)
    assert placed.ok, placed.data
    order_id = placed.data[0]["order_id"]
    assert placed.data[0]["order_status"] in ("SUBMITTING", "SUBMITTED")
    bot.wait_push(
        "order", lambda data: data[0][0]["order_id"] == order_id and data[0][0]["order_status"] == "SUBMITTED"
    )
    listed = bot.call("trade", "order_list_query", trd_env="SIMULATE")
    assert order_id in [one["order_id"] for one in listed.data]
    assert bot.cancel(order_id).ok
    bot.wait_push("order", lambda data: data[0][0]["order_id"] == order_id and data[0][0]["order_status"] == "CANCELLED_ALL")  # fmt: skip
    assert [order["price"] for order in scene.sandbox.orders()].count(400) == 1


def test_a_marketable_order_is_filled_and_the_fill_is_pushed(scene: Scene) -> None:
    bot = scene.bot
    placed = bot.place("HK.00700", 500, 100)
    assert placed.ok, placed.data
    order_id = placed.data[0]["order_id"]
    fill = bot.wait_push("deal", lambda data: data[0][0]["order_id"] == order_id)
    assert fill[0][0]["qty"] == 100
    bot.wait_push("order", lambda data: data[0][0]["order_id"] == order_id and data[0][0]["order_status"] == "FILLED_ALL")  # fmt: skip


def test_the_secret_is_never_passed_on_to_opend(scene: Scene) -> None:
    assert scene.bot.call("quotes", "get_global_state").ok
    assert {record.client_id for record in scene.sandbox.everything()} == {"opend-sidecar"}
    secret = subprocess.run(
        ["grep", "-rl", "fc_", str(scene.sidecar.folder)], capture_output=True, text=True, check=False
    )
    assert secret.stdout == ""
