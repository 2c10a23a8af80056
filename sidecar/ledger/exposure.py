"""What approved orders may still buy and sell, beside a fact about an account that may not show them yet. Changes no
reservation."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from sidecar.ledger.book import Book
from sidecar.ledger.open_orders import units
from sidecar.ledger.reservation import Reservation
from sidecar.ledger.timeline import Timeline
from sidecar.ledger.use import EXACT, Entry


class Exposure:
    """Every key's orders of an account together. A `sequence` is `Ledger.sequence` as it was when the fact was asked for."""

    def __init__(self, book: Book, timeline: Timeline) -> None:
        self._book = book
        self._timeline = timeline

    def reserved_since(self, acc_id: int, sequence: int) -> list[Reservation]:
        """The account's reservations in force that a fact asked for at `sequence` may not show: the later ones, the
        unsettled ones, and those settled later, whose orders may have reached OpenD only after it answered.

        At most the reservations in memory are looked through; those made since `sequence` always are, and those settled
        since if it was reached within `timeline.KEPT` seconds.
        """
        found = {entry.reservation.decision_id: entry for entry in self._not_shown(acc_id, sequence)}
        return [entry.reservation for entry in sorted(found.values(), key=lambda entry: entry.sequence)]

    def _not_shown(self, acc_id: int, sequence: int) -> Iterator[Entry]:
        """Possibly some more than once."""
        yield from self._book.unsettled(acc_id)
        for entry in reversed(self._book):
            if entry.sequence <= sequence and entry.state.settled:
                break
            if entry.reservation.acc_id == acc_id and entry.state.counts_in_daily_value and entry.sequence > sequence:
                yield entry
        for entry in self._timeline.settled_since(acc_id, sequence):
            if entry.state.counts_in_daily_value:
                yield entry

    def selling_since(self, acc_id: int, symbol: str, sequence: int) -> Decimal | None:
        """Units of a symbol that every key's sells of the account reserve beyond a fact asked for at `sequence`.

        None where it cannot be told: of a combo whose legs were not kept.
        """
        traded = units(self.reserved_since(acc_id, sequence), symbol)
        return None if traded is None else traded[1]

    def in_flight(self, acc_id: int, symbol: str, sequence: int) -> tuple[Decimal, Decimal] | None:
        """Units of a symbol that every key's orders of the account may still buy and sell, beside a fact about its holdings
        that was asked for at `sequence`: the open orders whole, whatever is filled of them, and what ended too late for the
        fact to be sure to show it. None as for `selling_since`.
        """
        ended = {
            entry.reservation.decision_id: entry.reservation
            for entry in (*self._not_shown(acc_id, sequence), *self._timeline.ended_since(acc_id, sequence))
            if entry.state.counts_in_daily_value and not entry.is_open
        }
        working, over = self._book.open.units(acc_id, symbol), units(ended.values(), symbol)
        if working is None or over is None:
            return None
        return EXACT.add(working[0], over[0]), EXACT.add(working[1], over[1])

    def sales_kept_back(self, acc_id: int, symbol: str) -> bool:
        """Whether an open order of the account sells the symbol only when a trigger or a time comes."""
        return self._book.open.sales_kept_back(acc_id, symbol)
