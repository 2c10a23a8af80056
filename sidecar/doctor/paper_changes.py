"""What OpenD takes of changes to doctor's own paper order: whose packetID, how often, and which of two order ids. Places none.

Each change moves the price further from the market, so that whatever is taken only makes the order less likely to trade.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from sidecar.doctor.check import Check, doubt, good
from sidecar.doctor.line import Line
from sidecar.doctor.requests import fill_header
from sidecar.errors import UpstreamError
from sidecar.wire import catalog
from sidecar.wire.messages import message_class

_CHANGE = 1
_NO_ORDER = 1
"""An orderID that no order has."""
_PATIENCE = 5.0
_OWN_NUMBERS = "the sidecar leaves a client's packetID as it is, and numbers what comes by REST, gRPC and MCP itself"


@dataclass(frozen=True, slots=True)
class Resting:
    """The paper order, as it was taken."""

    account: Any
    market: int
    order_id: str
    quantity: float
    price: float


async def change_checks(line: Line, hearing: Line, order: Resting) -> AsyncIterator[Check]:
    """`hearing`: another connection of doctor's. Raises UpstreamError."""
    assert line.session is not None and hearing.session is not None
    own, other = line.session.conn_id, hearing.session.conn_id
    serial = line.session.last_serial + 1
    plain = await _changed(line, order, 1, own, serial)
    if plain.retType != 0:
        text = f"OpenD refuses a change of a paper order: {plain.retMsg}"
        yield doubt("paper.change", text, "what rests on it was not tried; try again while the market is open")
        return
    yield good("paper.change", "the order's price was changed, by its orderIDEx alone and the account's first market")
    again = await _changed(line, order, 2, own, serial)
    yield _twice(again)
    foreign = await _changed(line, order, 3, other, line.session.last_serial + 1)
    yield _told("paper.packet_of_another", foreign, "a packetID that names another connection", _OWN_NUMBERS)
    both = await _changed(line, order, 4, own, line.session.last_serial + 1, order_id=_NO_ORDER)
    reader = "the sidecar refuses requests with both"
    yield _told("paper.both_order_ids", both, "an orderIDEx beside an orderID that is of no order", reader)


def _twice(reply: Any) -> Check:
    if reply is None or reply.retType != 0:
        return _told("paper.packet_twice", reply, "a packetID for a second time", _OWN_NUMBERS)
    text = "OpenD takes a packetID for a second time, so an order that is sent twice trades twice"
    return doubt("paper.packet_twice", text, "`duplicate_window_s` for keys whose bots may send an order again")


def _told(name: str, reply: Any, what: str, ours: str) -> Check:
    if reply is None:
        return good(name, f"OpenD does not answer {what}; {ours}")
    return good(name, f"OpenD {'takes' if reply.retType == 0 else 'refuses'} {what}; {ours}")


async def _changed(line: Line, order: Resting, steps: int, conn_id: int, serial: int, order_id: int = 0) -> Any:
    """The answer to a change of the price; None where there is none, as there may be to what OpenD finds wrong."""
    request: Any = message_class("Trd_ModifyOrder.Request")()
    fill_header(request, order.account)
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = conn_id, serial
    c2s.orderID, c2s.orderIDEx, c2s.modifyOrderOp = order_id, order.order_id, _CHANGE
    c2s.qty, c2s.price = order.quantity, order.price - steps
    try:
        return await line.ask_raw(catalog.MODIFY_ORDER, request.SerializeToString(), timeout=_PATIENCE)
    except UpstreamError:
        if steps == 1 or line.session is None or not line.session.ready:
            raise
        return None
