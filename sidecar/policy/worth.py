"""What an order counts as against caps, in exact arithmetic, and numbers as people read them; knows no limit."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

from sidecar.intents.model import PlaceOrder
from sidecar.policy.decision import Worth
from sidecar.policy.usage import Facts, InstrumentKind

VALUED_KINDS = frozenset({InstrumentKind.STOCK, InstrumentKind.ETF})
"""What can be valued: of derivatives and the rest, quantity × price says too little about what is at stake."""

EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, Overflow])
"""INVARIANT: money is never rounded; an amount too long even for this refuses instead."""

_ONE = Decimal(1)
_LONGEST = 40


def worth(order: PlaceOrder, facts: Facts) -> Worth | None:
    """Quantity × price × multiplier in the security's currency; None when an input is missing.

    A buy counts at its limit, raised where OpenD may raise it (adjustPrice). A sale counts at the same or at the
    quote, whichever is more: a limit of 0.01 still sells at the market.
    """
    instrument = facts.instrument
    if order.price is None or order.amount is not None or instrument is None or instrument.kind not in VALUED_KINDS:
        return None
    multiplier = instrument.multiplier
    if multiplier is None or not multiplier > 0 or not instrument.currency:
        return None
    price, basis = order.price, "limit"
    if order.adjust_limit is not None and order.adjust_limit > 0:
        price, basis = EXACT.multiply(price, EXACT.add(_ONE, order.adjust_limit)), "limit at its worst"
    if order.side.sells:
        quote = facts.quote
        if quote is None or not quote > 0:
            return None
        if quote > price:
            price, basis = quote, "quote"
    if not price > 0 or not order.qty > 0:
        return None
    value = EXACT.multiply(EXACT.multiply(order.qty, price), multiplier)
    currency = instrument.currency
    explanation = f"{plain(order.qty)} × {plain(price)} ({basis}) × {plain(multiplier)} = {plain(value)} {currency}"
    return Worth(value, currency, explanation)


def plain(number: Decimal) -> str:
    """A number in digits, without exponent and trailing zeros: 100000, 0.05."""
    if not number.is_finite() or abs(number.adjusted()) > _LONGEST:
        return str(number)
    digits = format(number, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
