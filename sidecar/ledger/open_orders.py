"""Which approved orders may still be on the market: by account, and how many each key has. Knows no order ids and no store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from decimal import Decimal

from sidecar.ledger.reservation import Reservation
from sidecar.ledger.use import EXACT, Entry

_ZERO = Decimal(0)
Units = tuple[Decimal, Decimal]
"""Bought and sold."""
_NOTHING: Units = (_ZERO, _ZERO)


class OpenOrders:
    """The entries in force that have not ended (`Entry.is_open`), as they were when last looked at."""

    def __init__(self) -> None:
        self._of_account: dict[int, dict[str, Entry]] = {}
        self._of_key: Counter[str] = Counter()
        self._units: dict[tuple[int, str], Units] = {}
        """By account and symbol: of all of them together, so that many orders cost a decision no more than few."""
        self._sales_kept_back: Counter[tuple[int, str]] = Counter()
        """By account and symbol: orders of types that wait."""
        self._untold: Counter[int] = Counter()
        """By account: orders that do not say what they trade."""

    def look_at(self, entry: Entry) -> None:
        """Take it in or out, as it is now."""
        if not entry.is_open:
            self.drop(entry)
            return
        entries = self._of_account.setdefault(entry.reservation.acc_id, {})
        if entry.reservation.decision_id not in entries:
            entries[entry.reservation.decision_id] = entry
            self._of_key[entry.reservation.key_id] += entry.is_order
            self._add(entry.reservation, EXACT.add, 1)

    def drop(self, entry: Entry) -> None:
        made = entry.reservation
        entries = self._of_account.get(made.acc_id, {})
        if entries.pop(made.decision_id, None) is None:
            return
        self._add(made, EXACT.subtract, -1)
        self._of_key[made.key_id] -= entry.is_order
        if not self._of_key[made.key_id]:
            del self._of_key[made.key_id]
        if not entries:
            del self._of_account[made.acc_id]

    def count(self, key_id: str) -> int:
        """Orders of the key, each once however often it was changed."""
        return self._of_key[key_id]

    def of_account(self, acc_id: int) -> Collection[Entry]:
        """Orders, and the changes that made them larger."""
        return self._of_account.get(acc_id, {}).values()

    def units(self, acc_id: int, symbol: str) -> Units | None:
        """What those of the account buy and sell of it in all; None where one does not say what it trades."""
        return None if self._untold[acc_id] else self._units.get((acc_id, symbol), _NOTHING)

    def sales_kept_back(self, acc_id: int, symbol: str) -> bool:
        """Whether one of them may sell it only when its trigger or time comes."""
        return self._sales_kept_back[acc_id, symbol] > 0

    def _add(self, made: Reservation, plus: Callable[[Decimal, Decimal], Decimal], count: int) -> None:
        for symbol in {leg.symbol for leg in made.legs} or {made.symbol}:
            traded, place = units([made], symbol), (made.acc_id, symbol)
            if traded is None:
                self._untold[made.acc_id] += count
                continue
            if made.order_type.waits and traded[1]:
                self._sales_kept_back[place] += count
            bought, sold = self._units.get(place, _NOTHING)
            summed = plus(bought, traded[0]), plus(sold, traded[1])
            if any(summed):
                self._units[place] = summed
            else:
                self._units.pop(place, None)

    @property
    def accounts(self) -> frozenset[int]:
        return frozenset(self._of_account)


def units(made: Iterable[Reservation], symbol: str) -> Units | None:
    """Units of one security that they buy and sell in all, the legs of combos included; None where one does not say it."""
    bought, sold = _ZERO, _ZERO
    for one in made:
        if one.legs:
            parts = [(leg.side, leg.qty) for leg in one.legs if leg.symbol == symbol]
        elif one.side is None:
            return None
        else:
            parts = [(one.side, one.added)] if one.symbol == symbol else []
        for side, qty in parts:
            if side.sells:
                sold = EXACT.add(sold, qty)
            else:
                bought = EXACT.add(bought, qty)
    return bought, sold
