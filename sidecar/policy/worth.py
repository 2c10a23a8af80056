"""What an order counts as against caps, in exact arithmetic; knows no limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sidecar.intents.model import OrderType, PlaceCombo, PlaceOrder, RestingOrder, Side, Trail
from sidecar.policy.currency import Exchange
from sidecar.policy.decision import Worth
from sidecar.policy.exact import EXACT, plain
from sidecar.policy.legs import Leg, legs_of
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


def worth(order: PlaceOrder | PlaceCombo, facts: Facts, terms: Terms, exchange: Exchange | None = None) -> Worth | None:
    """Quantity × price × multiplier in the security's currency, or what that is in the one of `exchange`; of a combo the
    sum over its legs, whichever way they go. None when an input is missing.
    """
    if isinstance(order, PlaceCombo):
        return _worth_of_combo(order, facts, terms, exchange)
    if order.amount is not None:
        return None
    (leg,) = legs_of(order, facts, order.qty)
    part = _part(order, leg, terms)
    if part is None:
        return None
    units, factors = _paid(order.qty, part.price, facts.resting)
    value = EXACT.multiply(units, part.multiplier)
    told = f"{factors} × {plain(part.multiplier)} = {plain(value)} {part.currency}"
    return in_terms_of(exchange, value, part.currency, told)


def _paid(qty: Decimal, price: CountedPrice, resting: RestingOrder | None) -> tuple[Decimal, str]:
    """Quantity × price; of an order that is changed, what was filled at more counts at that."""
    told = f"{plain(price.amount)} ({price.basis})"
    filled, at = (_ZERO, None) if resting is None else (resting.filled, resting.fill_price)
    if at is None or not (filled > 0 and at > price.amount):
        return EXACT.multiply(qty, price.amount), f"{plain(qty)} × {told}"
    rest = max(_ZERO, EXACT.subtract(qty, filled))
    total = EXACT.add(EXACT.multiply(rest, price.amount), EXACT.multiply(filled, at))
    return total, f"({plain(rest)} × {told} + {plain(filled)} × {plain(at)} (filled))"


@dataclass(frozen=True, slots=True)
class _Part:
    """What one leg is worth, in its own currency."""

    price: CountedPrice
    multiplier: Decimal
    value: Decimal
    currency: str


def _part(order: PlaceOrder | PlaceCombo, leg: Leg, terms: Terms) -> _Part | None:
    instrument, price = leg.known.instrument, unit_price(order, leg, terms)
    if instrument is None or unvalued(instrument) is not None or isinstance(price, str) or not leg.added > 0:
        return None
    multiplier = instrument.multiplier or _ZERO
    return _Part(price, multiplier, value_of(leg.added, price, instrument), instrument.currency)


def value_of(units: Decimal, price: CountedPrice, instrument: Instrument) -> Decimal:
    """In the instrument's own currency."""
    return EXACT.multiply(EXACT.multiply(units, price.amount), instrument.multiplier or _ZERO)


def in_terms_of(exchange: Exchange | None, value: Decimal, currency: str, explanation: str) -> Worth | None:
    """The value in the currency of `exchange`, where there is one; None where it cannot be converted."""
    if exchange is None or currency == exchange.into:
        return Worth(value, currency, explanation)
    converted = exchange.convert(value, currency)
    if converted is None:
        return None
    shown = f"{explanation}{exchange.factor(currency)} = {plain(converted)} {exchange.into}"
    return Worth(converted, exchange.into, shown)


def unvalued(instrument: Instrument | None) -> str | None:
    """Why what is not known of an instrument, or is known, forbids to say what it is worth; None where it can be said."""
    if instrument is None:
        return "OpenD does not say what `{symbol}` is"
    if instrument.kind not in VALUED_KINDS:
        return f"`{{symbol}}` is of kind {instrument.kind.value}, which cannot be held against this key's value limits"
    if instrument.multiplier is None or not instrument.multiplier > 0 or not instrument.currency:
        return "OpenD does not say the contract size or currency of `{symbol}`"
    return None


def _worth_of_combo(combo: PlaceCombo, facts: Facts, terms: Terms, exchange: Exchange | None) -> Worth | None:
    """A leg has no price of its own: it counts at the market's. Never less than the net price asks for: a debit far above
    the market is paid all the same. Legs in several currencies have a sum only where all are converted into one.
    """
    parts = [(leg, _part(combo, leg, terms)) for leg in legs_of(combo, facts, combo.qty)]
    known = [(leg, part) for leg, part in parts if part is not None]
    if not known or len(known) != len(parts):
        return None
    currencies = {part.currency for _, part in known}
    if len(currencies) > 1 and exchange is None:
        return None
    spread = exchange if len(currencies) > 1 else None  # then each leg is converted by itself
    total, told = _ZERO, []
    for leg, part in known:
        value = part.value if spread is None else spread.convert(part.value, part.currency)
        if value is None:
            return None
        total = EXACT.add(total, value)
        told.append(
            f"{plain(leg.added)} {leg.security.symbol} × {plain(part.price.amount)} ({part.price.basis}) × "
            f"{plain(part.multiplier)}{'' if spread is None else spread.factor(part.currency)}"
        )
    currency = known[0][1].currency if spread is None else spread.into
    summed = in_terms_of(exchange, total, currency, f"{' + '.join(told)} = {plain(total)} {currency}")
    net = _net(combo, [part for _, part in known], exchange)
    if summed is None or net is None or not net.value > summed.value:
        return summed
    return Worth(
        net.value, net.currency, f"{net.explanation}, more than its legs' {plain(summed.value)} {summed.currency}"
    )


