"""What every key has used and whose every order is: the truth, in memory, with the changes that must be written.
Writes nothing itself.

Used from the event loop's thread only. Everything is a plain `def` and takes microseconds, so that a gate can look at
the usage, decide and reserve without anything happening in between.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import islice

import structlog

from sidecar.errors import RecordError
from sidecar.intents.model import PlaceOrder
from sidecar.ledger import clock
from sidecar.ledger.attempts import DEFAULT_KEPT, Attempt, Attempts
from sidecar.ledger.orders import OrderMap, order_keys, placed_by
from sidecar.ledger.reservation import Change, ChangeKey, Dropped, Reservation, Row, State, Store
from sidecar.ledger.timeline import Timeline
from sidecar.ledger.use import EXACT, WINDOW, Entry, KeyUse
from sidecar.policy.usage import OrderOwner, Usage

DAY = 86_400.0
DAYS_KEPT = 8
"""Days whose totals stay in memory, so that a clock set back still finds them."""
MOST_IN_MEMORY = 50_000
"""Settled reservations kept in memory; older ones are read from the store when they are asked for."""
NOBODY = OrderOwner(key_id="")
"""The owner when the two ids of a request name two different orders. No key can have the empty id, so it is nobody's
own."""


class Ledger:
    """Counts reservations per key and maps orders to keys.

    `day_start` gives the start of the day that a moment belongs to, both in unix seconds. `elapsed` is a clock that
    never goes back; `now` the unix time at which the ledger is opened; `attempts_kept` the seconds for which idempotency
    keys are remembered. Opening raises RecordError if the store cannot be read, and later only `attempt` does.

    INVARIANT: every change is in memory before the call returns; `take` hands what is to be written to the recorder.
    """

    def __init__(
        self,
        store: Store,
        day_start: Callable[[float], float],
        *,
        now: float | None = None,
        elapsed: Callable[[], float] = clock.elapsed,
        attempts_kept: float = DEFAULT_KEPT,
    ) -> None:
        self._store = store
        self._day_start = day_start
        self._elapsed = elapsed
        self._log = structlog.get_logger("sidecar.ledger")
        self._keys: defaultdict[str, KeyUse] = defaultdict(KeyUse)
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._unsettled: dict[int, dict[str, Entry]] = {}
        self._orders = OrderMap()
        self._staged: dict[ChangeKey, Change] = {}
        self._timeline = Timeline(elapsed)
        self._newest_day = 0.0
        self._counted_since = 0.0
        self.on_staged: Callable[[], None] | None = None
        """Called when something is to be written and nothing was before."""
        now = time.time() if now is None else now
        self._watch = clock.ClockWatch(now, elapsed(), self._load(now))
        self._attempts = Attempts(
            store, kept=attempts_kept, now=now, elapsed=elapsed, stage=self._stage,
            unstage=lambda key: self._staged.pop(key, None) is not None, was_reserved=self._was_reserved,
        )  # fmt: skip

    # What a decision is made against

    def usage(self, key_id: str, now: float, order: PlaceOrder | None = None) -> Usage:
        """What the key has used: orders and cancels of the last 60 s, and the value of the running day per currency.
        With the `order` that is being judged, also when the key last placed one like it.
        """
        use = self._keys.get(key_id)
        if use is None:
            return Usage()
        return use.usage(self._elapsed(), self._day_start(now), order)

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
        """Grows with every reservation and every settlement. A fact asked for now is told apart by it from what comes
        later."""
        return self._timeline.sequence

    def sequence_before(self, seconds: float) -> int:
        """The sequence as it was so many seconds ago (at most `timeline.KEPT`): for a fact that may lag behind by that."""
        return self._timeline.before(seconds)

    def reserved_since(self, acc_id: int, sequence: int) -> list[Reservation]:
        """The account's reservations in force that a fact asked for at `sequence` may not show: the later ones, the
        unsettled ones, and those settled later, whose orders may have reached OpenD only after it answered.

        At most the reservations in memory are looked through; those made since `sequence` always are, and those settled
        since if it was reached within `timeline.KEPT` seconds.
        """
        found = dict(self._unsettled.get(acc_id, {}))
        for entry in reversed(self._entries.values()):
            if entry.sequence <= sequence and entry.state.settled:
                break
            if entry.reservation.acc_id == acc_id and entry.state.counts_in_daily_value and entry.sequence > sequence:
                found[entry.reservation.decision_id] = entry
        for entry in self._timeline.settled_since(acc_id, sequence):
            if entry.state.counts_in_daily_value:
                found[entry.reservation.decision_id] = entry
        return [entry.reservation for entry in sorted(found.values(), key=lambda entry: entry.sequence)]

    def selling_since(self, acc_id: int, symbol: str, sequence: int) -> Decimal | None:
        """Units of a symbol that every key's sells of the account reserve beyond a fact asked for at `sequence`.

        None where it cannot be told: the legs of a combo are not kept.
        """
        total = Decimal(0)
        for made in self.reserved_since(acc_id, sequence):
            if made.side is None:
                return None
            if made.side.sells and made.symbol == symbol:
                total = EXACT.add(total, made.qty)
        return total

    # The life of a reservation

    def reserve(self, reservation: Reservation) -> None:
        """Count it now. Raises ValueError if the decision is already there: a decision reserves once."""
        if reservation.decision_id in self._entries:
            raise ValueError(f"decision {reservation.decision_id} is reserved already")
        order_id, order_id_ex = reservation.order_id, reservation.order_id_ex
        if reservation.kind != "place":
            placed = placed_by(self._of_order(reservation.acc_id, order_id, order_id_ex))
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
        self._orders.unlink(entry)
        self._keys[entry.reservation.key_id].uncount(entry)
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
        self._orders.unlink(entry)
        if entry.reservation.kind == "place":
            entry.order_id = order_id or entry.order_id
            entry.order_id_ex = order_id_ex or entry.order_id_ex
        self._orders.link(entry)
        if entry.state is State.REFUSED:
            self._keys[entry.reservation.key_id].add_value(entry)
        self._change(entry, State.FAILED if entry.state is State.FAILED else State.ACCEPTED)

    def refused_by_opend(self, decision_id: str) -> None:
        """OpenD has refused it: the daily value is given back, the attempt still counts in the rate."""
        self._give_back(decision_id, State.REFUSED)

    def order_failed(self, decision_id: str) -> None:
        """The order was reported as failed with nothing filled: as `refused_by_opend`, also after `accepted`."""
        self._give_back(decision_id, State.FAILED)

    def note_cancel(self, key_id: str, now: float) -> None:
        """Count a cancel; in memory only, because a cancel must not need the disk."""
        self._keys[key_id].cancels.append(self._elapsed())

    # Repeated writes

    def attempt(self, key_id: str, token: str, *, look_up: bool = True) -> Attempt | None:
        """The first write of this key under this idempotency key, None if there was none that may have been sent.

        Raises RecordError where only the store could tell and cannot be read. Without `look_up` the store is not asked,
        and an older one may be missed.
        """
        return self._attempts.find(key_id, token, look_up=look_up)

    def attempt_begun(self, attempt: Attempt, *, reserves: bool) -> None:
        """`reserves`: it is an order, and is on disk when the reservation made next is. Else it is written once it has an
        outcome."""
        self._attempts.begun(attempt, write=reserves)

    def attempt_ended(self, attempt: Attempt, outcome: bytes) -> None:
        """OpenD answered it, with this whole protobuf Response."""
        self._attempts.ended(attempt, outcome)

    def attempt_dropped(self, attempt: Attempt) -> None:
        """It was never sent: its idempotency key is free again."""
        self._attempts.dropped(attempt)

    def row_of(self, decision_id: str) -> Row | None:
        """The reservation made under this decision and how far it has come; None where there is none, or it cannot be
        looked up."""
        entry = self._find(decision_id)
        return None if entry is None else entry.row()

    def _was_reserved(self, decision_id: str) -> bool:
        return decision_id in self._entries or self._store.find_decision(decision_id) is not None

    # Whose order

    def owner_of(self, acc_id: int, order_id: int, order_id_ex: str) -> OrderOwner | None:
        """The key that placed the order, None for an order the ledger does not know. 0 and "" mean not given.

        SECURITY: ids that name two different orders give `NOBODY`. An id the ledger does not know, next to one it does,
        cannot be checked here: forward only one of the two.
        """
        by_id = placed_by(self._of_order(acc_id, order_id, ""))
        by_ex = placed_by(self._of_order(acc_id, 0, order_id_ex))
        if by_id is not None and by_ex is not None and by_id is not by_ex:
            return NOBODY
        entry = by_ex or by_id
        return None if entry is None else OrderOwner(entry.reservation.key_id)

    def decision_of(self, acc_id: int, order_id: int, order_id_ex: str) -> str | None:
        """The decision under which the order was placed, None for an order the ledger does not know."""
        placed = placed_by(self._of_order(acc_id, order_id, order_id_ex))
        return None if placed is None else placed.reservation.decision_id

    def owner_by_remark(self, remark: str) -> OrderOwner | None:
        """The key whose decision tagged the order, None if the remark is no tag of ours (`#<decision id>`).

        Says nothing about a client's own remark: match those against `unsettled`.
        """
        entry = self._find(remark[1:]) if remark.startswith("#") else None
        if entry is None or entry.reservation.remark != remark or entry.reservation.kind != "place":
            return None
        return OrderOwner(entry.reservation.key_id)

    def waiting(self, acc_id: int, decision_id: str) -> Reservation | None:
        """The account's reservation under this decision, while its fate is not known."""
        entry = self._unsettled.get(acc_id, {}).get(decision_id)
        return None if entry is None else entry.reservation

    def unsettled(self, acc_id: int) -> list[Reservation]:
        """The account's reservations whose fate is not known, oldest first."""
        return [entry.reservation for entry in self._unsettled.get(acc_id, {}).values()]

    def approved_value(self, acc_id: int, order_id: int, order_id_ex: str) -> tuple[Decimal, str] | None:
        """The highest total the order was ever approved for and its currency: what it was placed with, and every
        increase since.

        None if the order is not known, or no value was computed when it was placed.
        """
        entries = self._of_order(acc_id, order_id, order_id_ex)
        placed = placed_by(entries)
        if placed is None or placed.reservation.value is None or placed.reservation.currency is None:
            return None
        total = Decimal(0)
        for entry in entries:
            value = entry.reservation.value
            if value is not None and entry.state.counts_in_daily_value:
                total = EXACT.add(total, value)
        return total, placed.reservation.currency

    # For the recorder

    def take(self) -> dict[ChangeKey, Change]:
        """What is to be written; the caller must write it, or keep it and write it later."""
        taken, self._staged = self._staged, {}
        for key in taken:
            entry = self._entries.get(key) if isinstance(key, str) else None
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
        for entry in self._entries.values():
            if entry.state.settled and entry.elapsed > at - WINDOW:
                self._timeline.settled(entry)  # when is not stored; it may have been just now
        if newest is not None:
            self._counted_since = newest - DAYS_KEPT * DAY
        for use in self._keys.values():
            use.orders = deque(sorted(use.orders, key=lambda entry: entry.elapsed))
        return newest

    def _adopt(self, row: Row, elapsed: float) -> Entry:
        entry = Entry(
            reservation=row.reservation,
            state=row.state,
            sequence=self._timeline.step(elapsed),
            elapsed=elapsed,
            day=self._day_start(row.reservation.at),
            order_id=row.order_id,
            order_id_ex=row.order_id_ex,
            ended=row.ended,
        )
        self._entries[row.reservation.decision_id] = entry
        self._orders.link(entry)
        if not entry.state.settled:
            self._unsettled.setdefault(row.reservation.acc_id, {})[row.reservation.decision_id] = entry
        return entry

    def _count(self, entry: Entry) -> None:
        self._keys[entry.reservation.key_id].count(entry)
        if entry.day > self._newest_day:
            self._newest_day = entry.day
            for use in self._keys.values():
                use.drop_days_before(entry.day - DAYS_KEPT * DAY)

    def _change(self, entry: Entry, state: State) -> None:
        entry.state = state
        if state.settled:
            self._settle(entry)
            self._timeline.settled(entry)
        self._stage(entry.reservation.decision_id, entry.row())

    def _settle(self, entry: Entry) -> None:
        waiting = self._unsettled.get(entry.reservation.acc_id)
        if waiting is not None:
            waiting.pop(entry.reservation.decision_id, None)
            if not waiting:
                del self._unsettled[entry.reservation.acc_id]

    def _give_back(self, decision_id: str, state: State) -> None:
        entry = self._find(decision_id)
        if entry is None or not entry.state.counts_in_daily_value:
            return
        if entry.reservation.at >= self._counted_since:
            self._keys[entry.reservation.key_id].take_value(entry)
        self._change(entry, state)

    def _stage(self, key: ChangeKey, change: Change) -> None:
        first = not self._staged
        self._staged[key] = change
        if first and self.on_staged is not None:
            self.on_staged()

    def _find(self, decision_id: str) -> Entry | None:
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

    def _recall(self, row: Row) -> Entry:
        """An old row comes back to memory; it counts nowhere, because its value already does or its day is over."""
        entry = self._adopt(row, self._elapsed() - WINDOW)
        entry.sequence = 0
        entry.counts_in_rate = False
        entry.taken = True
        self._entries.move_to_end(row.reservation.decision_id, last=False)
        return entry

    def _of_order(self, acc_id: int, order_id: int, order_id_ex: str) -> list[Entry]:
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
                self._orders.unlink(entry)
            if len(old) < 2:
                return
