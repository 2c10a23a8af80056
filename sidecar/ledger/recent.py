"""When one key last placed an order of the same terms. Holds orders in force only; knows no limit and no store."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from decimal import Decimal

from sidecar.intents.model import PlaceCombo, PlaceOrder, Side
from sidecar.ledger.reservation import Reservation

LONGEST = 86_400.0
"""Seconds for which an order is remembered here: no key can ask for more (keys.fields)."""

_Terms = tuple[int, str, Side | None, Decimal, Decimal | None]
"""Account, symbol (of a combo its legs), side, quantity, price. Decimals are the same however they are written: 350 and 350.0."""


class RecentOrders:
    """Placed orders by their terms. Times are of the clock that never goes back."""

    def __init__(self) -> None:
        self._placed: OrderedDict[_Terms, list[tuple[float, str]]] = OrderedDict()
        """Terms → (when, decision), the newest last; terms in the order of their newest."""

    def add(self, reservation: Reservation, at: float) -> None:
        if reservation.kind != "place":
            return
        terms = _of_reservation(reservation)
        placed = self._placed.setdefault(terms, [])
        insort(placed, (at, reservation.decision_id))
        while placed[0][0] < placed[-1][0] - LONGEST:
            del placed[0]
        self._placed.move_to_end(terms)

    def remove(self, reservation: Reservation) -> None:
        """It was never sent, or OpenD refused it. An order that is not here is ignored."""
        terms = _of_reservation(reservation)
        placed = [one for one in self._placed.get(terms, ()) if one[1] != reservation.decision_id]
        if placed:
            self._placed[terms] = placed
        else:
            self._placed.pop(terms, None)

    def age(self, order: PlaceOrder | PlaceCombo, at: float) -> float | None:
        """Seconds since the newest order like this one; None where there is none as young as `LONGEST`."""
        self._forget(at - LONGEST)
        placed = self._placed.get(_of_order(order))
        return None if placed is None else at - placed[-1][0]

    def _forget(self, edge: float) -> None:
        while self._placed:
            terms, placed = next(iter(self._placed.items()))
            if placed[-1][0] > edge:
                return
            del self._placed[terms]


def _of_reservation(one: Reservation) -> _Terms:
    return one.acc_id, one.symbol, one.side, one.qty, one.price


def _of_order(one: PlaceOrder | PlaceCombo) -> _Terms:
    if isinstance(one, PlaceCombo):
        return one.account.acc_id, one.symbol, None, one.qty, one.price
    return one.account.acc_id, one.security.symbol, one.side, one.qty, one.price
