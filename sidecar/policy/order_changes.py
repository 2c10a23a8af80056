"""The rules of a change of an order as such: what it asks for can be asked for (check 2). They know no amounts and no key's
limits.
"""

from __future__ import annotations

from decimal import Decimal

from sidecar.intents.model import ModifyOp, ModifyOrder, OrderType, PlaceCombo, PlaceOrder
from sidecar.policy.case import Case, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.exact import plain

_FUTURES = frozenset({5, 10, 11, 12, 13})
"""TrdMarkets of futures, whose prices may be zero or negative; so may those of combos."""
_TRIGGERED = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.MARKET_IF_TOUCHED, OrderType.LIMIT_IF_TOUCHED})


def sound(case: Case) -> Finding | None:
    """What is refused of a new order as it is read, can be told of a change only when its order is known."""
    change, order = case.intent, case.order or case.combo
    if not isinstance(change, ModifyOrder) or change.op is not ModifyOp.NORMAL or order is None:
        return None
    if isinstance(order, PlaceCombo) or order.security.trd_market in _FUTURES:
        return None
    for name, value in (("price", _used_price(change, order)), ("auxPrice", _used_trigger(change, order))):
        if value is not None and not value > 0:
            return refused("change", Code.MALFORMED_REQUEST, f"{name} `{plain(value)}` must be above 0")
    return None


def _used_price(change: ModifyOrder, order: PlaceOrder) -> Decimal | None:
    return change.price if order.order_type.priced else None


def _used_trigger(change: ModifyOrder, order: PlaceOrder) -> Decimal | None:
    return change.aux_price if order.order_type in _TRIGGERED else None
