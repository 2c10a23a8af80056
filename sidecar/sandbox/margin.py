"""What an order or a position holds back of an account's money. Knows no account and no order, only amounts."""

from __future__ import annotations

from decimal import Decimal

from sidecar.sandbox.instruments import ZERO, Instrument, Kind

FUTURE_MARGIN = Decimal("0.1")
SHORT_MARGIN = Decimal("1.5")
"""Share of the value that an open future or a short position holds back (made up)."""


def needed(instrument: Instrument, quantity: Decimal, buy: bool, short: bool, price: Decimal) -> Decimal:
    """Cash or margin that an order of `quantity` at `price` takes."""
    value = quantity * price * instrument.multiplier
    if instrument.kind is Kind.FUTURE:
        return value * FUTURE_MARGIN
    if buy:
        return value
    return value * (SHORT_MARGIN - 1) if short else ZERO
