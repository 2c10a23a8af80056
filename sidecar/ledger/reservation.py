"""What the ledger keeps about one approved order: the reservation, its state, and the row both make; holds no totals
and no file."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal, Protocol

from sidecar.intents.model import OrderType, Side, TrdEnv
from sidecar.ledger.attempts import Attempt, AttemptDropped, AttemptKey, AttemptStore

Kind = Literal["place", "modify", "enable"]
"""What was approved. Each of the three counts once in the rate window."""

DEFAULT_RETENTION_DAYS = 120
"""Rows live longer than the longest order OpenD takes (good till cancelled ends after 90 days)."""


@dataclass(frozen=True, slots=True)
class LegUnits:
    """What a combo order trades of one security."""

    symbol: str
    side: Side
    qty: Decimal
    """Of this leg in all: what the order adds × the leg's ratio."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """One approved order, modify or enable, as it was judged and as it is forwarded."""

    decision_id: str
    """ULID, without the `#` of the tag."""
    key_id: str
    at: float
    """Unix seconds, the moment of the decision."""
    kind: Kind
    acc_id: int
    env: TrdEnv
    market: str
    symbol: str
    side: Side | None
    """None for a combo: its legs have their own sides."""
    order_type: OrderType
    qty: Decimal
    price: Decimal | None
    value: Decimal | None
    """What counts against the daily value; for a modify the increase only. None: not computed, because no cap asked
    for it."""
    currency: str | None
    remark: str
    """The remark as it is forwarded (`#<decision id>` where the client gave none)."""
    conn: str = ""
    """Which connection it goes over, in the caller's words; means nothing after a restart."""
    order_id: int = 0
    order_id_ex: str = ""
    """For a modify or enable the order it changes, as the request names it; for a place both stay empty."""
    adds: Decimal | None = None
    """Units by which it adds to what is on the market: for a modify the increase, which may be 0. None: all of `qty`."""
    legs: tuple[LegUnits, ...] = ()
    """Of a combo."""

    @property
    def added(self) -> Decimal:
        return self.qty if self.adds is None else self.adds


class State(StrEnum):
    """How far a reservation has come. `reserved` and `forwarded` are unsettled: the order's fate is not known."""

    RESERVED = "reserved"
    FORWARDED = "forwarded"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def settled(self) -> bool:
        return self not in (State.RESERVED, State.FORWARDED)

    @property
    def counts_in_daily_value(self) -> bool:
        """INVARIANT: unknown is used. Only OpenD's own refusal or the order's failure gives the value back."""
        return self not in (State.REFUSED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Row:
    """A reservation as it is stored. The order ids are OpenD's, 0 and "" as long as they are not known."""

    reservation: Reservation
    state: State
    order_id: int = 0
    order_id_ex: str = ""
    ended: float | None = None
    """Unix seconds at which it was heard that the order works no longer: filled, cancelled, failed, disabled or deleted.
    None: as far as is known it does."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A reservation that was never forwarded: it leaves no row."""

    decision_id: str


Change = Row | Dropped | Attempt | AttemptDropped
"""What is to be written, whole: writing it twice does no harm, and a later change under the same key replaces an
earlier one."""
ChangeKey = str | AttemptKey
"""The decision of a reservation, or the key of an attempt."""


class Store(AttemptStore, Protocol):
    """Where rows are found again; called from the event loop's thread, so answers must come in microseconds."""

    def load(self, days: int) -> list[Row]:
        """The unsettled rows, those of orders that may still work, and those of the last `days` days before the newest one,
        oldest first."""

    def find_decision(self, decision_id: str) -> Row | None: ...

    def find_order(self, acc_id: int, order_id: int, order_id_ex: str) -> list[Row]:
        """Every row of that order, oldest first; 0 and "" mean not given."""
