"""The story of a change of an order, and of a combo, through the gate: what is asked of OpenD, judged, reserved and said to it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sidecar.asked import Asked, Forward, Refused
from sidecar.gathering import CHANGES_MOST, IN_VAIN_MOST
from sidecar.intents.model import (
    AccountRef,
    OrderRef,
    OrderType,
    PlaceOrder,
    RestingOrder,
    Security,
    Side,
    Trail,
    TrdEnv,
)
from sidecar.policy.decision import Code, Decision
from sidecar.policy.usage import Account, Instrument, InstrumentKind
from sidecar.request_record import args_hash
from sidecar.wire import catalog
from sidecar.wire.messages import message_class
from tests.ledger.ledger_making import reservation
from tests.test_gate import ACC, BOT, World, _Lookup

HERE = AccountRef(ACC, TrdEnv.SIMULATE)
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)
ORDER_ID, ORDER_ID_EX = 77, "EX77"
ASKS_ORDER = "asked order EX77"
ASKS_BOTH = ["asked instrument of HK.00700", "asked quote of HK.00700"]


def bought(qty: object = 100, price: object = 500, **more: Any) -> PlaceOrder:
    kind = more.pop("order_type", OrderType.NORMAL)
    limit = Decimal(str(price)) if kind.priced else None
    return PlaceOrder(HERE, TENCENT, more.pop("side", Side.BUY), kind, Decimal(str(qty)), limit, **more)


class Scene(World):
    """A gate in front of an OpenD that lists one order."""

    def __init__(self, folder: Path, order: PlaceOrder | None = None, **limits: Any) -> None:
        super().__init__(folder, **limits)
        self.listed: RestingOrder | None = RestingOrder(order or bought(), ORDER_ID, ORDER_ID_EX)
        self.holding = Decimal(1000)
        self.look_up_by(orders=_Orders(self))

    def change(self, op: int = 1, *, order_id: int = 0, rehearsal: bool = False, **fields: float) -> Asked | Refused:
        request: Any = message_class("Trd_ModifyOrder.Request")()
        c2s = request.c2s
        c2s.packetID.connID, c2s.packetID.serialNo = 1, 2
        c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = self.env, ACC, 1
        c2s.modifyOrderOp, c2s.orderID = op, order_id
        if not order_id:
            c2s.orderIDEx = ORDER_ID_EX
        for name, value in fields.items():
            setattr(c2s, name, value)
        row = catalog.CATALOG[catalog.MODIFY_ORDER]
        return self.gate.understand(self.caller, row, lambda: request, rehearsal=rehearsal)

    def combo(self, qty: float = 10, price: float = 1) -> Asked | Refused:
        request: Any = message_class("Trd_PlaceComboOrder.Request")()
        c2s = request.c2s
        c2s.packetID.connID, c2s.packetID.serialNo = 1, 3
        c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = self.env, ACC, 2
        c2s.qty, c2s.price, c2s.orderType = qty, price, 1
        for code, side, ratio in (("AAPL", 1, 1.0), ("MSFT", 2, 2.0)):
            leg = c2s.comboLegs.add(side=side, qtyRatio=ratio)
            leg.security.market, leg.security.code = 11, code
        return self.gate.understand(self.caller, catalog.CATALOG[catalog.PLACE_COMBO_ORDER], lambda: request)

    async def placed(self, qty: float = 100, price: float = 500, side: int = 1, **ids: Any) -> Forward:
        """The order that OpenD lists, as it was approved and accepted."""
        forward = await self.decide(self.place(qty, price, side))
        assert isinstance(forward, Forward), forward
        named = {"order_id": ORDER_ID, "order_id_ex": ORDER_ID_EX, **ids}
        self.ledger.accepted(forward.asked.decision_id, named["order_id"], named["order_id_ex"])
        self.transcript.clear()
        return forward

    def today(self) -> Decimal:
        return self.ledger.usage("bot", time.time()).daily_value.get("HKD", Decimal(0))

    def sent(self, verdict: Any) -> Any:
        assert isinstance(verdict, Forward), verdict
        message: Any = verdict.asked.message
        return message.c2s


class _Orders:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    async def get(self, account: Account | None, order: OrderRef) -> RestingOrder | None:
        assert account is not None
        listed = self.scene.listed
        self.scene.transcript.append(f"asked order {order.order_id_ex or order.order_id}")
        await asyncio.sleep(self.scene.facts_wait)
        return listed


async def test_a_change_asks_for_its_order_then_for_what_it_would_become_and_reserves_the_increase(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, max_order_value=100_000)
    await scene.placed()
    verdict = await scene.decide(scene.change(qty=200, price=450))
    assert isinstance(verdict, Forward)
    assert scene.transcript == [ASKS_ORDER, "asked instrument of HK.00700", "written", "forwarded"]
    assert scene.today() == Decimal(90_000)
    row = scene.ledger.orders.row_of(verdict.asked.decision_id)
    assert row is not None
    made = row.reservation
    assert (made.kind, made.value, made.added, made.qty) == ("modify", Decimal(40_000), Decimal(100), Decimal(200))
    assert (made.symbol, made.side, row.order_id, row.order_id_ex) == ("HK.00700", Side.BUY, ORDER_ID, ORDER_ID_EX)


async def test_a_change_over_the_limit_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_order_value=100_000)
    await scene.placed()
    verdict = await scene.decide(scene.change(qty=300, price=500))
    assert verdict.code is Code.ORDER_VALUE
    assert scene.transcript[-2:] == ["noted reject order_value", "refused"]
    assert scene.today() == Decimal(50_000)


async def test_two_changes_sent_at_once_cannot_go_over_the_limit_step_by_step(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_order_value=100_000)
    await scene.placed()
    scene.facts_wait = 0.01
    first, second = scene.change(qty=180, price=500), scene.change(qty=300, price=500)
    verdicts = await asyncio.gather(scene.decide(first), scene.decide(second))
    assert isinstance(verdicts[0], Forward)
    assert verdicts[1].code is Code.ORDER_VALUE


async def test_two_changes_of_one_field_each_are_sent_as_the_two_whole_orders_that_were_judged(tmp_path: Path) -> None:
    """Price × quantity of one after the other would be 180,000: neither OpenD's order of doing them, nor ours, leads there."""
    scene = Scene(tmp_path, max_order_value=100_000)
    await scene.placed()
    scene.facts_wait = 0.01
    dearer, larger = scene.change(price=900), scene.change(qty=200)
    assert isinstance(dearer, Asked) and isinstance(larger, Asked)
    scene.gate.prefetch(dearer)
    scene.gate.prefetch(larger)
    sent = [scene.sent(await scene.decide(each)) for each in (dearer, larger)]
    assert [(each.qty, each.price) for each in sent] == [(100, 900), (200, 500)]


