"""The rules of a key that may not sell short, `allow_short: false`: one function for what it may sell (check 6), one for
what must be known for that (check 8). They ask nobody; what is already reserved is counted by who gathers the facts.
"""

from __future__ import annotations

from typing import TypeGuard

from sidecar.intents.model import Intent, ModifyOp, ModifyOrder, PlaceCombo, PlaceOrder, ReconfirmOrder, Side
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.key import Key
from sidecar.policy.worth import EXACT, plain

_NOT_BY_QUANTITY = {15: "Japanese accounts hold by kind of account", 17: "event contracts are held on two sides"}
"""TrdMarkets in which the sum of what is held of a code does not say what may be sold of it."""


def asks_for_position(key: Key, order: PlaceOrder) -> bool:
    return key.allow_short is False and order.side is Side.SELL and order.security.trd_market not in _NOT_BY_QUANTITY


def short_sale(case: Case) -> Finding | None:
    """What would open a short position. A plain sale beyond the holding does, of options and futures as well.

    A sale whose holding is not known is for `position` to refuse.
    """
    if case.key.allow_short is not False:
        return None
    intent = case.intent
    if Side.SELL_SHORT in _sides(intent):
        return refused(
            "short sale",
            Code.SHORT_SALE,
            "side SELL_SHORT opens a short position, which this key may not (allow_short)",
        )
    position = case.facts.position
    if not _sells(intent) or position is None or position.reserved is None:
        return None
    symbol, asked = intent.security.symbol, intent.qty
    free = EXACT.subtract(position.sellable, position.reserved)
    numbers = f"{plain(position.sellable)} can be sold, {plain(position.reserved)} already reserved by other sales"
    if not asked <= free:
        return refused(
            "short sale",
            Code.SHORT_SALE,
            f"selling {plain(asked)} of `{symbol}` would go short, which this key may not (allow_short): {numbers}",
        )
    return passed("short sale", f"selling {plain(asked)} of {symbol}: {numbers}")


def position(case: Case) -> Finding | None:
    """Whether it is known how much of what is sold is held."""
    if case.key.allow_short is not False:
        return None
    intent = case.intent
    if _sells(intent):
        return _holding(case, intent)
    what = _not_told(intent)
    if what is None:
        return None
    return refused("position", Code.POSITION_UNKNOWN, f"whether {what} would go short cannot be told (allow_short)")


def _holding(case: Case, order: PlaceOrder) -> Finding:
    symbol = order.security.symbol
    why = _NOT_BY_QUANTITY.get(order.security.trd_market)
    if why is not None:
        text = f"how much of `{symbol}` may be sold cannot be told: {why}"
        return refused("position", Code.POSITION_UNKNOWN, text)
    known = case.facts.position
    if known is None or known.reserved is None:
        text = f"a sale needs to be of what is held: OpenD does not say how much of `{symbol}` is; try again"
        return refused("position", Code.POSITION_UNKNOWN, text)
    return passed("position", f"OpenD says how much of {symbol} can be sold: {plain(known.sellable)}")


def _sells(intent: Intent) -> TypeGuard[PlaceOrder]:
    return isinstance(intent, PlaceOrder) and intent.side is Side.SELL


def _sides(intent: Intent) -> frozenset[Side]:
    if isinstance(intent, PlaceOrder):
        return frozenset({intent.side})
    return frozenset(leg.side for leg in intent.legs) if isinstance(intent, PlaceCombo) else frozenset()


def _not_told(intent: Intent) -> str | None:
    """INVARIANT: what may sell and names no quantity of one security is refused, whatever other rules come to allow."""
    if isinstance(intent, PlaceCombo) and Side.SELL in _sides(intent):
        return "a combo order that sells"
    if isinstance(intent, ModifyOrder) and intent.op not in (ModifyOp.DISABLE, ModifyOp.DELETE):
        return "a change of an order"
    return "confirming an order again" if isinstance(intent, ReconfirmOrder) else None
