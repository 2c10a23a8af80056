"""What an order trades, security by security, with what is known of each: one leg of a plain order, several of a combo."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sidecar.intents.model import PlaceCombo, PlaceOrder, Security, Side
from sidecar.policy.exact import EXACT
from sidecar.policy.usage import Facts, LegFacts

_UNKNOWN = LegFacts()
_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Leg:
    """`added`: the units it would add to what is on the market; for a change of an order fewer than the order has."""

    security: Security
    side: Side
    added: Decimal
    known: LegFacts


def legs_of(order: PlaceOrder | PlaceCombo, facts: Facts, added: Decimal) -> tuple[Leg, ...]:
    """`added` in the order's own quantity, of which each leg has its ratio."""
    known = known_of(order, facts)
    if isinstance(order, PlaceOrder):
        return (Leg(order.security, order.side, added, known[0]),)
    return tuple(
        Leg(leg.security, leg.side, EXACT.multiply(added, leg.qty_ratio), each)
        for leg, each in zip(order.legs, known, strict=True)
    )


def known_of(order: PlaceOrder | PlaceCombo, facts: Facts) -> tuple[LegFacts, ...]:
    """What is known of each of its securities."""
    if isinstance(order, PlaceOrder):
        return (LegFacts(facts.instrument, facts.quote, facts.position, facts.market_state),)
    return facts.legs if len(facts.legs) == len(order.legs) else (_UNKNOWN,) * len(order.legs)


def units_of(order: PlaceOrder | PlaceCombo, symbol: str) -> tuple[Decimal, Decimal]:
    """Units of one security that the whole order buys and sells."""
    bought = sold = Decimal(0)
    for leg in legs_of(order, Facts(), order.qty):
        if leg.security.symbol != symbol:
            continue
        if leg.side.sells:
            sold = EXACT.add(sold, leg.added)
        else:
            bought = EXACT.add(bought, leg.added)
    return bought, sold