async def test_changes_that_pass_by_turns_count_the_highest_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_daily_value=100_000)
    await scene.placed()
    for qty, today in ((180, 90_000), (20, 90_000), (180, 90_000), (200, 100_000)):
        verdict = await scene.decide(scene.change(qty=qty, price=500))
        assert isinstance(verdict, Forward), verdict
        scene.ledger.accepted(verdict.asked.decision_id, 0, ORDER_ID_EX)
        scene.listed = RestingOrder(bought(qty), ORDER_ID, ORDER_ID_EX)
        assert scene.today() == today
    assert (await scene.decide(scene.change(qty=201, price=500))).code is Code.DAILY_VALUE


async def test_a_change_that_opend_refuses_gives_its_increase_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_daily_value=100_000)
    await scene.placed()
    verdict = await scene.decide(scene.change(qty=200, price=500))
    assert scene.today() == 100_000
    scene.ledger.refused_by_opend(verdict.asked.decision_id)
    assert scene.today() == 50_000
    assert isinstance(await scene.decide(scene.change(qty=200, price=500)), Forward)


async def test_enabling_counts_the_order_anew(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_daily_value=100_000)
    await scene.placed()
    assert isinstance(await scene.decide(scene.change(op=4)), Forward)
    assert scene.today() == 100_000
    assert (await scene.decide(scene.change(op=4))).code is Code.DAILY_VALUE


