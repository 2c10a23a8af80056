"""What every key has used and whose every order is: the truth, in memory, with the changes that must be written.
Writes nothing itself.

Used from the event loop's thread only. Everything is a plain `def` and takes microseconds, so that a gate can look at
the usage, decide and reserve without anything happening in between.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from itertools import islice

import structlog

from sidecar.errors import RecordError
from sidecar.ledger import clock
from sidecar.ledger.reservation import Change, Dropped, Reservation, Row, State, Store
from sidecar.policy.usage import OrderOwner, Usage

WINDOW = 60.0
"""Seconds of the rate window."""
DAY = 86_400.0
DAYS_KEPT = 8
"""Days whose totals stay in memory, so that a clock set back still finds them."""
MOST_IN_MEMORY = 50_000
"""Settled reservations kept in memory; older ones are read from the store when they are asked for."""
MOST_ABSENT = 50_000
"""Orders remembered not to be in the store, so that long lists of other people's orders are not looked up again and again."""
MOST_CANCELS = 10_000
"""A key's cancels in one window are counted up to here."""

NOBODY = OrderOwner(key_id="")
"""The owner when the two ids of a request name two different orders. No key can have the empty id, so it is nobody's
own."""

_EXACT = Context(prec=200)
_NOTHING = Decimal(0)


@dataclass(slots=True, eq=False)
class _Entry:
    reservation: Reservation
    state: State
    sequence: int
    elapsed: float
    """When it was made, on the clock that never goes back."""
    day: float
    order_id: int = 0
    order_id_ex: str = ""
    counts_in_rate: bool = True
    taken: bool = False
    """Whether a writer has been given it: then its disappearance must be written too."""

    def row(self) -> Row:
        return Row(self.reservation, self.state, self.order_id, self.order_id_ex)


@dataclass(slots=True)
class _KeyUse:
    orders: deque[_Entry] = field(default_factory=deque)
    order_count: int = 0
    cancels: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_CANCELS))
    days: dict[float, dict[str, Decimal]] = field(default_factory=dict)
    """Start of a day → currency → value in use."""


_OrderKey = tuple[int, int | str]


