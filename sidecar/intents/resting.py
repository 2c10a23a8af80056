"""The order behind a change, out of OpenD's order list (2201), in the same words as one that is placed. Judges nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sidecar.errors import BodyError
from sidecar.intents.fields import ORDER_TYPES, SIDES, exact, positive
from sidecar.intents.markets import security_of_leg_report, security_of_report
from sidecar.intents.model import (
    AccountRef,
    ComboLeg,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    RestingOrder,
    Trail,
)

_TRAIL_RATIO = 1
_NANO = Decimal("1e-9")
"""An average is a quotient; beyond the decimal places of OpenD's prices it says nothing."""


def read_resting(account: AccountRef, order: Any, trd_market: int = 0) -> RestingOrder | None:
    """One Trd_Common.Order of the account; `trd_market`, the header's, counts where it has none.

    None where it does not say all that a rule could want to know: a change of it cannot be judged. What OpenD adds to
    an order's own limit (adjustPrice) is no part of its list; a change says it anew.
    """
    try:
        placed = _combo(account, order, trd_market) if order.comboLegs else _plain(account, order, trd_market)
        filled = exact(order.fillQty, "fillQty")
        fill_price = exact(order.fillAvgPrice, "fillAvgPrice").quantize(_NANO) or None
    except BodyError:
        return None
    if placed is None or not (order.orderID or order.orderIDEx) or not isinstance(order.orderIDEx, str):
        return None
    return RestingOrder(placed, order.orderID, order.orderIDEx, filled, fill_price, order.orderStatus)


def _plain(account: AccountRef, order: Any, trd_market: int) -> PlaceOrder | None:
    security = security_of_report(order.trdMarket or trd_market, order.secMarket, order.code)
    side, kind = SIDES.get(order.trdSide), ORDER_TYPES.get(order.orderType)
    if security is None or side is None or kind is None:
        return None
    return PlaceOrder(
        account=account,
        security=security,
        side=side,
        order_type=kind,
        qty=positive(order.qty, "qty"),
        price=_price(order, kind),
        aux_price=exact(order.auxPrice, "auxPrice") if order.HasField("auxPrice") else None,
        outside_rth=order.fillOutsideRTH,
        session=order.session,
        remark=_remark(order),
        time_in_force=order.timeInForce,
        amount=exact(order.orderAmount, "orderAmount") if order.orderAmount else None,
        trail=_trail(order),
    )


def _combo(account: AccountRef, order: Any, trd_market: int) -> PlaceCombo | None:
    legs = []
    for leg in order.comboLegs:
        market = order.trdMarket or trd_market
        security, side = security_of_leg_report(market, leg.security.market, leg.security.code), SIDES.get(leg.side)
        if security is None or side is None:
            return None
        legs.append(ComboLeg(security, side, positive(leg.qtyRatio, "qtyRatio")))
    kind = ORDER_TYPES.get(order.orderType)
    if kind is None:
        return None
    qty = positive(order.qty, "qty")
    return PlaceCombo(account, tuple(legs), kind, qty, _price(order, kind), _remark(order), order.timeInForce)


def _price(order: Any, kind: OrderType) -> Decimal | None:
    return exact(order.price, "price") if kind.priced and order.HasField("price") else None


def _trail(order: Any) -> Trail | None:
    if not order.trailType or not order.HasField("trailValue"):
        return None
    value, spread = exact(order.trailValue, "trailValue"), exact(order.trailSpread, "trailSpread")
    return Trail(value, order.trailType == _TRAIL_RATIO, spread)


def _remark(order: Any) -> str:
    return order.remark if isinstance(order.remark, str) else ""
