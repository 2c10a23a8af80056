"""What an order counts as against caps, in exact arithmetic, and numbers as people read them; knows no limit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

from sidecar.intents.model import OrderType, PlaceOrder, Trail
from sidecar.policy.decision import Worth
from sidecar.policy.usage import Facts, InstrumentKind, Terms

VALUED_KINDS = frozenset(
    {
        InstrumentKind.STOCK,
        InstrumentKind.ETF,
        InstrumentKind.WARRANT,
        InstrumentKind.OPTION,
        InstrumentKind.FUTURE,
    }
)
"""What is worth quantity × price × multiplier; of everything else that is not certain."""

EXACT = Context(prec=200, traps=[Inexact, InvalidOperation, Overflow])
"""INVARIANT: money is never rounded; an amount too long even for this refuses instead."""

_ONE = Decimal(1)
_PER_CENT = Decimal("0.01")
_LONGEST = 40
_TRIGGERED = frozenset({OrderType.STOP, OrderType.MARKET_IF_TOUCHED})
"""The types without a price that wait for a trigger price."""
_TRAILING = frozenset({OrderType.TRAILING_STOP, OrderType.TRAILING_STOP_LIMIT})


@dataclass(frozen=True, slots=True)
class CountedPrice:
    """What one unit counts at, above 0, and where that comes from: `limit`, or `quote 480 + 5 %`."""

    amount: Decimal
    basis: str


def worth(order: PlaceOrder, facts: Facts, terms: Terms) -> Worth | None:
    """Quantity × price × multiplier in the security's currency; None when an input is missing."""
    instrument = facts.instrument
    if order.amount is not None or instrument is None or instrument.kind not in VALUED_KINDS:
        return None
    multiplier = instrument.multiplier
    if multiplier is None or not multiplier > 0 or not instrument.currency:
        return None
    price = counted_price(order, facts.quote, terms)
    if not isinstance(price, CountedPrice) or not order.qty > 0:
        return None
    value = EXACT.multiply(EXACT.multiply(order.qty, price.amount), multiplier)
    currency = instrument.currency
    factors = f"{plain(order.qty)} × {plain(price.amount)} ({price.basis}) × {plain(multiplier)}"
    return Worth(value, currency, f"{factors} = {plain(value)} {currency}")


def needs_quote(order: PlaceOrder) -> bool:
    """Whether the order counts at no less than the market's price: it sells, or it has no price of its own."""
    return order.side.sells or not order.order_type.priced


def counted_price(order: PlaceOrder, quote: Decimal | None, terms: Terms) -> CountedPrice | str:
    """What one unit of the order counts at, or in words why that cannot be told.

    A buy counts at its limit, raised where OpenD may raise it (adjustPrice). A sale counts at the same, at the quote
    or at its trigger, whichever is most: a limit of 0.01 still sells at the market. A type without a price counts at
    the quote or its trigger, whichever is more, with the buffer on top; the trigger of a trailing buy is where it is
    now, above the quote.
    """
    if not order.order_type.priced:
        return _unpriced(order, quote, terms)
    limit = order.price
    if limit is None or not limit > 0:
        return f"what an order {_at(limit, 'price')} is worth cannot be told"
    counted = CountedPrice(limit, "limit")
    if order.adjust_limit is not None and order.adjust_limit > 0:
        counted = CountedPrice(EXACT.multiply(limit, EXACT.add(_ONE, order.adjust_limit)), "limit at its worst")
    if not order.side.sells:
        return counted
    if quote is None or not quote > 0:
        return (
            f"a sale counts at the market price if that is higher, and there is no quote for `{order.security.symbol}`"
        )
    return _higher(_higher(counted, quote, "quote"), order.aux_price, "trigger")


def _unpriced(order: PlaceOrder, quote: Decimal | None, terms: Terms) -> CountedPrice | str:
    kind, trigger = f"an order of type {order.order_type.name}", order.aux_price
    if quote is None or not quote > 0:
        return f"{kind} has no price of its own, and there is no quote for `{order.security.symbol}`"
    if order.order_type in _TRIGGERED and (trigger is None or not trigger > 0):
        return f"what {kind} {_at(trigger, 'trigger')} is worth cannot be told"
    reference = _higher(CountedPrice(quote, "quote"), trigger, "trigger")
    if order.order_type in _TRAILING and not order.side.sells:
        if order.trail is None:
            return f"what {kind} without trailType and trailValue is worth cannot be told"
        reference = _higher(reference, _trailed(quote, order.trail), "trigger")
    factor = EXACT.add(_ONE, EXACT.multiply(terms.price_buffer_pct, _PER_CENT))
    basis = f"{reference.basis} {plain(reference.amount)} + {plain(terms.price_buffer_pct)} %"
    return CountedPrice(EXACT.multiply(reference.amount, factor), basis)


def _trailed(quote: Decimal, trail: Trail) -> Decimal:
    """The highest price at which a buy that trails the market from now on may be filled, while the market stays."""
    distance = EXACT.multiply(EXACT.multiply(quote, trail.value), _PER_CENT) if trail.ratio else trail.value
    beyond = trail.spread if trail.spread > 0 else Decimal(0)
    return EXACT.add(EXACT.add(quote, distance), beyond)


def _higher(counted: CountedPrice, price: Decimal | None, basis: str) -> CountedPrice:
    return CountedPrice(price, basis) if price is not None and price > counted.amount else counted


def _at(price: Decimal | None, name: str) -> str:
    return f"without a {name}" if price is None else f"with a {name} of {plain(price)}"


def plain(number: Decimal) -> str:
    """A number in digits, without exponent and trailing zeros: 100000, 0.05."""
    if not number.is_finite() or abs(number.adjusted()) > _LONGEST:
        return str(number)
    digits = format(number, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
