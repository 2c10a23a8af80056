"""The limits on the order itself, one function each: its type, its session, its price beside the market's, its size, and
whether it was just placed (checks 6, 7 and 9). They know no totals.

As everywhere in the policy: what is missing refuses.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil

from sidecar.intents.model import Intent, PlaceCombo, PlaceOrder
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.key import Key
from sidecar.policy.worth import EXACT, plain

_SESSIONS = ("none", "RTH", "ETH", "ALL", "OVERNIGHT")
"""OpenD's names (Common.Session), by number."""
_REGULAR = (0, 1)
_ZERO, _ONE, _HUNDRED = Decimal(0), Decimal(1), Decimal(100)


# -- 6 and 7: type and session ----------------------------------------------------------------------------------------


def order_type(case: Case) -> Finding | None:
    allowed = case.key.allowed_order_types
    intent = case.intent
    if allowed is None or not isinstance(intent, PlaceOrder | PlaceCombo):
        return None
    name = intent.order_type.name
    if intent.order_type not in allowed:
        shown = ", ".join(sorted(one.name for one in allowed))
        return refused("order type", Code.ORDER_TYPE, f"order type {name} is not allowed, this key has {shown}")
    return passed("order type", f"{name} is allowed")


def extended_hours(case: Case) -> Finding | None:
    """A combo has no way to say that it may fill outside regular hours."""
    intent = case.intent
    if case.key.extended_hours is not False or not isinstance(intent, PlaceOrder):
        return None
    told = ["fillOutsideRTH"] if intent.outside_rth else []
    if intent.session not in _REGULAR:
        told.append(f"session {_SESSIONS[intent.session]}")
    if told:
        return refused(
            "extended hours",
            Code.EXTENDED_HOURS,
            f"an order with {' and '.join(told)} may fill outside regular trading hours, which this key may not",
        )
    return passed("extended hours", "regular trading hours only")


# -- 9: price, quantity, repetition -----------------------------------------------------------------------------------


def collar_needs_quote(key: Key, intent: Intent) -> bool:
    """Whether the collar will ask what the market's price is."""
    return key.price_collar_pct is not None and isinstance(intent, PlaceOrder) and intent.order_type.priced


def price_collar(case: Case) -> Finding | None:
    """How far a limit is from the quote on the side that hurts: a buy above, a sale below; where OpenD may move it
    (adjustPrice), at its worst. A type without a limit has nothing to compare.
    """
    collar, intent = case.key.price_collar_pct, case.intent
    if collar is None or not isinstance(intent, PlaceOrder | PlaceCombo):
        return None
    if isinstance(intent, PlaceCombo):
        return refused(
            "price collar",
            Code.PRICE_UNAVAILABLE,
            "there is no quote of a combo order to hold against the price collar",
        )
    if not intent.order_type.priced:
        return passed("price collar", f"an order of type {intent.order_type.name} has no limit price to compare")
    symbol, quote = intent.security.symbol, case.facts.quote
    if intent.price is None or quote is None or not quote.is_finite() or not quote > 0:
        return refused(
            "price collar",
            Code.PRICE_UNAVAILABLE,
            f"the limit cannot be held against this key's price collar: there is no quote for `{symbol}`",
        )
    sells = intent.side.sells
    worst = _at_its_worst(intent.price, intent.adjust_limit, sells=sells)
    percent = EXACT.subtract(_HUNDRED, collar) if sells else EXACT.add(_HUNDRED, collar)
    edge = EXACT.multiply(quote, percent).scaleb(-2, EXACT)
    inside = worst >= edge if sells else worst <= edge
    what = f"{'a sale' if sells else 'a buy'} at {plain(worst)}"
    if worst != intent.price:
        what += f" (limit {plain(intent.price)} at its worst)"
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
    limit, intent = case.key.max_order_qty, case.intent
    if limit is None or not isinstance(intent, PlaceOrder | PlaceCombo):
        return None
    qty = intent.qty
    if isinstance(intent, PlaceCombo):  # as many of each leg
        qty = EXACT.multiply(qty, max((leg.qty_ratio for leg in intent.legs), default=_ONE))
    if not qty <= limit:
        return refused("quantity", Code.ORDER_QTY, f"quantity {plain(qty)} is over the limit of {plain(limit)}")
    return passed("quantity", f"{plain(qty)}, the limit is {plain(limit)}")


def duplicate(case: Case) -> Finding | None:
    """One order, sent twice by a mistake or a loop. What OpenD refused, and what was never sent, did not happen."""
    window, intent = case.key.duplicate_window_s, case.intent
    if window is None or not isinstance(intent, PlaceOrder | PlaceCombo):
        return None
    if isinstance(intent, PlaceCombo):
        return refused("duplicate", Code.DUPLICATE, "whether a combo order repeats another one cannot be told")
    at = "" if intent.price is None else f" at {plain(intent.price)}"
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
