"""Reading every judged request but 2202: changes, cancels, combos, unlock, reads."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from order_requests import account_read, change, combo, place

from sidecar.errors import BodyError
from sidecar.intents.model import (
    AccountRef,
    CancelOrder,
    Intent,
    ListAccounts,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    PlaceCombo,
    ReadAccount,
    ReadSubscriptions,
    ReconfirmOrder,
    Side,
    SubscribeAccounts,
    TrdEnv,
    Unlock,
)
from sidecar.intents.read import _READERS, read
from sidecar.wire import catalog
from sidecar.wire.catalog import CATALOG, Direction, Permission
from sidecar.wire.messages import message_class

ACCOUNT = AccountRef(1001, TrdEnv.SIMULATE)
NAN = float("nan")


def refusal(proto_id: int, request: Any) -> str:
    with pytest.raises(BodyError) as caught:
        read(proto_id, request)
    assert caught.value.code == "malformed_request"
    return str(caught.value)


def test_every_judged_request_of_the_catalog_has_a_reading_and_no_other_does() -> None:
    judged = {row.id for row in CATALOG.values() if row.judged and row.direction is Direction.REQUEST}
    assert set(_READERS) == judged


def test_a_request_that_is_not_judged_is_not_read() -> None:
    assert "3203" in refusal(3203, place())
    assert "4711" in refusal(4711, place())


# -- cancels and changes ----------------------------------------------------------------------------------------------


def test_a_cancel_of_the_official_sdk_is_read() -> None:
    assert read(catalog.MODIFY_ORDER, change()) == CancelOrder(ACCOUNT, OrderRef(0, "FH1D4E0FCF7D9C4000"))


def test_a_cancel_by_the_old_id_is_read() -> None:
    request = change(orderID=2**63 + 1, orderIDEx="")
    assert read(catalog.MODIFY_ORDER, request) == CancelOrder(ACCOUNT, OrderRef(2**63 + 1, ""))


@pytest.mark.parametrize("trd_market", [0, 1, 4, 113, 999])
def test_a_cancel_passes_whatever_market_its_header_names(trd_market: int) -> None:
    assert isinstance(read(catalog.MODIFY_ORDER, change(header_trdMarket=trd_market)), CancelOrder)


def test_a_cancel_passes_with_the_zeros_some_clients_send_along() -> None:
    assert isinstance(read(catalog.MODIFY_ORDER, change(qty=0.0, price=0.0, adjustSideAndLimit=0.0)), CancelOrder)


@pytest.mark.parametrize("op", [1, 2, 3, 4, 5])
def test_two_ids_of_one_order_are_refused_and_both_named(op: int) -> None:
    message = refusal(catalog.MODIFY_ORDER, change(op, orderID=42))
    assert "orderID `42`" in message
    assert "orderIDEx `FH1D4E0FCF7D9C4000`" in message


@pytest.mark.parametrize("op", [1, 2, 3, 4, 5])
def test_a_change_of_no_order_is_refused(op: int) -> None:
    assert "neither orderID nor orderIDEx" in refusal(catalog.MODIFY_ORDER, change(op, orderIDEx=""))


def test_a_cancel_of_everything_is_read_with_its_market() -> None:
    request = change(forAll=True, orderIDEx=None, trdMarket=2)
    assert read(catalog.MODIFY_ORDER, request) == CancelOrder(ACCOUNT, OrderRef(0, ""), True, 2)


@pytest.mark.parametrize("op", [1, 3, 4, 5])
def test_nothing_but_a_cancel_is_for_all(op: int) -> None:
    assert "forAll" in refusal(catalog.MODIFY_ORDER, change(op, forAll=True, orderIDEx=None))


@pytest.mark.parametrize("ids", [{"orderID": 42, "orderIDEx": None}, {"orderID": 0, "orderIDEx": "A1"}])
def test_a_cancel_of_everything_that_names_an_order_is_refused(ids: dict[str, Any]) -> None:
    message = refusal(catalog.MODIFY_ORDER, change(forAll=True, **ids))
    assert "forAll" in message
    assert "42" in message or "A1" in message


@pytest.mark.parametrize("op", [0, 6, -1, 99])
def test_an_unknown_kind_of_change_is_refused(op: int) -> None:
    assert f"modifyOrderOp `{op}`" in refusal(catalog.MODIFY_ORDER, change(op))


@pytest.mark.parametrize("op", [1, 3, 4, 5])
def test_every_other_change_is_no_cancel(op: int) -> None:
    intent = read(catalog.MODIFY_ORDER, change(op, qty=200.0, price=351.5))
    assert isinstance(intent, ModifyOrder)
    assert (intent.op, intent.qty, intent.price) == (ModifyOp(op), Decimal("200.0"), Decimal("351.5"))


def test_a_change_that_says_nothing_of_quantity_and_price_is_read_so() -> None:
    intent = read(catalog.MODIFY_ORDER, change(4))
    assert isinstance(intent, ModifyOrder)
    assert (intent.qty, intent.price) == (None, None)


@pytest.mark.parametrize("field", ["qty", "price", "auxPrice", "trailValue", "trailSpread", "adjustSideAndLimit"])
@pytest.mark.parametrize("op", [1, 2])
@pytest.mark.parametrize("value", [NAN, float("inf"), 1e13])
def test_no_number_of_a_change_may_be_none(field: str, op: int, value: float) -> None:
    assert field in refusal(catalog.MODIFY_ORDER, change(op, **{field: value}))


def test_a_change_to_no_quantity_is_refused() -> None:
    assert refusal(catalog.MODIFY_ORDER, change(1, qty=0.0)).startswith("qty `0.0`")


def test_an_order_id_with_control_characters_is_refused() -> None:
    assert "orderIDEx" in refusal(catalog.MODIFY_ORDER, change(orderIDEx="A\n1"))


def test_confirming_again_is_read_as_what_it_is() -> None:
    request: Any = message_class("Trd_ReconfirmOrder.Request")()
    request.c2s.header.accID, request.c2s.orderID = 1001, 42
    assert read(catalog.RECONFIRM_ORDER, request) == ReconfirmOrder(ACCOUNT, OrderRef(42, ""))
    request.c2s.orderID = 0
    assert "orderID" in refusal(catalog.RECONFIRM_ORDER, request)


# -- combos -----------------------------------------------------------------------------------------------------------


def test_a_combo_is_read_leg_by_leg() -> None:
    intent = read(catalog.PLACE_COMBO_ORDER, combo())
    assert isinstance(intent, PlaceCombo)
    assert [(leg.security.symbol, leg.side, leg.qty_ratio) for leg in intent.legs] == [
        ("US.AAPL260116C150000", Side.BUY, Decimal("1.0")),
        ("US.AAPL260116C160000", Side.SELL, Decimal("1.0")),
    ]
    assert (intent.qty, intent.price) == (Decimal("2.0"), Decimal("-1.5"))


def test_a_combo_without_legs_is_refused() -> None:
    assert "empty" in refusal(catalog.PLACE_COMBO_ORDER, combo(comboLegs=None))


def test_a_combo_of_very_many_legs_is_refused() -> None:
    request = combo()
    for number in range(20):
        leg = request.c2s.comboLegs.add()
        leg.security.market, leg.security.code, leg.side, leg.qtyRatio = 11, f"A{number}", 1, 1.0
    assert "22 legs" in refusal(catalog.PLACE_COMBO_ORDER, request)


def test_the_same_leg_twice_is_refused() -> None:
    request = combo()
    request.c2s.comboLegs.add().CopyFrom(request.c2s.comboLegs[0])
    assert "US.AAPL260116C150000" in refusal(catalog.PLACE_COMBO_ORDER, request)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("side", 0),
        ("side", 9),
        ("qtyRatio", 0.0),
        ("qtyRatio", NAN),
        ("qtyRatio", 0.001),
        ("qtyRatio", 1.5),
        ("predSide", 7),
    ],
)
def test_a_leg_that_cannot_be_read_is_refused(field: str, value: float) -> None:
    request = combo()
    setattr(request.c2s.comboLegs[1], field, value)
    assert field in refusal(catalog.PLACE_COMBO_ORDER, request)


@pytest.mark.parametrize(("market", "code"), [(1, "00700"), (0, "AAPL"), (77, "AAPL"), (11, "aapl"), (11, "")])
def test_a_leg_of_another_market_or_spelling_is_refused(market: int, code: str) -> None:
    request = combo()
    request.c2s.comboLegs[1].security.market = market
    request.c2s.comboLegs[1].security.code = code
    refusal(catalog.PLACE_COMBO_ORDER, request)


@pytest.mark.parametrize("changes", [{"qty": 0.0}, {"qty": NAN}, {"price": NAN}, {"price": None}, {"orderType": 4}])
def test_a_combo_that_cannot_be_read_is_refused(changes: dict[str, Any]) -> None:
    assert next(iter(changes)) in refusal(catalog.PLACE_COMBO_ORDER, combo(**changes))


# -- reads, lists, unlock ---------------------------------------------------------------------------------------------

READS = [
    row
    for row in CATALOG.values()
    if row.direction is Direction.REQUEST
    and row.acc_id_path == "c2s.header.accID"
    and row.permission in (Permission.ACCOUNT, Permission.OWN_ORDERS)
]


def test_the_reads_of_an_account_are_the_known_ones() -> None:
    assert {row.id for row in READS} == {2101, 2102, 2111, 2112, 2201, 2211, 2221, 2222, 2223, 2225, 2226}


@pytest.mark.parametrize("row", READS, ids=lambda row: row.name)
def test_a_read_names_its_account_and_says_if_it_can_be_narrowed_to_own_orders(row: catalog.Row) -> None:
    request = account_read(row.name, header_trdEnv=1, header_accID=2001)
    own = row.id in (catalog.GET_ORDER_LIST, catalog.GET_ORDER_FILL_LIST)
    assert read(row.id, request) == ReadAccount(AccountRef(2001, TrdEnv.REAL), own_orders=own)


@pytest.mark.parametrize("row", READS, ids=lambda row: row.name)
def test_a_read_in_no_environment_is_refused(row: catalog.Row) -> None:
    assert "trdEnv `2`" in refusal(row.id, account_read(row.name, header_trdEnv=2))


@pytest.mark.parametrize("row", READS, ids=lambda row: row.name)
def test_a_read_passes_whatever_market_its_header_names(row: catalog.Row) -> None:
    assert isinstance(read(row.id, account_read(row.name, header_trdMarket=999)), ReadAccount)


def test_no_number_of_a_read_may_be_none_either() -> None:
    assert "price" in refusal(catalog.GET_MAX_TRD_QTYS, account_read("Trd_GetMaxTrdQtys", price=NAN))
    request = account_read("Trd_GetComboMaxTrdQtys")
    request.c2s.comboLegs.add().qtyRatio = float("inf")
    assert "qtyRatio" in refusal(catalog.GET_COMBO_MAX_TRD_QTYS, request)


def read_c2s(proto_id: int, name: str, **values: Any) -> Intent:
    request: Any = message_class(f"{name}.Request")()
    for field, value in values.items():
        if isinstance(value, list):
            getattr(request.c2s, field).extend(value)
        else:
            setattr(request.c2s, field, value)
    return read(proto_id, request)


def test_lists_and_subscriptions_are_read() -> None:
    assert read_c2s(catalog.GET_ACC_LIST, "Trd_GetAccList", userID=0) == ListAccounts()
    assert read_c2s(catalog.SUB_ACC_PUSH, "Trd_SubAccPush", accIDList=[3, 1, 3]) == SubscribeAccounts((3, 1))
    assert read_c2s(catalog.SUB_ACC_PUSH, "Trd_SubAccPush") == SubscribeAccounts(())


def test_the_subscriptions_of_other_connections_are_not_asked_for() -> None:
    row = next(row for row in CATALOG.values() if row.all_connections_path)
    request: Any = message_class(row.request or "")()
    request.c2s.isReqAllConn = True
    assert read(row.id, request) == ReadSubscriptions()
    assert request.c2s.isReqAllConn is False


def test_an_unlock_is_read_and_its_password_stays_out_of_every_printed_form() -> None:
    intent = read_c2s(catalog.UNLOCK_TRADE, "Trd_UnlockTrade", unlock=True, pwdMD5="5f4dcc3b5aa765d61d8327deb882cf99")
    assert intent == Unlock(True, "5f4dcc3b5aa765d61d8327deb882cf99")
    assert "5f4dcc3b" not in repr(intent)
    assert read_c2s(catalog.UNLOCK_TRADE, "Trd_UnlockTrade", unlock=False) == Unlock(False, "")


def test_a_refused_unlock_does_not_repeat_the_password() -> None:
    request: Any = message_class("Trd_UnlockTrade.Request")()
    request.c2s.unlock, request.c2s.pwdMD5 = True, "secret\n5f4dcc3b"
    assert "5f4dcc3b" not in refusal(catalog.UNLOCK_TRADE, request)
