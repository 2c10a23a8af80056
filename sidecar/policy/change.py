"""What an order becomes by a change of it, and how much that adds to what is on the market. Judges nothing."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from sidecar.intents.model import ModifyOp, ModifyOrder, PlaceCombo, PlaceOrder, RestingOrder, Trail

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
        trail=_trail(change.trail, order.trail),
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


def _trail(changed: Trail | None, had: Trail | None) -> Trail | None:
    """A change that says how far to trail says nothing of the spread where it gives none: that stays too."""
    if changed is None or had is None or changed.spread:
        return had if changed is None else changed
    return replace(changed, spread=had.spread)