def _net(combo: PlaceCombo, parts: Sequence[_Part], exchange: Exchange | None) -> Worth | None:
    """What the net price comes to, in the currency of the leg that makes most of it. None where there is no net price."""
    if combo.price is None:
        return None
    found: list[Worth] = []
    for multiplier, currency in {(part.multiplier, part.currency) for part in parts}:
        value = EXACT.multiply(EXACT.multiply(combo.qty, abs(combo.price)), multiplier)
        factors = f"{plain(combo.qty)} × {plain(abs(combo.price))} (net price) × {plain(multiplier)}"
        told = in_terms_of(exchange, value, currency, f"{factors} = {plain(value)} {currency}")
        if told is not None:
            found.append(told)
    return max(found, key=lambda each: each.value, default=None)


def unit_price(order: PlaceOrder | PlaceCombo, leg: Leg, terms: Terms) -> CountedPrice | str:
    """What one unit of a leg of the order counts at, or in words why that cannot be told."""
    market = reference(leg)
    if isinstance(order, PlaceOrder):
        return counted_price(order, market, terms)
    if market is None:
        return f"a leg of a combo counts at the market price, and {_unquoted(leg.security.symbol, leg.side)}"
    return market if order.order_type.priced else _buffered(market, terms)


def reference(leg: Leg) -> CountedPrice | None:
    """The market's price: the live quote; where there is none, for a sale of what is held, what OpenD says that is worth."""
    quote, position = leg.known.quote, leg.known.position
    if quote is not None and quote > 0:
        return CountedPrice(quote, "quote")
    if leg.side is not Side.SELL or position is None or position.net is None or position.price is None:
        return None
    return CountedPrice(position.price, "holding's price") if position.net > 0 and position.price > 0 else None


def asks_holding(order: PlaceOrder | PlaceCombo, legs: Sequence[Leg]) -> list[bool]:
    """Of which of its legs the holding is worth asking for, because there is no quote for a sale of it."""
    wanted = needs_quote(order)
    return [
        wanted
        and leg.side is Side.SELL
        and leg.known.quote is None
        and leg.known.instrument is not None
        and leg.known.position is None
        for leg in legs
    ]


def needs_quote(order: PlaceOrder | PlaceCombo) -> bool:
    """Whether the order counts at no less than the market's price: it sells, or it has no price of its own."""
    return isinstance(order, PlaceCombo) or order.side.sells or not order.order_type.priced


def counted_price(order: PlaceOrder, market: CountedPrice | None, terms: Terms) -> CountedPrice | str:
    """What one unit of the order counts at, or in words why that cannot be told. `market`: the reference price.

    A buy counts at its limit, raised where OpenD may raise it (adjustPrice). A sale counts at the same, at the market
    or at its trigger, whichever is most: a limit of 0.01 still sells at the market. A type without a price counts at
    the market or its trigger, whichever is more, with the buffer on top; the trigger of a trailing buy is where it is
    now, above the market.
    """
    if not order.order_type.priced:
        return _unpriced(order, market, terms)
    limit = order.price
    if limit is None or not limit > 0:
        return f"what an order {_at(limit, 'price')} is worth cannot be told"
    counted = CountedPrice(limit, "limit")
    if order.adjust_limit is not None and order.adjust_limit > 0:
        counted = CountedPrice(EXACT.multiply(limit, EXACT.add(_ONE, order.adjust_limit)), "limit at its worst")
    if not order.side.sells:
        return counted
    if market is None:
        unquoted = _unquoted(order.security.symbol, order.side)
        return f"a sale counts at the market price if that is higher, and {unquoted}"
    return _higher(_higher(counted, market.amount, market.basis), order.aux_price, "trigger")


def _unpriced(order: PlaceOrder, market: CountedPrice | None, terms: Terms) -> CountedPrice | str:
    kind, trigger = f"an order of type {order.order_type.name}", order.aux_price
    if market is None:
        return f"{kind} has no price of its own, and {_unquoted(order.security.symbol, order.side)}"
    if order.order_type in _TRIGGERED and (trigger is None or not trigger > 0):
        return f"what {kind} {_at(trigger, 'trigger')} is worth cannot be told"
    counted = _higher(market, trigger, "trigger")
    if order.order_type in _TRAILING and not order.side.sells:
        if order.trail is None:
            return f"what {kind} without trailType and trailValue is worth cannot be told"
        counted = _higher(counted, _trailed(market.amount, order.trail), "trigger")
    return _buffered(counted, terms)


def _buffered(counted: CountedPrice, terms: Terms) -> CountedPrice:
    factor = EXACT.add(_ONE, EXACT.multiply(terms.price_buffer_pct, _PER_CENT))
    basis = f"{counted.basis} {plain(counted.amount)} + {plain(terms.price_buffer_pct)} %"
    return CountedPrice(EXACT.multiply(counted.amount, factor), basis)


def _trailed(market: Decimal, trail: Trail) -> Decimal:
    """The highest price at which a buy that trails the market from now on may be filled, while the market stays."""
    distance = EXACT.multiply(EXACT.multiply(market, trail.value), _PER_CENT) if trail.ratio else trail.value
    beyond = trail.spread if trail.spread > 0 else Decimal(0)
    return EXACT.add(EXACT.add(market, distance), beyond)


def _unquoted(symbol: str, side: Side) -> str:
    held = ", nor is it held at a price OpenD says" if side is Side.SELL else ""
    return f"there is no quote for `{symbol}`{held}"


def _higher(counted: CountedPrice, price: Decimal | None, basis: str) -> CountedPrice:
    return CountedPrice(price, basis) if price is not None and price > counted.amount else counted


def _at(price: Decimal | None, name: str) -> str:
    return f"without a {name}" if price is None else f"with a {name} of {plain(price)}"
