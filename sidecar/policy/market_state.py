"""What a market is doing at a moment: the session it is in, and OpenD's word for it. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Session(StrEnum):
    """A part of a market's day, as far as orders differ by it; in words that follow "the market is in"."""

    REGULAR = "regular trading"
    """Night sessions of futures included: they are part of their day."""
    AUCTION = "an auction"
    PRE_MARKET = "pre-market trading"
    AFTER_HOURS = "after-hours trading"
    OVERNIGHT = "overnight trading"
    CLOSED = "no session"


@dataclass(frozen=True, slots=True)
class MarketState:
    """`name`: what OpenD calls it, e.g. `REST`."""

    session: Session
    name: str
