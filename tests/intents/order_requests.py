"""Requests as the official SDKs send them, to be bent in tests."""

from __future__ import annotations

from typing import Any

from sidecar.wire.messages import message_class


def place(**changes: Any) -> Any:
    """A paper buy of 100 HK.00700 at 350.2, as the Python SDK encodes it. `header_*` changes the header."""
    request: Any = message_class("Trd_PlaceOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 7, 9
    fill_header(c2s.header)
    c2s.header.jpAccType = 1
    c2s.trdSide, c2s.orderType, c2s.code = 1, 1, "00700"
    c2s.qty, c2s.price = 100.0, 350.2
    c2s.adjustPrice, c2s.adjustSideAndLimit = False, 0.0
    c2s.secMarket, c2s.timeInForce, c2s.fillOutsideRTH, c2s.session = 1, 0, False, 0
    return changed(request, changes)


def combo(**changes: Any) -> Any:
    """A paper spread of two US options for a credit."""
    request: Any = message_class("Trd_PlaceComboOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 7, 9
    fill_header(c2s.header, trd_market=2)
    c2s.qty, c2s.price, c2s.orderType, c2s.timeInForce = 2.0, -1.5, 1, 0
    for code, side in (("AAPL260116C150000", 1), ("AAPL260116C160000", 2)):
        leg = c2s.comboLegs.add()
        leg.security.market, leg.security.code, leg.side, leg.qtyRatio = 11, code, side, 1.0
    return changed(request, changes)


def change(op: int = 2, **changes: Any) -> Any:
    """A cancel (or another change) of one order, as the Python SDK sends it: orderID 0 and an orderIDEx."""
    request: Any = message_class("Trd_ModifyOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 7, 9
    fill_header(c2s.header)
    c2s.orderID, c2s.orderIDEx, c2s.modifyOrderOp, c2s.forAll = 0, "FH1D4E0FCF7D9C4000", op, False
    return changed(request, changes)


def account_read(name: str, **changes: Any) -> Any:
    request: Any = message_class(f"{name}.Request")()
    fill_header(request.c2s.header)
    return changed(request, changes)


def fill_header(header: Any, trd_market: int = 1) -> None:
    header.trdEnv, header.accID, header.trdMarket = 0, 1001, trd_market


def changed(request: Any, changes: dict[str, Any]) -> Any:
    for name, value in changes.items():
        target = request.c2s
        if name.startswith("header_"):
            target, name = request.c2s.header, name.removeprefix("header_")
        if value is None:
            target.ClearField(name)
        else:
            setattr(target, name, value)
    return request
