"""The official JavaScript SDK at the WebSocket door, as its users run it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from live import LiveSandbox, LiveSidecar, Stage, eventually
from official_js_sdk import JsSdk
from websocket_client import key_with_md5

TENCENT = {"market": 1, "code": "00700"}
ORDER_PUSH, BASIC_QUOTE_PUSH = 2208, 3005
CANCELLED = 15
_serials = count(1)


class Here:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.key = key_with_md5(
            stage.keys,
            "bot",
            "qot:read",
            "acc:read",
            "trade:simulate",
            allowed_acc_ids=[1001001],
            max_order_value=100_000,
        )
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        self.sidecar: LiveSidecar = stage.sidecar(self.sandbox.port)

    @property
    def port(self) -> int:
        return self.sidecar.doors["websocket"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with Stage(tmp_path_factory.mktemp("js")) as stage:
        yield Here(stage)


@pytest.fixture
def sdk() -> Iterator[JsSdk]:
    with JsSdk() as made:
        yield made


@pytest.fixture
def bot(here: Here, sdk: JsSdk) -> JsSdk:
    sdk.start(here.port, here.key)
    sdk.logged_in()
    return sdk


def order(conn_id: int, *, price: float, qty: int = 100) -> dict[str, Any]:
    return {
        "packetID": {"connID": str(conn_id), "serialNo": next(_serials)},
        "header": {"trdEnv": 0, "accID": "1001001", "trdMarket": 1},
        "trdSide": 1, "orderType": 1, "code": "00700", "qty": qty, "price": price, "secMarket": 1,
    }  # fmt: skip


def cancel(conn_id: int, order_id_ex: str) -> dict[str, Any]:
    return {
        "packetID": {"connID": str(conn_id), "serialNo": next(_serials)},
        "header": {"trdEnv": 0, "accID": "1001001", "trdMarket": 1},
        "orderID": "0", "orderIDEx": order_id_ex, "modifyOrderOp": 2,
    }  # fmt: skip


def test_a_right_key_logs_in_and_reads(here: Here, sdk: JsSdk) -> None:
    sdk.start(here.port, here.key)
    conn_id = sdk.logged_in()
    state = sdk.call("GetGlobalState", {"userID": "0"})
    assert state.ok, state.text
    assert state.message["s2c"]["connID"] == str(conn_id), "OpenD knows the connection by this number"
    quotes = sdk.call("GetSecuritySnapshot", {"securityList": [TENCENT]})
    assert quotes.ok, quotes.text
    assert quotes.message["s2c"]["snapshotList"][0]["basic"]["security"]["code"] == "00700"


def test_a_wrong_key_is_told_once_and_does_not_come_back(here: Here, sdk: JsSdk) -> None:
    keys = {"wrong": "fc_" + "0" * 64, "none": None}
    for name, key in keys.items():
        sdk.start(here.port, key, name)
    for name in keys:
        event = sdk.wait("login", name=name)
        assert (event["ok"], event["detail"]) == (False, "401")
    time.sleep(2.0)  # it would reconnect after one second
    for name in keys:
        assert len(sdk.of("login", name)) == 1
        assert len(sdk.of("closed", name)) == 1
    for code in ("key_missing", "key_unknown"):
        assert here.sidecar.metric("sidecar_refusals_total", iface="ws", code=code) == 1


def test_a_quote_subscribed_to_is_pushed(here: Here, bot: JsSdk) -> None:
    subscribed = bot.call(
        "Sub", {"securityList": [TENCENT], "subTypeList": [1], "isSubOrUnSub": True, "isRegOrUnRegPush": True}
    )
    assert subscribed.ok, subscribed.text
    here.sandbox.set_price("HK.00700", "512.5")
    push = bot.wait("push", cmd=BASIC_QUOTE_PUSH)
    eventually(lambda: any(p["message"]["s2c"]["basicQotList"][0]["curPrice"] == 512.5 for p in bot.of("push")))
    assert push["message"]["s2c"]["basicQotList"][0]["security"]["code"] == "00700"


def test_an_order_is_placed_pushed_and_cancelled(here: Here, bot: JsSdk) -> None:
    conn_id = int(bot.wait("login")["detail"])
    assert bot.call("SubAccPush", {"accIDList": ["1001001"]}).ok
    placed = bot.call("PlaceOrder", order(conn_id, price=300))
    assert placed.ok, placed.text
    order_id = placed.message["s2c"]["orderIDEx"]
    push = bot.wait("push", cmd=ORDER_PUSH)
    assert push["message"]["s2c"]["order"]["orderIDEx"] == order_id
    cancelled = bot.call("ModifyOrder", cancel(conn_id, order_id))
    assert cancelled.ok, cancelled.text

    def status() -> int:
        listed = bot.call("GetOrderList", {"header": {"trdEnv": 0, "accID": "1001001", "trdMarket": 1}})
        return {one["orderIDEx"]: int(one["orderStatus"]) for one in listed.message["s2c"]["orderList"]}[order_id]

    eventually(lambda: status() == CANCELLED)


def test_a_refused_order_rejects_with_the_sidecars_words(here: Here, bot: JsSdk) -> None:
    conn_id = int(bot.wait("login")["detail"])
    before = len(here.sandbox.orders())
    refused = bot.call("PlaceOrder", order(conn_id, price=300, qty=400))
    assert not refused.ok
    assert refused.message["retType"] == -1
    assert refused.text.startswith(
        "[sidecar:order_value] order value 120000 HKD is over the limit of 100000 HKD (decision "
    )
    assert len(here.sandbox.orders()) == before


def test_a_revoked_key_ends_the_connection_within_a_second_and_is_told_at_the_next_login(
    here: Here, sdk: JsSdk
) -> None:
    key = key_with_md5(here.stage.keys, "short-lived", "qot:read")
    here.sidecar.wait_keys()
    sdk.start(here.port, key)
    sdk.logged_in()
    here.stage.keys.remove("short-lived")
    started = time.monotonic()
    closed = sdk.wait("closed")
    assert time.monotonic() - started < 1.5  # noticing the file takes half a second of it
    assert closed["code"] == 1008
    assert closed["reason"].startswith("[sidecar:key_revoked] ")
    event = sdk.wait("login", ok=False)
    assert event["detail"] == "401"
    time.sleep(1.2)
    assert len(sdk.of("login")) == 2, "it is told once, and stays away"


def test_when_opend_goes_the_sdk_is_told_and_comes_back_with_it(here: Here, sdk: JsSdk) -> None:
    sdk.start(here.port, here.key)
    first = sdk.logged_in()
    here.sandbox.stop()
    lost = sdk.wait("raw", cmd=2)
    assert (lost["error"], lost["errmsg"]) == (3, "")
    assert sdk.wait("closed")["code"] == 1012
    away = sdk.wait("closed", code=1013)
    assert away["reason"].startswith("[sidecar:upstream_unavailable] ")
    assert len(sdk.of("login")) == 1, "a refused login would be the SDK's last"
    here.sandbox.start()
    second = sdk.logged_in(timeout=10, after=sdk.events.index(away))
    assert second != first
    assert sdk.call("GetGlobalState", {"userID": "0"}).ok