class Ledger:
    """Counts reservations per key and maps orders to keys.

    `day_start` gives the start of the day that a moment belongs to, both in unix seconds. `elapsed` is a clock that
    never goes back; `now` the unix time at which the ledger is opened. Opening raises RecordError if the store cannot
    be read, nothing later does.

    INVARIANT: every change is in memory before the call returns; `take` hands what is to be written to the recorder.
    """

    def __init__(
        self,
        store: Store,
        day_start: Callable[[float], float],
        *,
        now: float | None = None,
        elapsed: Callable[[], float] = clock.elapsed,
    ) -> None:
        self._store = store
        self._day_start = day_start
        self._elapsed = elapsed
        self._log = structlog.get_logger("sidecar.ledger")
        self._keys: dict[str, _KeyUse] = {}
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._unsettled: dict[int, dict[str, _Entry]] = {}
        self._orders: dict[_OrderKey, list[_Entry]] = {}
        self._absent: set[_OrderKey] = set()
        self._staged: dict[str, Change] = {}
        self._sequence = 0
        self._newest_day = 0.0
        self._counted_since = 0.0
        self.on_staged: Callable[[], None] | None = None
        """Called when something is to be written and nothing was before."""
        now = time.time() if now is None else now
        self._watch = clock.ClockWatch(now, elapsed(), self._load(now))

    # What a decision is made against

    def usage(self, key_id: str, now: float) -> Usage:
        """What the key has used: orders and cancels of the last 60 s, and the value of the running day per currency."""
        use = self._keys.get(key_id)
        if use is None:
            return Usage()
        at = self._elapsed()
        oldest = self._prune(use, at)
        today = self._day_start(now)
        totals: dict[str, Decimal] = {}
        for day, values in use.days.items():
            # INVARIANT: what is dated after today's start counts today, so a clock set back forgets nothing.
            if day >= today:
                for currency, value in values.items():
                    totals[currency] = _EXACT.add(totals[currency], value) if currency in totals else value
        return Usage(
            orders_last_minute=use.order_count,
            oldest_order_age=0.0 if oldest is None else at - oldest.elapsed,
            cancels_last_minute=len(use.cancels),
            daily_value=totals,
        )

    def clock_ok(self, now: float) -> bool:
        """False while orders must be refused with the code `clock`: for 60 s after the wall clock has jumped, either
        way.

        Must be asked with every order: a jump is noticed by comparing with the previous question.
        """
        return self._watch.ok(now, self._elapsed())

    def clock_wait(self, now: float) -> float:
        """Seconds until `clock_ok` holds again, if nothing jumps in the meantime."""
        return self._watch.wait(now, self._elapsed())

    @property
    def sequence(self) -> int:
        """Grows with every reservation. A fact asked for now is told apart by it from reservations made later."""
        return self._sequence

    def reserved_since(self, acc_id: int, sequence: int) -> list[Reservation]:
        """The account's reservations in force that a fact asked for at `sequence` may not show: the later and the
        unsettled ones.

        At most the reservations in memory are looked through; those made since `sequence` always are.
        """
        found = {entry.sequence: entry.reservation for entry in self._unsettled.get(acc_id, {}).values()}
        for entry in reversed(self._entries.values()):
            if entry.sequence <= sequence and entry.state.settled:
                break
            if entry.reservation.acc_id == acc_id and entry.state.counts_in_daily_value and entry.sequence > sequence:
                found[entry.sequence] = entry.reservation
        return [found[number] for number in sorted(found)]

    # The life of a reservation

    def reserve(self, reservation: Reservation) -> None:
        """Count it now. Raises ValueError if the decision is already there: a decision reserves once."""
        if reservation.decision_id in self._entries:
            raise ValueError(f"decision {reservation.decision_id} is reserved already")
        order_id, order_id_ex = reservation.order_id, reservation.order_id_ex
        if reservation.kind != "place":
            placed = self._placed(self._of_order(reservation.acc_id, order_id, order_id_ex))
            if placed is not None:
                order_id, order_id_ex = placed.order_id, placed.order_id_ex
        row = Row(reservation, State.RESERVED, order_id, order_id_ex)
        entry = self._adopt(row, self._elapsed())
        self._count(entry)
        self._stage(entry.reservation.decision_id, row)
        self._forget_old()

    def release(self, decision_id: str) -> None:
        """It was never forwarded: it leaves the rate, the daily value and the ledger. Unknown decisions are ignored."""
        entry = self._entries.pop(decision_id, None)
        if entry is None:
            return
        self._settle(entry)
        self._unlink(entry)
        if entry.state.counts_in_daily_value:
            self._add_value(entry, -1)
        if entry.counts_in_rate:
            entry.counts_in_rate = False
            self._keys[entry.reservation.key_id].order_count -= 1
        if entry.taken:
            self._stage(decision_id, Dropped(decision_id))
        else:
            self._staged.pop(decision_id, None)

    def forwarded(self, decision_id: str) -> None:
        """Its first byte goes to OpenD now. From here on only OpenD's own word gives its value back."""
        entry = self._entries.get(decision_id)
        if entry is not None and entry.state is State.RESERVED:
            self._change(entry, State.FORWARDED)

    def accepted(self, decision_id: str, order_id: int, order_id_ex: str) -> None:
        """OpenD has taken it. `order_id` 0 and `order_id_ex` "" mean not told; what was known before stays.

        For a place this maps the order to the key; a later call with other ids moves the map (a reply knows better
        than a guess). An order already reported as failed stays failed; one whose refusal turns out to be wrong
        counts again.
        """
        entry = self._find(decision_id)
        if entry is None:
            return
        self._unlink(entry)
        if entry.reservation.kind == "place":
            entry.order_id = order_id or entry.order_id
            entry.order_id_ex = order_id_ex or entry.order_id_ex
        self._link(entry)
        if entry.state is State.REFUSED:
            self._add_value(entry, 1)
        self._change(entry, State.FAILED if entry.state is State.FAILED else State.ACCEPTED)

    def refused_by_opend(self, decision_id: str) -> None:
        """OpenD has refused it: the daily value is given back, the attempt still counts in the rate."""
        self._give_back(decision_id, State.REFUSED)

    def order_failed(self, decision_id: str) -> None:
        """The order was reported as failed with nothing filled: as `refused_by_opend`, also after `accepted`."""
        self._give_back(decision_id, State.FAILED)

    def note_cancel(self, key_id: str, now: float) -> None:
        """Count a cancel; in memory only, because a cancel must not need the disk."""
        self._use(key_id).cancels.append(self._elapsed())

    # Whose order

    def owner_of(self, acc_id: int, order_id: int, order_id_ex: str) -> OrderOwner | None:
        """The key that placed the order, None for an order the ledger does not know. 0 and "" mean not given.

        SECURITY: ids that name two different orders give `NOBODY`. An id the ledger does not know, next to one it does,
        cannot be checked here: forward only one of the two.
        """
        by_id = self._placed(self._of_order(acc_id, order_id, ""))
        by_ex = self._placed(self._of_order(acc_id, 0, order_id_ex))
        if by_id is not None and by_ex is not None and by_id is not by_ex:
            return NOBODY
        entry = by_ex or by_id
        return None if entry is None else OrderOwner(entry.reservation.key_id)

    def decision_of(self, acc_id: int, order_id: int, order_id_ex: str) -> str | None:
        """The decision under which the order was placed, None for an order the ledger does not know."""
        placed = self._placed(self._of_order(acc_id, order_id, order_id_ex))
        return None if placed is None else placed.reservation.decision_id

    def owner_by_remark(self, remark: str) -> OrderOwner | None:
        """The key whose decision tagged the order, None if the remark is no tag of ours (`#<decision id>`).

        Says nothing about a client's own remark: match those against `unsettled`.
        """
        entry = self._find(remark[1:]) if remark.startswith("#") else None
        if entry is None or entry.reservation.remark != remark or entry.reservation.kind != "place":
            return None
        return OrderOwner(entry.reservation.key_id)

    def unsettled(self, acc_id: int) -> list[Reservation]:
        """The account's reservations whose fate is not known, oldest first."""
        return [entry.reservation for entry in self._unsettled.get(acc_id, {}).values()]

    def approved_value(self, acc_id: int, order_id: int, order_id_ex: str) -> tuple[Decimal, str] | None:
        """The highest total the order was ever approved for and its currency: what it was placed with, and every
        increase since.

        None if the order is not known, or no value was computed when it was placed.
        """
        entries = self._of_order(acc_id, order_id, order_id_ex)
        placed = self._placed(entries)
        if placed is None or placed.reservation.value is None or placed.reservation.currency is None:
            return None
        total = _NOTHING
        for entry in entries:
            value = entry.reservation.value
            if value is not None and entry.state.counts_in_daily_value:
                total = _EXACT.add(total, value)
        return total, placed.reservation.currency

    # For the recorder

    def take(self) -> dict[str, Change]:
        """What is to be written, by decision; the caller must write it, or keep it and write it later."""
        taken, self._staged = self._staged, {}
        for decision_id in taken:
            entry = self._entries.get(decision_id)
            if entry is not None:
                entry.taken = True
        return taken

    @property
    def has_staged(self) -> bool:
        return bool(self._staged)

    def never_forwarded(self) -> list[Reservation]:
        """Reservations that no one has said were forwarded; after a restart, those that may never have been sent."""
        return [
            entry.reservation
            for entries in self._unsettled.values()
            for entry in entries.values()
            if entry.state is State.RESERVED
        ]

    # Inside

    def _load(self, now: float) -> float | None:
        rows = self._store.load(DAYS_KEPT)
        at = self._elapsed()
        newest: float | None = None
        for row in rows:
            made = row.reservation.at
            newest = made if newest is None else max(newest, made)
            # A row dated after now was written before the clock went back: it counts as if made just now.
            entry = self._adopt(row, at - max(0.0, now - made))
            entry.taken = True
            self._count(entry)
        if newest is not None:
            self._counted_since = newest - DAYS_KEPT * DAY
        for use in self._keys.values():
            use.orders = deque(sorted(use.orders, key=lambda entry: entry.elapsed))
        return newest

    def _use(self, key_id: str) -> _KeyUse:
        use = self._keys.get(key_id)
        if use is None:
            use = self._keys[key_id] = _KeyUse()
        return use

    def _adopt(self, row: Row, elapsed: float) -> _Entry:
        self._sequence += 1
        entry = _Entry(
            reservation=row.reservation,
            state=row.state,
            sequence=self._sequence,
            elapsed=elapsed,
            day=self._day_start(row.reservation.at),
            order_id=row.order_id,
            order_id_ex=row.order_id_ex,
        )
        self._entries[row.reservation.decision_id] = entry
        self._link(entry)
        if not entry.state.settled:
            self._unsettled.setdefault(row.reservation.acc_id, {})[row.reservation.decision_id] = entry
        return entry

    def _count(self, entry: _Entry) -> None:
        use = self._use(entry.reservation.key_id)
        use.orders.append(entry)
        use.order_count += 1
        if entry.day > self._newest_day:
            self._newest_day = entry.day
            self._drop_old_days()
        if entry.state.counts_in_daily_value:
            self._add_value(entry, 1)

    def _drop_old_days(self) -> None:
        for use in self._keys.values():
            for day in [day for day in use.days if day < self._newest_day - DAYS_KEPT * DAY]:
                del use.days[day]

    def _add_value(self, entry: _Entry, sign: int) -> None:
        value, currency = entry.reservation.value, entry.reservation.currency
        if value is None or currency is None:
            return
        if sign < 0 and entry.reservation.at < self._counted_since:
            return  # older than what was counted when the ledger was opened
        days = self._use(entry.reservation.key_id).days
        values = days.get(entry.day)
        if values is None:
            if sign < 0:
                return  # a day that is no longer counted
            values = days[entry.day] = {}
        add = _EXACT.add if sign > 0 else _EXACT.subtract
        values[currency] = add(values.get(currency, _NOTHING), value)

    def _prune(self, use: _KeyUse, at: float) -> _Entry | None:
        """Drop what left the window; give the oldest order still inside."""
        while use.cancels and use.cancels[0] <= at - WINDOW:
            use.cancels.popleft()
        while use.orders:
            oldest = use.orders[0]
            if oldest.counts_in_rate and oldest.elapsed > at - WINDOW:
                return oldest
            use.orders.popleft()
            if oldest.counts_in_rate:
                oldest.counts_in_rate = False
                use.order_count -= 1
        return None

    def _change(self, entry: _Entry, state: State) -> None:
        entry.state = state
        if state.settled:
            self._settle(entry)
        self._stage(entry.reservation.decision_id, entry.row())

    def _settle(self, entry: _Entry) -> None:
        waiting = self._unsettled.get(entry.reservation.acc_id)
        if waiting is not None:
            waiting.pop(entry.reservation.decision_id, None)
            if not waiting:
                del self._unsettled[entry.reservation.acc_id]

    def _give_back(self, decision_id: str, state: State) -> None:
        entry = self._find(decision_id)
        if entry is None or not entry.state.counts_in_daily_value:
            return
        self._add_value(entry, -1)
        self._change(entry, state)

    def _stage(self, decision_id: str, change: Change) -> None:
        first = not self._staged
        self._staged[decision_id] = change
        if first and self.on_staged is not None:
            self.on_staged()

    def _find(self, decision_id: str) -> _Entry | None:
        entry = self._entries.get(decision_id)
        if entry is None:
            for row in self._look_up(lambda: [self._store.find_decision(decision_id)]) or []:
                entry = self._recall(row)
        return entry

    def _look_up(self, question: Callable[[], Sequence[Row | None]]) -> list[Row] | None:
        """Ask the store. A store that cannot be read knows nothing: a cancel must not fail for it, and orders do
        anyway."""
        try:
            return [row for row in question() if row is not None]
        except RecordError as error:
            self._log.error("an older order cannot be looked up", error=str(error))
            return None

    def _recall(self, row: Row) -> _Entry:
        """An old row comes back to memory; it counts nowhere, because its value already does or its day is over."""
        entry = self._adopt(row, self._elapsed() - WINDOW)
        entry.sequence = 0
        entry.counts_in_rate = False
        entry.taken = True
        self._entries.move_to_end(row.reservation.decision_id, last=False)
        return entry

    def _keys_of(self, entry: _Entry) -> list[_OrderKey]:
        acc_id = entry.reservation.acc_id
        keys: list[_OrderKey] = []
        if entry.order_id:
            keys.append((acc_id, entry.order_id))
        if entry.order_id_ex:
            keys.append((acc_id, entry.order_id_ex))
        return keys

    def _link(self, entry: _Entry) -> None:
        for key in self._keys_of(entry):
            self._orders.setdefault(key, []).append(entry)
            self._absent.discard(key)

    def _unlink(self, entry: _Entry) -> None:
        for key in self._keys_of(entry):
            entries = self._orders[key]
            entries.remove(entry)
            if not entries:
                del self._orders[key]

    def _of_order(self, acc_id: int, order_id: int, order_id_ex: str) -> list[_Entry]:
        keys: list[_OrderKey] = []
        if order_id:
            keys.append((acc_id, order_id))
        if order_id_ex:
            keys.append((acc_id, order_id_ex))
        for key in keys:
            entries = self._orders.get(key, [])
            if self._placed(entries) is not None:
                return entries
        if not self._absent.issuperset(keys):
            rows = self._look_up(lambda: self._store.find_order(acc_id, order_id, order_id_ex))
            if rows is None:
                return []
            if len(self._absent) >= MOST_ABSENT:
                self._absent.clear()
            self._absent.update(keys)
            for row in rows:
                if row.reservation.decision_id not in self._entries:
                    self._recall(row)
        return next((self._orders[key] for key in keys if key in self._orders), [])

    @staticmethod
    def _placed(entries: list[_Entry]) -> _Entry | None:
        return next((entry for entry in reversed(entries) if entry.reservation.kind == "place"), None)

    def _forget_old(self) -> None:
        """Let the oldest settled reservations go from memory, two at a time, so that no single order pays for many."""
        edge = self._elapsed() - WINDOW
        while len(self._entries) > MOST_IN_MEMORY:
            old = [
                (decision_id, entry)
                for decision_id, entry in islice(self._entries.items(), 100)
                if entry.state.settled and entry.elapsed <= edge and decision_id not in self._staged
            ][:2]
            for decision_id, entry in old:
                del self._entries[decision_id]
                self._unlink(entry)
            if len(old) < 2:
                return