@pytest.mark.parametrize("op", [3, 5])
async def test_disabling_and_deleting_ask_for_the_order_only_and_say_no_quantity(tmp_path: Path, op: int) -> None:
    scene = Scene(tmp_path, max_order_value=1, max_daily_value=1, allow_short=False)
    verdict = await scene.decide(scene.change(op=op))
    assert scene.transcript == [ASKS_ORDER, "written", "forwarded"]
    assert not scene.sent(verdict).HasField("qty")
    row = scene.ledger.orders.row_of(verdict.asked.decision_id)
    assert row is not None
    assert (row.reservation.added, row.reservation.value) == (Decimal(0), None)


async def test_what_a_change_leaves_open_is_said_to_opend_and_the_audit_hashes_what_the_client_said(
    tmp_path: Path,
) -> None:
    trailing = bought(order_type=OrderType.TRAILING_STOP_LIMIT, trail=Trail(Decimal(5), ratio=True, spread=Decimal(2)))
    scene = Scene(tmp_path, replace(trailing, aux_price=Decimal(7)))
    asked = scene.change(qty=150)
    assert isinstance(asked, Asked)
    as_made = args_hash(asked.intent, asked.message)
    c2s = scene.sent(await scene.decide(asked))
    assert (c2s.qty, c2s.auxPrice, c2s.trailType, c2s.trailValue, c2s.trailSpread) == (150, 7, 1, 5, 2)
    assert scene.records[-1].args_hash == as_made
    assert args_hash(asked.intent, asked.message) != as_made


async def test_the_audit_says_what_a_change_leads_to(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_order_value=100_000)
    await scene.decide(scene.change(price=600))
    record = scene.records[-1]
    assert (record.symbol, record.side, record.order_type) == ("HK.00700", "BUY", "NORMAL")
    assert (record.qty, record.price, record.value, record.order_id_ex) == (
        Decimal(100),
        Decimal(600),
        Decimal(60_000),
        ORDER_ID_EX,
    )
    await scene.decide(scene.change(price=6000))
    refused = scene.records[-1]
    assert (refused.symbol, refused.qty, refused.reason) == ("HK.00700", Decimal(100), "order_value")


async def test_an_order_that_opend_does_not_list_is_asked_for_and_nothing_else(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_order_value=100_000)
    scene.listed = None
    assert (await scene.decide(scene.change(qty=1))).code is Code.ORDER_UNKNOWN
    assert scene.transcript == [ASKS_ORDER, "noted reject order_unknown", "refused"]


async def test_for_a_change_that_its_order_forbids_no_price_is_asked(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_order_value=100_000, allowed_symbols=["HK.00005"])
    assert (await scene.decide(scene.change(qty=1))).code is Code.SYMBOL
    assert scene.transcript == [ASKS_ORDER, "noted reject symbol", "refused"]


