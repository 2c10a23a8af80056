"""The limits on the order itself, one function each: its type, its session, its price beside the market's, its size, and
whether it was just placed (checks 6, 7 and 9). They know no totals.

As everywhere in the policy: what is missing refuses.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil

from sidecar.intents.model import PlaceCombo, PlaceOrder
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.exact import EXACT, plain
from sidecar.policy.key import Key
from sidecar.policy.legs import units_of

_SESSIONS = ("none", "RTH", "ETH", "ALL", "OVERNIGHT")
"""OpenD's names (Common.Session), by number."""
_REGULAR = (0, 1)
_ZERO, _ONE, _HUNDRED = Decimal(0), Decimal(1), Decimal(100)


# -- 6 and 7: type and session ----------------------------------------------------------------------------------------


def order_type(case: Case) -> Finding | None:
    allowed = case.key.allowed_order_types
    order = case.order or case.combo
    if allowed is None or order is None:
        return None
    name = order.order_type.name
    if order.order_type not in allowed:
        shown = ", ".join(sorted(one.name for one in allowed))
        return refused("order type", Code.ORDER_TYPE, f"order type {name} is not allowed, this key has {shown}")
    return passed("order type", f"{name} is allowed")


def extended_hours(case: Case) -> Finding | None:
    """A combo has no way to say that it may fill outside regular hours."""
    order = case.order
    if case.key.extended_hours is not False or order is None:
        return None
    told = ["fillOutsideRTH"] if order.outside_rth else []
    if order.session not in _REGULAR:
        told.append(f"session {_SESSIONS[order.session] if 0 <= order.session < len(_SESSIONS) else order.session}")
    if told:
        return refused(
            "extended hours",
            Code.EXTENDED_HOURS,
            f"an order with {' and '.join(told)} may fill outside regular trading hours, which this key may not",
        )
    return passed("extended hours", "regular trading hours only")


# -- 9: price, quantity, repetition -----------------------------------------------------------------------------------


def collar_needs_quote(key: Key, order: PlaceOrder | PlaceCombo) -> bool:
    """Whether the collar will ask what the market's price is."""
    return key.price_collar_pct is not None and isinstance(order, PlaceOrder) and order.order_type.priced


def price_collar(case: Case) -> Finding | None:
    """How far a limit is from the quote on the side that hurts: a buy above, a sale below; where OpenD may move it
    (adjustPrice), at its worst. A type without a limit has nothing to compare.
    """
    collar, order = case.key.price_collar_pct, case.order
    if collar is None:
        return None
    if case.combo is not None:
        text = "there is no quote of a combo order to hold against the price collar"
        return refused("price collar", Code.PRICE_UNAVAILABLE, text)
    if order is None:
        return None
    if not order.order_type.priced:
        return passed("price collar", f"an order of type {order.order_type.name} has no limit price to compare")
    symbol, quote = order.security.symbol, case.facts.quote
    if order.price is None or quote is None or not quote.is_finite() or not quote > 0:
        return refused(
            "price collar",
            Code.PRICE_UNAVAILABLE,
            f"the limit cannot be held against this key's price collar: there is no quote for `{symbol}`",
        )
    sells = order.side.sells
    worst = _at_its_worst(order.price, order.adjust_limit, sells=sells)
    percent = EXACT.subtract(_HUNDRED, collar) if sells else EXACT.add(_HUNDRED, collar)
    edge = EXACT.multiply(quote, percent).scaleb(-2, EXACT)
    inside = worst >= edge if sells else worst <= edge
    what = f"{'a sale' if sells else 'a buy'} at {plain(worst)}"
    if worst != order.price:
        what += f" (limit {plain(order.price)} at its worst)"
    where = "below" if sells else "above"
    limit = f"{plain(edge)}, {plain(collar)} % {where} the quote of {plain(quote)}"
    if not inside:
        return refused("price collar", Code.PRICE_COLLAR, f"{what} for `{symbol}` is {where} the limit of {limit}")
    return passed("price collar", f"{what}, the limit is {limit}")


def _at_its_worst(price: Decimal, adjust_limit: Decimal | None, *, sells: bool) -> Decimal:
    """`adjust_limit` is signed, + is up: it hurts a buy upwards and a sale downwards."""
    moved = adjust_limit or _ZERO
    moved = min(moved, _ZERO) if sells else max(moved, _ZERO)
    return EXACT.multiply(price, EXACT.add(_ONE, moved)) if moved else price


def order_qty(case: Case) -> Finding | None:
    limit, order = case.key.max_order_qty, case.order or case.combo
    if limit is None or order is None:
        return None
    qty = order.qty
    if isinstance(order, PlaceCombo):
        qty = max((max(units_of(order, leg.security.symbol)) for leg in order.legs), default=qty)
    if not qty <= limit:
        return refused("quantity", Code.ORDER_QTY, f"quantity {plain(qty)} is over the limit of {plain(limit)}")
    return passed("quantity", f"{plain(qty)}, the limit is {plain(limit)}")


def duplicate(case: Case) -> Finding | None:
    """One order, sent twice by a mistake or a loop. What OpenD refused, and what was never sent, did not happen.
    A change repeats nothing."""
    window, intent = case.key.duplicate_window_s, case.intent
    if window is None or not isinstance(intent, PlaceOrder | PlaceCombo):
        return None
    at = "" if intent.price is None else f" at {plain(intent.price)}"
    if isinstance(intent, PlaceCombo):
        what = f"{plain(intent.qty)} of {intent.symbol}{at}"
    else:
        what = f"{intent.side} {plain(intent.qty)} {intent.security.symbol}{at}"
    age = case.usage.same_order_age
    if age is None or not age < window:
        return passed("duplicate", f"{what} was not placed in the last {window} s")
    wait = ceil(window - age)
    return refused(
        "duplicate",
        Code.DUPLICATE,
        f"the same order, {what}, was placed {int(age)} s ago, and this key may repeat it only after {window} s;"
        f" try again in {wait} s",
        retry_after=wait,
    )
