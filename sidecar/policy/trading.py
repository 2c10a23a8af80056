"""Trading states: whether anything new may be traded, by everybody or under one key, and why not. Only values and their
words; who changes them and where they are kept is not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum


class TradingState(IntEnum):
    """In the order of strictness: of two states the higher one holds."""

    ACTIVE = 0
    REDUCING = 1
    """Orders that shrink a position, cancels and reads."""
    HALTED = 2
    """Cancels and reads, and nothing else."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One state in force: of all trading (`key_id` None) or of one key's, since when (aware), why, and who said so."""

    state: TradingState = TradingState.ACTIVE
    key_id: str | None = None
    since: datetime | None = None
    reason: str = ""
    by: str = ""
    """For the owner alone: it may name another key."""
    breaker: str = ""
    """Which breaker it was that halted the key; "" where somebody did."""

    def told(self, now: datetime) -> str:
        """As the holder of a key may read it: `trading is halted since 10:41 UTC: fat finger; ...`. `now` is aware."""
        whose = "trading" if self.key_id is None else "trading under this key"
        what = "is halted" if self.state is not TradingState.REDUCING else "may only shrink positions"
        by = f" by the breaker {self.breaker}" if self.breaker else ""
        since = _since(self.since, now)
        return f"{whose} {what}{since}{by}: {self.reason}; only the owner can resume it, cancels still work"


ACTIVE = Standing()


def strictest(overall: Standing, own: Standing) -> Standing:
    """What holds for a key; of two equally strict states that of all trading is told."""
    return own if own.state > overall.state else overall


def locked_told(since: datetime, now: datetime) -> str:
    """That a client of the key itself has locked it. Both moments are aware."""
    return (
        f"real trading under this key was locked by one of its own clients{_since(since, now)};"
        " unlock it again to go on, cancels still work"
    )


def _since(since: datetime | None, now: datetime) -> str:
    if since is None:
        return ""
    at = since.astimezone(UTC)
    same_day = at.date() == now.astimezone(UTC).date()
    return f" since {at:%H:%M} UTC" if same_day else f" since {at:%Y-%m-%d %H:%M} UTC"
