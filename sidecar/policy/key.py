"""A key as the rules see it: scopes, whitelists and caps, parsed and exact. Knows no file, no hash, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, tzinfo
from decimal import Decimal
from enum import StrEnum

from sidecar.intents.model import OrderType, Side


class Scope(StrEnum):
    QOT_READ = "qot:read"
    ACC_READ = "acc:read"
    TRADE_SIMULATE = "trade:simulate"
    TRADE_REAL = "trade:real"
    TRADE_UNLOCK = "trade:unlock"
    TRADE_CANCEL = "trade:cancel"
    ADMIN = "admin"


TRADE_SCOPES = frozenset({Scope.TRADE_SIMULATE, Scope.TRADE_REAL})


@dataclass(frozen=True, slots=True)
class HoursWindow:
    """`start` included, `end` excluded, in the key's zone; `end` <= `start` crosses midnight."""

    start: time
    end: time


@dataclass(frozen=True, slots=True)
class Key:
    """One record of keys.json. None means the limit is absent; an empty whitelist never gets here: it does not load."""

    id: str
    scopes: frozenset[Scope]
    created_at: datetime | None = None
    expires_at: datetime | None = None
    note: str | None = None
    allowed_markets: frozenset[str] | None = None
    allowed_symbols: frozenset[str] | None = None
    """`US.AAPL`, `US.*`, `US.AAPL@options`."""
    allowed_trd_sides: frozenset[Side] | None = None
    allowed_acc_ids: frozenset[int] | None = None
    allowed_order_types: frozenset[OrderType] | None = None
    max_order_value: Decimal | None = None
    max_daily_value: Decimal | None = None
    max_position_value: Decimal | None = None
    """Of one security in one account, orders on the market and on their way included."""
    cap_currency: str | None = None
    """ISO code of the currency the three amounts are in; None: that of each order."""
    max_orders_per_minute: int | None = None
    max_open_orders: int | None = None
    """Orders on the market at one time, those on their way included."""
    max_order_qty: Decimal | None = None
    """Shares, contracts or coins of one order."""
    price_collar_pct: Decimal | None = None
    """How far a limit may be from the quote on the side that hurts, in percent of the quote."""
    duplicate_window_s: int | None = None
    """Seconds in which the same order may not come again."""
    trading_hours: bool | None = None
    """True: orders only while the market trades, as OpenD reports it. False says no more than None."""
    extended_hours: bool | None = None
    """False: orders for regular trading hours only. True says no more than None."""
    allow_short: bool | None = None
    """False: nothing may be sold that is not held. True says no more than None."""
    cancel_on_disconnect: int | None = None
    """Seconds after the key's last connection ended when its own orders are cancelled; None: they stay."""
    hours_window: tuple[HoursWindow, ...] | None = None
    zone: tzinfo | None = None
    """The zone of hours_window; never None when hours_window is set."""
    allowed_machines: frozenset[str] | None = None
    """Fingerprints; the empty set is a frozen key."""
    allowed_ips: tuple[str, ...] | None = None
    """CIDR v4/v6, normalised."""

    @property
    def frozen(self) -> bool:
        return self.allowed_machines is not None and not self.allowed_machines

    @property
    def value_capped(self) -> bool:
        """Whether any limit is an amount of money, so that an order must be valued."""
        return not (self.max_order_value is None and self.max_daily_value is None and self.max_position_value is None)
