"""What an order counts as against caps, in exact arithmetic; knows no limit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sidecar.intents.model import OrderType, PlaceCombo, PlaceOrder, Trail
from sidecar.policy.decision import Worth
from sidecar.policy.exact import EXACT, plain
from sidecar.policy.legs import legs_of
from sidecar.policy.usage import Facts, Instrument, InstrumentKind, Terms

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

_ZERO, _ONE = Decimal(0), Decimal(1)
_PER_CENT = Decimal("0.01")
_TRIGGERED = frozenset({OrderType.STOP, OrderType.MARKET_IF_TOUCHED})
"""The types without a price that wait for a trigger price."""
_TRAILING = frozenset({OrderType.TRAILING_STOP, OrderType.TRAILING_STOP_LIMIT})


@dataclass(frozen=True, slots=True)
class CountedPrice:
    """What one unit counts at, above 0, and where that comes from: `limit`, or `quote 480 + 5 %`."""

    amount: Decimal
    basis: str


def worth(order: PlaceOrder | PlaceCombo, facts: Facts, terms: Terms) -> Worth | None:
    """Quantity × price × multiplier in the security's currency; of a combo the sum over its legs, whichever way they go.
    None when an input is missing.
    """
    if isinstance(order, PlaceCombo):
        return _worth_of_combo(order, facts, terms)
    instrument = facts.instrument
    if order.amount is not None or unvalued(instrument) is not None or instrument is None:
        return None
    price = counted_price(order, facts.quote, terms)
    if not isinstance(price, CountedPrice) or not order.qty > 0:
        return None
    multiplier, currency = instrument.multiplier or _ZERO, instrument.currency
    value = EXACT.multiply(EXACT.multiply(order.qty, price.amount), multiplier)
    factors = f"{plain(order.qty)} × {plain(price.amount)} ({price.basis}) × {plain(multiplier)}"
    return Worth(value, currency, f"{factors} = {plain(value)} {currency}")


def unvalued(instrument: Instrument | None) -> str | None:
    """Why what is not known of an instrument, or is known, forbids to say what it is worth; None where it can be said."""
    if instrument is None:
        return "OpenD does not say what `{symbol}` is"
    if instrument.kind not in VALUED_KINDS:
        return f"`{{symbol}}` is of kind {instrument.kind.value}, which cannot be held against this key's value limits"
    if instrument.multiplier is None or not instrument.multiplier > 0 or not instrument.currency:
        return "OpenD does not say the contract size or currency of `{symbol}`"
    return None


def _worth_of_combo(combo: PlaceCombo, facts: Facts, terms: Terms) -> Worth | None:
    """A leg has no price of its own: it counts at the quote. Never less than the net price asks for: a debit far above
    the quotes is paid all the same.
    """
    total, largest, currencies, parts = _ZERO, _ZERO, set(), []
    for leg in legs_of(combo, facts, combo.qty):
        instrument, price = leg.known.instrument, leg_price(combo, leg.security.symbol, leg.known.quote, terms)
        if instrument is None or unvalued(instrument) is not None or isinstance(price, str) or not leg.added > 0:
            return None
        multiplier = instrument.multiplier or _ZERO
        total = EXACT.add(total, EXACT.multiply(EXACT.multiply(leg.added, price.amount), multiplier))
        largest = max(largest, multiplier)
        currencies.add(instrument.currency)
        parts.append(
            f"{plain(leg.added)} {leg.security.symbol} × {plain(price.amount)} ({price.basis}) × {plain(multiplier)}"
        )
    if len(currencies) != 1:
        return None
    (currency,) = currencies
    explanation = f"{' + '.join(parts)} = {plain(total)} {currency}"
    net = _ZERO if combo.price is None else EXACT.multiply(EXACT.multiply(combo.qty, abs(combo.price)), largest)
    if net > total:
        factors = f"{plain(combo.qty)} × {plain(abs(combo.price or _ZERO))} (net price) × {plain(largest)}"
        return Worth(net, currency, f"{factors} = {plain(net)} {currency}, more than its legs' {plain(total)}")
    return Worth(total, currency, explanation)


def leg_price(combo: PlaceCombo, symbol: str, quote: Decimal | None, terms: Terms) -> CountedPrice | str:
    """What one unit of a leg counts at, or in words why that cannot be told."""
    if quote is None or not quote > 0:
        return f"a leg of a combo counts at the market price, and there is no quote for `{symbol}`"
    return CountedPrice(quote, "quote") if combo.order_type.priced else _buffered(CountedPrice(quote, "quote"), terms)


def needs_quote(order: PlaceOrder | PlaceCombo) -> bool:
    """Whether the order counts at no less than the market's price: it sells, or it has no price of its own."""
    return isinstance(order, PlaceCombo) or order.side.sells or not order.order_type.priced


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
    return _buffered(reference, terms)


def _buffered(reference: CountedPrice, terms: Terms) -> CountedPrice:
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
