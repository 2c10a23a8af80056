"""The reservations in memory, by decision and by order, with what the store has of older ones. Counts nothing, and writes
nothing.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Container, Iterator, Sequence

import structlog

from sidecar.errors import RecordError
from sidecar.ledger.open_orders import OpenOrders
from sidecar.ledger.orders import OrderMap, order_keys, placed_by
from sidecar.ledger.reservation import ChangeKey, Row, Store
from sidecar.ledger.use import WINDOW, Entry

MOST_IN_MEMORY = 50_000
"""Reservations kept in memory, of those that are settled and not open; older ones are read from the store when they are
asked for."""


class Book:
    """Every reservation since some days ago, and every one that is unsettled or open however old.

    `adopt` makes an entry of a row that comes back from the store; its second argument is when it counts as made, on the
    clock that never goes back (`elapsed`).
    """

    def __init__(self, store: Store, elapsed: Callable[[], float], adopt: Callable[[Row, float], Entry]) -> None:
        self._store = store
        self._elapsed = elapsed
        self._adopt = adopt
        self._log = structlog.get_logger("sidecar.ledger")
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        """In the order in which they were made; those that came back from the store before all others."""
        self._unsettled: dict[int, dict[str, Entry]] = {}
        self._orders = OrderMap()
        self._done: deque[Entry] = deque()
        """What may leave memory, in the order in which it may."""
        self.open = OpenOrders()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __reversed__(self) -> Iterator[Entry]:
        return reversed(self._entries.values())

    # By decision

    def get(self, decision_id: str) -> Entry | None:
        """If it is in memory."""
        return self._entries.get(decision_id)

    def find(self, decision_id: str) -> Entry | None:
        """In memory or in the store."""
        entry = self._entries.get(decision_id)
        if entry is None:
            for row in self._look_up(lambda: [self._store.find_decision(decision_id)]) or []:
                entry = self._recall(row)
        return entry

    def unsettled(self, acc_id: int) -> Collection[Entry]:
        """Oldest first."""
        return self._unsettled.get(acc_id, {}).values()

    def all_unsettled(self) -> list[Entry]:
        return [entry for entries in self._unsettled.values() for entry in entries.values()]

    # By order

    def of_order(self, acc_id: int, order_id: int, order_id_ex: str) -> list[Entry]:
        """What placed and changed the order, in memory or in the store. 0 and "" mean not given."""
        keys = order_keys(acc_id, order_id, order_id_ex)
        entries = self._orders.entries(keys)
        if placed_by(entries) is not None or self._orders.absent(keys):
            return entries
        rows = self._look_up(lambda: self._store.find_order(acc_id, order_id, order_id_ex))
        if rows is None:
            return entries
        self._orders.note_absent(keys)
        for row in rows:
            if row.reservation.decision_id not in self._entries:
                self._recall(row)
        return self._orders.entries(keys)

    def under_any_id(self, acc_id: int, order_id: int, order_id_ex: str) -> list[Entry]:
        """The order's entries that are in memory, under either id: all that are unsettled or open are."""
        return self._orders.entries_of_all(order_keys(acc_id, order_id, order_id_ex))

    def rename(self, entry: Entry, order_id: int, order_id_ex: str) -> bool:
        """Whether that makes another order of it, and not only a better known one."""
        before = entry.order_id, entry.order_id_ex
        if before == (order_id, order_id_ex):
            return False
        self._orders.unlink(entry)
        entry.order_id, entry.order_id_ex = order_id, order_id_ex
        self._orders.link(entry)
        return before[0] not in (0, order_id) or before[1] not in ("", order_id_ex)

    # Coming, changing, going

    def add(self, entry: Entry) -> None:
        made = entry.reservation
        self._entries[made.decision_id] = entry
        self._orders.link(entry)
        if not entry.state.settled:
            self._unsettled.setdefault(made.acc_id, {})[made.decision_id] = entry
        self.changed(entry)

    def changed(self, entry: Entry) -> None:
        """Its state is another one, or it has ended."""
        if entry.state.settled:
            self._settle(entry)
        self.open.look_at(entry)
        if entry.state.settled and not entry.is_open:
            self._done.append(entry)

    def remove(self, decision_id: str) -> Entry | None:
        """It was never sent."""
        entry = self._entries.pop(decision_id, None)
        if entry is not None:
            self._settle(entry)
            self.open.drop(entry)
            self._orders.unlink(entry)
        return entry

    def forget_old(self, unwritten: Container[ChangeKey]) -> None:
        """Let what was done first go from memory, a few at a time, so that no single order pays for many."""
        edge = self._elapsed() - WINDOW
        for _ in range(4):
            if len(self._entries) <= MOST_IN_MEMORY or not self._done:
                return
            entry = self._done[0]
            decision_id = entry.reservation.decision_id
            if self._entries.get(decision_id) is entry and entry.state.settled and not entry.is_open:
                if entry.elapsed > edge or decision_id in unwritten:
                    return
                del self._entries[decision_id]
                self._orders.unlink(entry)
            self._done.popleft()

    def _settle(self, entry: Entry) -> None:
        waiting = self._unsettled.get(entry.reservation.acc_id)
        if waiting is not None:
            waiting.pop(entry.reservation.decision_id, None)
            if not waiting:
                del self._unsettled[entry.reservation.acc_id]

    def _recall(self, row: Row) -> Entry:
        """An old row comes back to memory; it counts nowhere, because its value already does or its day is over."""
        entry = self._adopt(row, self._elapsed() - WINDOW)
        entry.sequence = 0
        entry.counts_in_rate = False
        entry.taken = True
        self.add(entry)
        self._entries.move_to_end(row.reservation.decision_id, last=False)
        return entry

    def _look_up(self, question: Callable[[], Sequence[Row | None]]) -> list[Row] | None:
        """Ask the store. A store that cannot be read knows nothing: a cancel must not fail for it, and orders do
        anyway."""
        try:
            return [row for row in question() if row is not None]
        except RecordError as error:
            self._log.error("an older order cannot be looked up", error=str(error))
            return None
