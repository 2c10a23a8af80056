"""Whose every order is, and what it was approved for: by OpenD's ids, or by the decision that placed it. Changes no
reservation."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from sidecar.ledger.book import Book
from sidecar.ledger.orders import placed_by
from sidecar.ledger.reservation import Row
from sidecar.ledger.use import EXACT
from sidecar.policy.usage import Approved, OrderOwner

_LONGEST_ID = 20
"""Digits of the largest `orderID`, which is a uint64."""
NOBODY = OrderOwner(key_id="")
"""The owner when the two ids of a request name two different orders. No key can have the empty id, so it is nobody's
own."""


class KnownOrders:
    """The orders that the ledger knows, those included that only the store has still."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def owner_of(self, acc_id: int, order_id: int, order_id_ex: str) -> OrderOwner | None:
        """The key that placed the order, None for an order the ledger does not know. 0 and "" mean not given.

        SECURITY: ids that name two different orders give `NOBODY`. An id the ledger does not know, next to one it does,
        cannot be checked here: forward only one of the two. A text that is a number counts as both ids: the SDKs write
        whatever they are given into `order_id_ex`, and OpenD may take it for either.
        """
        by_id = placed_by(self._book.of_order(acc_id, order_id or _as_number(order_id_ex), ""))
        by_ex = placed_by(self._book.of_order(acc_id, 0, order_id_ex))
        if by_id is not None and by_ex is not None and by_id is not by_ex:
            return NOBODY
        entry = by_ex or by_id
        return None if entry is None else OrderOwner(entry.reservation.key_id)

    def owner_by_remark(self, remark: str) -> OrderOwner | None:
        """The key whose decision tagged the order, None if the remark is no tag of ours (`#<decision id>`).

        Says nothing about a client's own remark: match those against `Doubts.unsettled`.
        """
        entry = self._book.find(remark[1:]) if remark.startswith("#") else None
        if entry is None or entry.reservation.remark != remark or entry.reservation.kind != "place":
            return None
        return OrderOwner(entry.reservation.key_id)

    def decision_of(self, acc_id: int, order_id: int, order_id_ex: str) -> str | None:
        """The decision under which the order was placed, None for an order the ledger does not know."""
        placed = placed_by(self._book.of_order(acc_id, order_id, order_id_ex))
        return None if placed is None else placed.reservation.decision_id

    def row_of(self, decision_id: str) -> Row | None:
        """The reservation made under this decision and how far it has come; None where there is none, or it cannot be
        looked up."""
        entry = self._book.find(decision_id)
        return None if entry is None else entry.row()

    def is_open(self, acc_id: int, order_id: int, order_id_ex: str) -> bool:
        """Whether the order is one of those that `Exposure.in_flight` counts whole."""
        return any(entry.is_order and entry.is_open for entry in self._book.of_order(acc_id, order_id, order_id_ex))

    def open_under(self, acc_id: int, order_id: int, order_id_ex: str) -> str:
        """The decision that placed, or first changed, the open order that a client's request names like this; "" if there is
        none. A number as text may be either id. Looks in memory only, where all open ones are."""
        named = self._book.under_any_id(acc_id, order_id or _as_number(order_id_ex), order_id_ex)
        return min((entry.reservation.decision_id for entry in named if entry.is_open), default="")

    def approved(self, acc_id: int, order_id: int, order_id_ex: str) -> Approved | None:
        """What the order was approved for: the smallest total quantity it may have, by the last approval that OpenD answered
        and by those it has not, which may be carried out in any order or not at all; and the value that was counted for it
        for good, which its highest total is not above: what it was placed with and every increase that OpenD took since (to
        enable it again is no increase). None for an order not known here.
        """
        entries = [
            entry for entry in self._book.of_order(acc_id, order_id, order_id_ex) if entry.state.counts_in_daily_value
        ]
        if not entries:
            return None
        placed = placed_by(entries)
        answered = [entry.reservation for entry in entries if entry.state.settled]
        waiting = [entry.reservation for entry in entries if not entry.state.settled]
        last = sorted(answered, key=lambda one: (one.at, one.decision_id))[-1:]
        known = Approved(
            min(one.qty for one in (*last, *waiting)), side=None if placed is None else placed.reservation.side
        )
        # INVARIANT: no increase is measured from one that OpenD may yet refuse, and whose value would then be given back
        valued = [placed.reservation] if placed is not None else []
        valued += [one for one in answered if one.kind == "modify"]
        currencies = {one.currency for one in valued if one.value is not None}
        if len(currencies) != 1:
            return known
        total = Decimal(0)
        for one in valued:
            total = EXACT.add(total, one.value or Decimal(0))
        return replace(known, value=total, currency=currencies.pop())


def _as_number(order_id_ex: str) -> int:
    """The `orderID` that this text could be meant as; 0 for none."""
    number = int(order_id_ex) if order_id_ex.isdecimal() and len(order_id_ex) <= _LONGEST_ID else 0
    return number if number < 2**64 else 0
