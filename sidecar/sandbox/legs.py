"""The legs of a combo: what they cost together and which strategy they make. Knows no order, and judges none (`combos`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sidecar.sandbox.instruments import ZERO, Instrument, Kind
from sidecar.sandbox.market import Quote

STEP = Decimal("0.01")
"""Of net prices."""

COVERED, SPREAD, STRADDLE, STRANGLE, CALENDAR, DIAGONAL, CUSTOM = 2, 4, 6, 7, 15, 16, 100
"""Qot_Common.OptionStrategyType, those the sandbox tells apart."""

_NAMES = {
    COVERED: "Covered",
    SPREAD: "Spread",
    STRADDLE: "Straddle",
    STRANGLE: "Strangle",
    CALENDAR: "Calendar",
    DIAGONAL: "Diagonal",
    CUSTOM: "Custom",
}


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """One leg of a combo order: it trades the order's quantity times `ratio`."""

    instrument: Instrument
    quote: Quote
    buy: bool
    ratio: int


class ComboQuote:
    """What the legs cost together now, as one quote: prices per unit of the combo's multiplier, volumes in combos."""

    __slots__ = ("_legs", "instrument")

    def __init__(self, instrument: Instrument, legs: Sequence[Leg]) -> None:
        self.instrument = instrument
        self._legs = legs

    def _net(self, bought: str, sold: str) -> Decimal:
        total = ZERO
        for leg in self._legs:
            price: Decimal = getattr(leg.quote, bought if leg.buy else sold)
            total += (price if leg.buy else -price) * leg.ratio * leg.instrument.multiplier
        return total / self.instrument.multiplier

    def _volume(self, bought: str, sold: str) -> int:
        return min(int(getattr(leg.quote, bought if leg.buy else sold)) // leg.ratio for leg in self._legs)

    @property
    def ask(self) -> Decimal:
        return self._net("ask", "bid")

    @property
    def bid(self) -> Decimal:
        return self._net("bid", "ask")

    @property
    def last(self) -> Decimal:
        return self._net("last", "last")

    @property
    def ask_volume(self) -> int:
        return self._volume("ask_volume", "bid_volume")

    @property
    def bid_volume(self) -> int:
        return self._volume("bid_volume", "ask_volume")

    def take(self, buy: bool, quantity: Decimal) -> None:
        """Take `quantity` combos from what the touches of the legs offer."""
        for leg in self._legs:
            leg.quote.take(leg.buy is buy, quantity * leg.ratio)


def combo_instrument(legs: Sequence[Leg]) -> Instrument:
    """The combo as something that has a code, a market and a multiplier; it is in no listing."""
    first = legs[0].instrument
    owner = first.owner or first
    name = _NAMES[strategy(legs)]
    return Instrument(
        market=first.market,
        code=f"{owner.code}-{name.upper()}",
        name=f"{owner.name} {name}",
        kind=Kind.OPTION,
        lot_size=max(leg.instrument.multiplier for leg in legs),
        base=ZERO,
        currency=first.currency,
        number=0,
        tick=STEP,
        owner=owner,
    )


def strategy(legs: Sequence[Leg]) -> int:
    """The OptionStrategyType of two legs where it is one of the plain ones, else CUSTOM."""
    if len(legs) != 2 or len({leg.ratio * leg.instrument.multiplier for leg in legs}) > 1:
        return CUSTOM
    one, other = legs
    options = [leg.instrument for leg in legs if leg.instrument.kind is Kind.OPTION]
    if len(options) == 1:
        return COVERED
    if not options or options[0].owner is not options[1].owner:
        return CUSTOM
    same_expiry = options[0].expiry == options[1].expiry
    same_strike = options[0].strike == options[1].strike
    if options[0].side != options[1].side:
        return CUSTOM if not same_expiry or one.buy is not other.buy else STRADDLE if same_strike else STRANGLE
    if one.buy is other.buy:
        return CUSTOM
    return SPREAD if same_expiry else CALENDAR if same_strike else DIAGONAL