async def test_orders_made_up_one_after_the_other_are_asked_for_only_so_often(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.listed = None
    for number in range(IN_VAIN_MOST + 3):
        assert (await scene.decide(scene.change(order_id=1000 + number, qty=1))).code is Code.ORDER_UNKNOWN
    assert len([line for line in scene.transcript if line.startswith("asked")]) == IN_VAIN_MOST


async def test_a_key_that_changes_its_orders_without_end_leaves_look_ups_to_the_others(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_order_value=100)
    for _ in range(CHANGES_MOST):
        assert (await scene.decide(scene.change(qty=300))).code is Code.ORDER_VALUE
    scene.transcript.clear()
    assert (await scene.decide(scene.change(qty=300))).code is Code.ORDER_UNKNOWN
    assert scene.transcript == ["noted reject order_unknown", "refused"]


def of_rival(scene: Scene, **ids: Any) -> str:
    """An order of another key, as far as OpenD has named it."""
    made = reservation(time.time(), key_id="rival", acc_id=ACC, env=TrdEnv.SIMULATE)
    scene.ledger.reserve(made)
    scene.ledger.forwarded(made.decision_id)
    if ids:
        scene.ledger.accepted(made.decision_id, **ids)
    return made.decision_id


@pytest.mark.parametrize(
    "ids", [{"order_id": ORDER_ID, "order_id_ex": ""}, {"order_id": 0, "order_id_ex": ORDER_ID_EX}]
)
async def test_another_keys_order_is_refused_by_whichever_of_its_ids_it_is_named(
    tmp_path: Path, ids: dict[str, Any]
) -> None:
    scene = Scene(tmp_path)
    of_rival(scene, **ids)
    for order_id in (0, ORDER_ID):
        asked = scene.change(order_id=order_id, qty=50)  # refused at once where the ledger knows the id that is named
        verdict = asked if isinstance(asked, Refused) else await scene.decide(asked)
        assert verdict.code is Code.NOT_OWN_ORDER
        assert "500" not in verdict.text and "00700" not in verdict.text, "nothing of it is told"


async def test_another_keys_order_is_known_by_its_tag_before_opend_has_named_it_to_the_ledger(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.listed = RestingOrder(bought(remark=f"#{of_rival(scene)}"), ORDER_ID, ORDER_ID_EX)
    assert (await scene.decide(scene.change(qty=50))).code is Code.NOT_OWN_ORDER


@pytest.mark.parametrize(("symbol", "code"), [("HK.00700", Code.NOT_OWN_ORDER), ("HK.00005", None)])
async def test_an_order_with_a_remark_of_its_own_is_another_keys_while_that_waits_for_its_reply(
    tmp_path: Path, symbol: str, code: Code | None
) -> None:
    scene = Scene(tmp_path, bought(remark="grid 7"))
    scene.ledger.reserve(
        reservation(time.time(), key_id="rival", acc_id=ACC, env=TrdEnv.SIMULATE, symbol=symbol, remark="grid 7")
    )
    verdict = await scene.decide(scene.change(qty=50))
    assert getattr(verdict, "code", None) is code, verdict


async def test_two_changes_that_grow_a_sale_by_all_that_is_held_do_not_both_pass(tmp_path: Path) -> None:
    scene = Scene(tmp_path, bought(100, 500, side=Side.SELL), allow_short=False)
    await scene.placed(side=2)
    scene.holding, scene.facts_wait = Decimal(900), 0.01
    verdicts = await asyncio.gather(
        scene.decide(scene.change(qty=1000)), scene.decide(scene.change(qty=1000, price=501))
    )
    assert isinstance(verdicts[0], Forward)
    assert verdicts[1].code is Code.SHORT_SALE


async def test_a_sale_made_smaller_and_larger_at_once_counts_from_its_smallest(tmp_path: Path) -> None:
    scene = Scene(tmp_path, bought(1000, 500, side=Side.SELL), allow_short=False)
    await scene.placed(qty=1000, side=2)
    scene.holding = Decimal(0)
    assert isinstance(await scene.decide(scene.change(qty=100)), Forward)
    verdict = await scene.decide(scene.change(qty=1000))
    assert verdict.code is Code.SHORT_SALE, "OpenD still lists 1000, but may be down to 100 by now"
    assert "selling 900 of" in verdict.text


async def test_disabling_approves_no_larger_quantity_than_there_was(tmp_path: Path) -> None:
    scene = Scene(tmp_path, bought(1000, 500, side=Side.SELL), allow_short=False)
    await scene.placed(qty=1000, side=2)
    scene.holding = Decimal(0)
    smaller = await scene.decide(scene.change(qty=100))
    scene.ledger.accepted(smaller.asked.decision_id, 0, ORDER_ID_EX)
    disabled = await scene.decide(scene.change(op=3))
    scene.ledger.accepted(disabled.asked.decision_id, 0, ORDER_ID_EX)
    assert (await scene.decide(scene.change(qty=1000))).code is Code.SHORT_SALE


async def test_a_plain_sale_that_opend_lists_as_a_short_one_is_judged_as_it_was_sent(tmp_path: Path) -> None:
    scene = Scene(tmp_path, bought(100, 500, side=Side.SELL_SHORT), allowed_trd_sides=["SELL"])
    assert (await scene.decide(scene.change(price=501))).code is Code.SIDE, "nobody here sent it as a plain sale"
    await scene.placed(side=2)
    assert isinstance(await scene.decide(scene.change(price=501)), Forward)


async def test_a_dry_run_of_a_change_tells_every_check_reserves_nothing_and_leaves_the_request_as_it_is(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, max_order_value=100_000)
    await scene.placed()
    asked = scene.change(qty=300, rehearsal=True)
    assert isinstance(asked, Asked)
    decision = await scene.gate.rehearse(asked)
    assert isinstance(decision, Decision) and decision.refusal is not None
    assert decision.refusal.code is Code.ORDER_VALUE
    assert "order EX77, 0 filled" in [finding.detail for finding in decision.findings]
    message: Any = asked.message
    assert not message.c2s.HasField("price")
    assert scene.today() == 50_000


async def test_a_freeze_while_the_change_is_written_stops_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_order_value=100_000)
    await scene.placed()
    scene.during_commit = scene.freeze
    verdict = await scene.decide(scene.change(qty=150))
    assert verdict.code is Code.KEY_FROZEN
    assert scene.today() == 50_000


async def test_a_symbol_taken_off_the_key_while_the_change_is_written_stops_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    await scene.placed()

    def narrow() -> None:
        scene.write_keys({**BOT, "allowed_symbols": ["HK.00005"]})
        scene.keys.reload()

    scene.during_commit = narrow
    assert (await scene.decide(scene.change(qty=150))).code is Code.SYMBOL


# -- combos -----------------------------------------------------------------------------------------------------------


async def test_a_combo_asks_for_all_its_legs_side_by_side_and_reserves_their_sum(tmp_path: Path) -> None:
    scene = _of_the_us(Scene(tmp_path, max_order_value=100_000))
    started = time.perf_counter()
    scene.facts_wait = 0.3
    verdict = await scene.decide(scene.combo())
    assert time.perf_counter() - started < 0.55
    assert isinstance(verdict, Forward), verdict
    assert sorted(scene.transcript[:4]) == [
        "asked instrument of US.AAPL",
        "asked instrument of US.MSFT",
        "asked quote of US.AAPL",
        "asked quote of US.MSFT",
    ]
    assert scene.ledger.usage("bot", time.time()).daily_value == {"USD": Decimal(9000)}
    row = scene.ledger.orders.row_of(verdict.asked.decision_id)
    assert row is not None
    assert [(leg.symbol, leg.side, leg.qty) for leg in row.reservation.legs] == [
        ("US.AAPL", Side.BUY, Decimal(10)),
        ("US.MSFT", Side.SELL, Decimal(20)),
    ]
    assert scene.records[-1].symbol == "BUY 1 US.AAPL + SELL 2 US.MSFT"
    assert scene.sent(verdict).remark == f"#{verdict.asked.decision_id}"


async def test_a_combo_over_the_limit_is_refused(tmp_path: Path) -> None:
    scene = _of_the_us(Scene(tmp_path, max_order_value=8_999))
    assert (await scene.decide(scene.combo())).code is Code.ORDER_VALUE
    assert scene.today() == 0


async def test_what_a_leg_sells_is_reserved_against_what_is_held(tmp_path: Path) -> None:
    scene = _of_the_us(Scene(tmp_path, allow_short=False))
    scene.holding = Decimal(30)
    assert isinstance(await scene.decide(scene.combo()), Forward)
    verdict = await scene.decide(scene.combo(qty=6))
    assert verdict.code is Code.SHORT_SALE
    assert "selling 12 of `US.MSFT`" in verdict.text and "20 already reserved" in verdict.text
    assert isinstance(await scene.decide(scene.combo(qty=5)), Forward)


def _of_the_us(scene: Scene) -> Scene:
    stock = Instrument(InstrumentKind.STOCK, Decimal(1), "USD")
    scene.look_up_by(instruments=_Lookup(scene, "instrument", lambda: stock))
    return scene
