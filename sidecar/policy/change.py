"""What an order becomes by a change of it, and how much that adds to what is on the market. Judges nothing."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from sidecar.intents.model import ModifyOp, ModifyOrder, PlaceCombo, PlaceOrder, RestingOrder

_ZERO = Decimal(0)
_TO_THE_MARKET = frozenset({ModifyOp.NORMAL, ModifyOp.ENABLE})


def raises_the_stake(change: ModifyOrder) -> bool:
    """Whether it leaves an order on the market: disabling and deleting take it away."""
    return change.op in _TO_THE_MARKET


def would_become(change: ModifyOrder, resting: RestingOrder) -> PlaceOrder | PlaceCombo:
    """The whole order as it is after the change, were it placed anew; what the change does not name stays."""
    order = resting.order
    if change.op is not ModifyOp.NORMAL:
        return order
    qty = order.qty if change.qty is None else change.qty
    price = order.price
    if order.order_type.priced and change.price is not None:
        price = change.price
    if isinstance(order, PlaceCombo):
        return replace(order, qty=qty, price=price)
    return replace(
        order,
        qty=qty,
        price=price,
        aux_price=order.aux_price if change.aux_price is None else change.aux_price,
        adjust_limit=change.adjust_limit,
        trail=order.trail if change.trail is None else change.trail,
    )


def added_by(change: ModifyOrder, resting: RestingOrder, least: Decimal | None) -> Decimal:
    """Units by which it adds to what is on the market, never below 0.

    `least`: the smallest quantity the order may have at this moment, where that is less than OpenD lists: OpenD's list
    may be older than a change that made the order smaller.
    """
    if change.op is ModifyOp.ENABLE:
        return resting.order.qty
    if change.op is not ModifyOp.NORMAL:
        return _ZERO
    has = resting.order.qty if least is None else min(least, resting.order.qty)
    return max(_ZERO, would_become(change, resting).qty - has)
