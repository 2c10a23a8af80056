"""Orders and changes whose fate OpenD has not said, or whose end it may have said unheard: what it is asked about.
Changes no reservation."""

from __future__ import annotations

from collections.abc import Container

from sidecar.ledger.book import Book
from sidecar.ledger.reservation import Reservation, State

_DAY = 86_400.0


class Doubts:
    """Of every key together. A moment (`at`) is one of `Ledger.moment`, where nothing else is said."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def accounts(self) -> frozenset[int]:
        """Those with orders that may be open; one whose fate is not known may."""
        return self._book.open.accounts

    def unsettled(self, acc_id: int) -> list[Reservation]:
        """The account's reservations whose fate is not known, oldest first."""
        return [entry.reservation for entry in self._book.unsettled(acc_id)]

    def unsettled_since(self, at: float) -> int:
        """How many orders and changes that were approved before then (unix seconds) OpenD has not said whether it took."""
        return sum(1 for entry in self._book.all_unsettled() if entry.reservation.at < at)

    def never_forwarded(self) -> list[Reservation]:
        """Reservations that no one has said were forwarded; after a restart, those that may never have been sent."""
        return [entry.reservation for entry in self._book.all_unsettled() if entry.state is State.RESERVED]

    def unnamed(self, acc_id: int, decision_id: str) -> Reservation | None:
        """The order of the account that was placed under this decision, as long as OpenD has not named it."""
        entry = self._book.get(decision_id)
        if entry is None or entry.reservation.kind != "place" or entry.reservation.acc_id != acc_id:
            return None
        return None if entry.order_id or entry.order_id_ex else entry.reservation

    def changing(self, decision_id: str, acc_id: int, order_id: int, order_id_ex: str) -> Reservation | None:
        """The change of that order that was approved under this decision, while its fate is not known."""
        entry = self._book.get(decision_id)
        if entry is None or entry.state.settled or entry.reservation.kind == "place":
            return None
        if entry.reservation.acc_id != acc_id:
            return None
        same = (order_id and entry.order_id == order_id) or (order_id_ex and entry.order_id_ex == order_id_ex)
        return entry.reservation if same else None

    def unlisted(self, acc_id: int, listed: Container[int | str], at: float) -> list[tuple[int, str]]:
        """The ids of open orders that are missing in the whole list of OpenD's that was asked for at that moment, although
        OpenD named them `use.LISTED_AFTER` seconds before or earlier. `listed`: every id in it, of both kinds.

        OpenD keeps an order in its list as long as it works, and drops it some day after it ended: such an order has ended,
        and the push that said so was lost. What was reserved for it stays used. An order that OpenD never named is not
        among them: that it is not listed says nothing about where it is.
        """
        found: dict[tuple[int, str], bool] = {}
        for entry in self._book.open.of_account(acc_id):
            ids = entry.order_id, entry.order_id_ex
            if any(ids) and not any(one and one in listed for one in ids):
                found[ids] = found.get(ids, True) and entry.surely_listed(at)
        return [ids for ids, shown in found.items() if shown]

    def unheard_of(self, acc_id: int, at: float) -> list[Reservation]:
        """Orders that OpenD never named, made a day or more before a list that was asked for at that moment."""
        return [
            entry.reservation
            for entry in self._book.unsettled(acc_id)
            if entry.reservation.kind == "place" and entry.elapsed <= at - _DAY
        ]
