"""Changes of orders through the official SDK: held against the caps as the whole order they lead to, one after the other or
at once, and never of another key's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from live import MODIFY_ORDER, LiveApp, LiveSandbox, Stage, eventually
from official_sdk import Answer, SdkProcess
from raw_client import RawClient, code_of
from rest_client import PAPER_HK
from rest_client import RestClient as Rest

from sidecar.change_budget import ChangeLimit
from sidecar.sandbox.orders import MATCHABLE

TRADER = ("qot:read", "acc:read", "trade:simulate")
LIMIT = 100_000


@dataclass(frozen=True)
class Scene:
    sandbox: LiveSandbox
    sidecar: LiveApp
    bot: SdkProcess
    """Two contexts of one key: `trade` and `second`."""
    rival: SdkProcess
    keys: dict[str, str]

    def placed(self, qty: float = 100, price: float = 500, **more: Any) -> str:
        answer = self.bot.place("HK.00700", price, qty, **more)
        assert answer.ok, answer.data
        return str(answer.data[0]["order_id"])

    def changed(self, order_id: str, qty: float, price: float, bot: SdkProcess | None = None, **more: Any) -> Answer:
        return (bot or self.bot).call("trade", "modify_order", **self.change(order_id, qty, price, **more))

    @staticmethod
    def change(order_id: str, qty: float, price: float, **more: Any) -> dict[str, Any]:
        how = {"modify_order_op": "NORMAL", "order_id": order_id, "qty": qty, "price": price, "trd_env": "SIMULATE"}
        return {**how, **more}

    def listed(self, order_id: str) -> tuple[float, float]:
        """What OpenD itself has: quantity and price."""
        (order,) = [one for one in self.sandbox.working() if one.text_id == order_id]
        return float(order.quantity), float(order.price)

    def arrived(self) -> list[tuple[float, float]]:
        """Quantity and price of every change that reached OpenD."""
        seen = [record.c2s for record in self.sandbox.received(MODIFY_ORDER)]
        return [(c2s["qty"], c2s["price"]) for c2s in seen if c2s["modifyOrderOp"] == 1]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Stage(tmp_path_factory.mktemp("changes")) as stage:
        keys = {
            "bot": stage.keys.add("bot", *TRADER, max_order_value=LIMIT),
            "day": stage.keys.add("day", *TRADER, max_daily_value=LIMIT),
            "rival": stage.keys.add("rival", *TRADER),
            "sweeper": stage.keys.add("sweeper", "trade:cancel"),
        }
        sandbox = stage.sandbox(tick_interval=0, relaxed_paper=True, limits=False)
        sandbox.set_price("HK.00700", "510")
        sidecar = stage.app(sandbox.port)
        # these tests change more orders than OpenD takes in their time; what is kept of that for cancels has its own tests
        sidecar.do(setattr, sidecar.app.changes, "limit", ChangeLimit(most=10_000))
        bot, rival = stage.sdk(sidecar.port, keys["bot"]), stage.sdk(sidecar.port, keys["rival"])
        bot.open("trade", "trade")
        bot.open("second", "trade")
        rival.open("trade", "trade")
        yield Scene(sandbox, sidecar, bot, rival, keys)


@pytest.fixture(autouse=True)
def swept(scene: Scene) -> Iterator[None]:
    """Every order is cancelled in the end: what it holds back is there for the next."""
    yield
    client = RawClient(scene.sidecar.port, scene.keys["sweeper"])
    try:
        for order in scene.sandbox.working():
            client.ask(MODIFY_ORDER, client.cancel_request(order.text_id))
    finally:
        client.close()


def test_a_change_from_50000_to_150000_is_refused_and_the_order_is_as_it_was(scene: Scene) -> None:
    order = scene.placed()
    before = len(scene.arrived())
    answer = scene.changed(order, 300, 500)
    assert answer.code() == "order_value", answer.data
    assert "order value 150000 HKD is over the limit of 100000 HKD" in answer.data
    assert len(scene.arrived()) == before
    told = scene.bot.call("trade", "order_list_query", order_id=order, trd_env="SIMULATE")
    assert (told.data[0]["qty"], told.data[0]["price"]) == scene.listed(order) == (100, 500)


def test_a_change_within_the_limit_passes_and_is_recorded_with_what_it_leads_to(scene: Scene) -> None:
    order = scene.placed()
    answer = scene.changed(order, 200, 450)
    assert answer.ok, answer.data
    assert scene.listed(order) == (200, 450)
    line = scene.sidecar.wait_audit(key_id="bot", outcome="allow", order_id_ex=order)
    assert (line["symbol"], line["side"], line["qty"], line["value"]) == ("HK.00700", "BUY", 200, 90000)


def test_by_two_changes_sent_at_once_no_order_comes_to_150000(scene: Scene) -> None:
    for _ in range(5):
        order = scene.placed()
        before = len(scene.arrived())
        calls = [
            {"context": context, "method": "modify_order", "args": [], "kwargs": scene.change(order, qty, price)}
            for context, qty, price in (("trade", 200, 450), ("second", 300, 500))
        ]
        first, second = scene.bot.together(calls)
        assert first.ok, first.data
        assert second.code() == "order_value", second.data
        assert scene.arrived()[before:] == [(200, 450)]
        assert scene.listed(order) == (200, 450)


def test_by_changes_of_one_field_each_sent_in_one_write_no_order_comes_to_more_than_the_limit(scene: Scene) -> None:
    """1,000 at 50. Twice as many fit and so does twice the price; both would be 200,000, and neither is what either asked."""
    client = RawClient(scene.sidecar.port, scene.keys["bot"])
    before = len(scene.arrived())
    try:
        for _ in range(5):
            order = scene.placed(1000, 50)
            fields: list[dict[str, Any]] = [
                {"qty": 2000},
                {"price": 100},
                {"qty": 2000},
                {"qty": 2100},
                {"price": 101},
            ]
            built = [client.frame(MODIFY_ORDER, client.change_request(order, **each)) for each in fields]
            client.write(b"".join(data for _, data in built))
            codes = [code_of(client.reply(serial)) for serial, _ in built]
            assert codes[:2] == [None, None]
            assert codes[3:] == ["order_value", "order_value"]
            qty, price = scene.listed(order)
            assert qty * price <= LIMIT
        arrived = scene.arrived()[before:]
        assert len(arrived) >= 10
        assert all(qty * price <= LIMIT for qty, price in arrived)
    finally:
        client.close()


def test_a_price_alone_is_sent_on_with_the_quantity_it_was_judged_with(scene: Scene) -> None:
    order = scene.placed()
    client = RawClient(scene.sidecar.port, scene.keys["bot"])
    try:
        reply = client.ask(MODIFY_ORDER, client.change_request(order, price=505.0))
    finally:
        client.close()
    assert reply.retType == 0, reply.retMsg
    assert scene.arrived()[-1] == (100, 505)


def test_the_day_counts_what_orders_grow_by_and_nothing_twice(scene: Scene) -> None:
    client = RawClient(scene.sidecar.port, scene.keys["day"])
    try:
        order = client.ask(2202, client.order_request(price=500)).s2c.orderIDEx
        for qty, price in ((200, 450), (100, 500), (200, 450), (200, 500)):
            reply = client.ask(MODIFY_ORDER, client.change_request(order, qty=qty, price=price))
            assert reply.retType == 0, (qty, price, reply.retMsg)
        reply = client.ask(MODIFY_ORDER, client.change_request(order, qty=200, price=500.2))
        assert code_of(reply) == "daily_value", reply.retMsg
        assert "100000 used + 40 this change = 100040 HKD" in reply.retMsg
        cancelled = client.ask(MODIFY_ORDER, client.cancel_request(order))
        assert cancelled.retType == 0, "and a cancel gives nothing back"
        assert code_of(client.ask(2202, client.order_request(price=5, qty=100))) == "daily_value"
    finally:
        client.close()
    assert scene.sidecar.metric("sidecar_ledger_headroom", key_id="day", limit="max_daily_value") == 0


def test_enabling_counts_as_a_new_order(scene: Scene) -> None:
    order = scene.placed(100, 500)
    for op in ("DISABLE", "ENABLE"):
        answer = scene.changed(order, 0, 0, modify_order_op=op)
        assert answer.ok, (op, answer.data)
    records = scene.sidecar.audit(key_id="bot", outcome="allow", order_id_ex=order)
    assert [(line.get("value"), line["qty"]) for line in records][-2:] == [(None, 100), (50000, 100)]


def test_a_sale_changed_to_almost_nothing_counts_at_the_market(scene: Scene) -> None:
    order = scene.placed(100, 600, side="SELL")
    answer = scene.changed(order, 200, 0.01)
    assert answer.code() == "order_value", answer.data
    assert "order value 102000 HKD" in answer.data
    assert scene.changed(order, 100, 610).ok


def test_a_market_stop_cannot_be_moved_to_twice_the_market(scene: Scene) -> None:
    order = scene.placed(100, 0.01, order_type="STOP", aux_price=600)
    answer = scene.changed(order, 100, 0.01, aux_price=1020)
    assert answer.code() == "order_value", answer.data
    assert "order value 107100 HKD" in answer.data
    assert scene.changed(order, 100, 0.01, aux_price=620).ok


@pytest.mark.parametrize("named_by", ["orderIDEx", "orderID"])
def test_another_keys_order_is_not_changed_by_either_of_its_ids(named_by: str, scene: Scene) -> None:
    order = scene.placed()
    number = next(one.number for one in scene.sandbox.working() if one.text_id == order)
    before = len(scene.arrived())
    client = RawClient(scene.sidecar.port, scene.keys["rival"])
    try:
        request = client.change_request(order, qty=50.0, price=400.0)
        if named_by == "orderID":
            request.c2s.orderID = number
            request.c2s.ClearField("orderIDEx")
        assert code_of(client.ask(MODIFY_ORDER, request)) == "not_own_order"
    finally:
        client.close()
    assert scene.changed(order, 50, 400, bot=scene.rival).code() == "not_own_order"
    assert len(scene.arrived()) == before
    assert scene.listed(order) == (100, 500)


def test_an_order_that_is_not_there_is_not_changed(scene: Scene) -> None:
    before = len(scene.arrived())
    answer = scene.changed("FH0000000000000000", 100, 500)
    assert answer.code() == "order_unknown", answer.data
    assert len(scene.arrived()) == before


def test_what_is_filled_is_part_of_what_an_order_comes_to_at_the_price_it_was_filled_at(scene: Scene) -> None:
    """Of 200 at 480, 100 are filled at 470.2: with 200 more at 300 that makes 107,020, although 300 at 300 is 90,000."""
    order = scene.placed(200, 480)
    mine = eventually(
        lambda: [one for one in scene.sandbox.working() if one.status in MATCHABLE], 5, "an order at rest"
    )
    scene.sandbox.set_price("HK.00700", "470", volume=100)
    scene.sandbox.set_price("HK.00700", "510", volume=100_000)
    assert [(one.text_id, one.filled) for one in mine] == [(order, 100)]
    answer = scene.changed(order, 300, 480)
    assert "order value 144000 HKD" in answer.data
    answer = scene.changed(order, 300, 300)
    assert answer.code() == "order_value", answer.data
    assert "order value 107020 HKD" in answer.data


def test_a_dry_run_of_a_change_says_what_it_would_come_to(scene: Scene) -> None:
    order = scene.placed()
    before = len(scene.arrived())
    rest = Rest(scene.sidecar.doors["rest"], scene.keys["bot"])
    body = {"c2s": {"header": {"trd_env": 0, "acc_id": PAPER_HK, "trd_market": 1}, "order_id_ex": order, "qty": 300}}
    body["c2s"] |= {"order_id": 0, "modify_order_op": 1}
    found = rest.request("POST", "/api/modify-order", {"dry_run": True, **body}).s2c
    assert (found["allowed"], found["code"], Decimal(found["value"])) == (False, "order_value", Decimal(150_000))
    assert {"check": "order value", "passed": False} in [
        {name: check[name] for name in ("check", "passed")} for check in found["checks"]
    ]
    assert len(scene.arrived()) == before
