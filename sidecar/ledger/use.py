"""What one key has used: orders and cancels of the last minute, and values by day and currency. Knows no store and no order ids."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Context, Decimal

from sidecar.intents.model import PlaceCombo, PlaceOrder
from sidecar.ledger.recent import RecentOrders
from sidecar.ledger.reservation import Reservation, Row, State
from sidecar.policy.usage import Usage

WINDOW = 60.0
"""Seconds of the rate window."""
LISTED_AFTER = 60.0
"""Seconds after which a list of OpenD's that is asked for is sure to show what was settled before."""
MOST_CANCELS = 10_000
"""A key's cancels in one window are counted up to here."""

EXACT = Context(prec=200)
"""Sums of money are never rounded: prices and quantities have some twenty digits each."""


@dataclass(slots=True, eq=False)
class Entry:
    """A reservation in memory, and how far it has come."""

    reservation: Reservation
    state: State
    sequence: int
    elapsed: float
    """When it was made, on the clock that never goes back."""
    day: float
    """Start of the day in which it counts, unix seconds."""
    order_id: int = 0
    order_id_ex: str = ""
    ended: float | None = None
    """As `Row.ended`."""
    settled_at: float | None = None
    """When its fate became known, on the clock that never goes back; of a row that was loaded, when that was."""
    counts_in_rate: bool = True
    taken: bool = False
    """Whether a writer has been given it: then its disappearance must be written too."""

    @property
    def is_open(self) -> bool:
        """Whether it may still be on the market, or get there. INVARIANT: unknown is open."""
        return self.state.counts_in_daily_value and self.ended is None

    @property
    def is_order(self) -> bool:
        """Whether it put an order on the market, or back there; a modify changes one that is there."""
        return self.reservation.kind != "modify"

    def surely_listed(self, at: float) -> bool:
        """Whether a list that was asked for at that moment must show it, if OpenD has it."""
        known = self.elapsed if self.settled_at is None else self.settled_at
        return known <= at - LISTED_AFTER

    def row(self) -> Row:
        return Row(self.reservation, self.state, self.order_id, self.order_id_ex, self.ended)


@dataclass(slots=True)
class KeyUse:
    """Counts as entries come, go and change; `at` is always elapsed time."""

    orders: deque[Entry] = field(default_factory=deque)
    """In the order of their `elapsed`."""
    order_count: int = 0
    cancels: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_CANCELS))
    days: dict[float, dict[str, Decimal]] = field(default_factory=dict)
    """Start of a day → currency → value in use."""
    recent: RecentOrders = field(default_factory=RecentOrders)

    def count(self, entry: Entry) -> None:
        self.orders.append(entry)
        self.order_count += 1
        if entry.state.counts_in_daily_value:
            self.add_value(entry)

    def uncount(self, entry: Entry) -> None:
        """It never went out: it leaves the rate and the value."""
        if entry.counts_in_rate:
            entry.counts_in_rate = False
            self.order_count -= 1
        if entry.state.counts_in_daily_value:
            self.take_value(entry)

    def add_value(self, entry: Entry) -> None:
        """It is in force."""
        self.recent.add(entry.reservation, entry.elapsed)
        value, currency = entry.reservation.value, entry.reservation.currency
        if value is not None and currency is not None:
            values = self.days.setdefault(entry.day, {})
            values[currency] = EXACT.add(values[currency], value) if currency in values else value

    def take_value(self, entry: Entry) -> None:
        """It is in force no more. Its day may no longer be counted; then there is nothing to take from."""
        self.recent.remove(entry.reservation)
        value, currency = entry.reservation.value, entry.reservation.currency
        values = self.days.get(entry.day)
        if value is not None and currency is not None and values is not None:
            values[currency] = EXACT.subtract(values.get(currency, Decimal(0)), value)

    def drop_days_before(self, edge: float) -> None:
        for day in [day for day in self.days if day < edge]:
            del self.days[day]

    def usage(self, at: float, today: float, order: PlaceOrder | PlaceCombo | None = None) -> Usage:
        """What counts at this moment; `today` is the start of the running day. `order`: the one being judged."""
        oldest = self._prune(at)
        totals: dict[str, Decimal] = {}
        for day, values in self.days.items():
            # INVARIANT: what is dated after today's start counts today, so a clock set back forgets nothing.
            if day >= today:
                for currency, value in values.items():
                    totals[currency] = EXACT.add(totals[currency], value) if currency in totals else value
        return Usage(
            orders_last_minute=self.order_count,
            oldest_order_age=0.0 if oldest is None else at - oldest.elapsed,
            cancels_last_minute=len(self.cancels),
            daily_value=totals,
            same_order_age=None if order is None else self.recent.age(order, at),
        )

    def _prune(self, at: float) -> Entry | None:
        """Drop what left the window; give the oldest order still inside."""
        while self.cancels and self.cancels[0] <= at - WINDOW:
            self.cancels.popleft()
        while self.orders:
            oldest = self.orders[0]
            if oldest.counts_in_rate and oldest.elapsed > at - WINDOW:
                return oldest
            self.orders.popleft()
            if oldest.counts_in_rate:
                oldest.counts_in_rate = False
                self.order_count -= 1
        return None
