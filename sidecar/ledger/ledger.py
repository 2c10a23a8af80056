"""What every key has used, and what happens to a reservation: the truth, in memory, with the changes that must be written.
Writes nothing itself; what else is asked of it, `exposure`, `known_orders` and `doubts` answer, which change no reservation.

Used from the event loop's thread only. Everything is a plain `def` and takes microseconds, so that a gate can look at
the usage, decide and reserve without anything happening in between.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace

from sidecar.intents.model import PlaceCombo, PlaceOrder
from sidecar.ledger import clock
from sidecar.ledger.attempts import DEFAULT_KEPT, Attempts
from sidecar.ledger.book import Book
from sidecar.ledger.doubts import Doubts
from sidecar.ledger.exposure import Exposure
from sidecar.ledger.known_orders import KnownOrders
from sidecar.ledger.orders import placed_by
from sidecar.ledger.reservation import Change, ChangeKey, Dropped, Reservation, Row, State, Store
from sidecar.ledger.timeline import KEPT, Timeline
from sidecar.ledger.use import WINDOW, Entry, KeyUse
from sidecar.policy.usage import Usage

DAY = 86_400.0
DAYS_KEPT = 8
"""Days whose totals stay in memory, so that a clock set back still finds them."""


class Ledger:
    """Counts reservations per key, and takes in what became of them.

    `day_start` gives the start of the day that a moment belongs to, both in unix seconds. `elapsed` is a clock that
    never goes back; `now` the unix time at which the ledger is opened; `attempts_kept` the seconds for which idempotency
    keys are remembered. Opening raises RecordError if the store cannot be read, and later only `attempts` does.

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
        self._book = Book(store, elapsed, self._entry)
        self._day_start = day_start
        self._elapsed = elapsed
        self._keys: defaultdict[str, KeyUse] = defaultdict(KeyUse)
        self._staged: dict[ChangeKey, Change] = {}
        self._timeline = Timeline(elapsed)
        self.exposure = Exposure(self._book, self._timeline)
        self.orders = KnownOrders(self._book)
        self.doubts = Doubts(self._book)
        self._newest_day = 0.0
        self._counted_since = 0.0
        self.on_staged: Callable[[], None] | None = None
        """Called when something is to be written and nothing was before."""
        now = time.time() if now is None else now
        self._opened = now, elapsed()
        self._watch = clock.ClockWatch(now, elapsed(), self._load(now))
        self.attempts = Attempts(
            store, kept=attempts_kept, now=now, elapsed=elapsed, stage=self._stage,
            unstage=lambda key: self._staged.pop(key, None) is not None, was_reserved=self._was_reserved,
        )  # fmt: skip

    # What a decision is made against

    def usage(self, key_id: str, now: float, order: PlaceOrder | PlaceCombo | None = None) -> Usage:
        """What the key has used: orders and cancels of the last 60 s, and the value of the running day per currency.
        With the `order` that is being judged, also when the key last placed one like it.
        """
        use = self._keys.get(key_id)
        if use is None:
            return Usage()
        used = use.usage(self._elapsed(), self._day_start(now), order)
        return replace(used, open_orders=self.open_orders(key_id))

    def open_orders(self, key_id: str) -> int:
        """Orders of the key that OpenD has not said to have ended, those on their way included."""
        return self._book.open.count(key_id)

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

    def moment(self) -> float:
        """Now, on the clock by which lists of OpenD's are dated."""
        return self._elapsed()

    # The life of a reservation

    def reserve(self, reservation: Reservation) -> None:
        """Count it now. Raises ValueError if the decision is already there: a decision reserves once."""
        if self._book.get(reservation.decision_id) is not None:
            raise ValueError(f"decision {reservation.decision_id} is reserved already")
        order_id, order_id_ex = reservation.order_id, reservation.order_id_ex
        if reservation.kind != "place":
            placed = placed_by(self._book.of_order(reservation.acc_id, order_id, order_id_ex))
            if placed is not None:
                order_id, order_id_ex = placed.order_id, placed.order_id_ex
        row = Row(reservation, State.RESERVED, order_id, order_id_ex)
        entry = self._entry(row, self._elapsed())
        self._book.add(entry)
        self._count(entry)
        self._stage(entry.reservation.decision_id, row)
        self._book.forget_old(self._staged)

    def release(self, decision_id: str) -> None:
        """It was never forwarded: it leaves the rate, the daily value and the ledger. Unknown decisions are ignored."""
        entry = self._book.remove(decision_id)
        if entry is None:
            return
        self._keys[entry.reservation.key_id].uncount(entry)
        if entry.taken:
            self._stage(decision_id, Dropped(decision_id))
        else:
            self._staged.pop(decision_id, None)

    def forwarded(self, decision_id: str) -> None:
        """Its first byte goes to OpenD now. From here on only OpenD's own word gives its value back."""
        entry = self._book.get(decision_id)
        if entry is not None and entry.state is State.RESERVED:
            self._change(entry, State.FORWARDED)

    def accepted(self, decision_id: str, order_id: int, order_id_ex: str) -> None:
        """OpenD has taken it. `order_id` 0 and `order_id_ex` "" mean not told; what was known before stays.

        For a place this maps the order to the key; a later call with other ids moves the map (a reply knows better
        than a guess), and then nothing holds that was heard of the other order. An order already reported as failed
        stays failed; one whose refusal turns out to be wrong counts again. Said twice it changes nothing.
        """
        entry = self._book.find(decision_id)
        if entry is None:
            return
        before = entry.row()
        if entry.reservation.kind == "place":
            other = self._book.rename(entry, order_id or entry.order_id, order_id_ex or entry.order_id_ex)
        else:
            other = False
            self._end_if_nothing_works(entry)
        failed = entry.state is State.FAILED and not other
        if not (failed or entry.state.counts_in_daily_value):
            self._keys[entry.reservation.key_id].add_value(entry)
        if other or not (before.order_id or before.order_id_ex):
            entry.ended = None
        if failed or entry.state is State.ACCEPTED:
            if entry.row() != before:
                self._book.changed(entry)
                self._stage(decision_id, entry.row())
        else:
            self._change(entry, State.ACCEPTED)

    def refused_by_opend(self, decision_id: str) -> None:
        """OpenD has refused it: the daily value is given back, the attempt still counts in the rate. An order that OpenD
        has named all the same is there: it goes on counting."""
        entry = self._book.find(decision_id)
        if entry is not None and entry.reservation.kind == "place" and (entry.order_id or entry.order_id_ex):
            return
        self._give_back(decision_id, State.REFUSED)

    def order_failed(self, decision_id: str) -> None:
        """The order was reported as failed with nothing filled: as `refused_by_opend`, also after `accepted`."""
        self._give_back(decision_id, State.FAILED)

    def named(self, acc_id: int, order_id: int, order_id_ex: str) -> bool:
        """Whether the ledger knows who placed the order. Of one it knows by one id only, it learns the other."""
        entry = placed_by(self._book.of_order(acc_id, order_id, order_id_ex))
        if entry is None:
            return False
        if (order_id and not entry.order_id) or (order_id_ex and not entry.order_id_ex):
            self._book.rename(entry, entry.order_id or order_id, entry.order_id_ex or order_id_ex)
            self._stage(entry.reservation.decision_id, entry.row())
        return True

    def note_cancel(self, key_id: str, now: float) -> None:
        """Count a cancel; in memory only, because a cancel must not need the disk."""
        self._keys[key_id].cancels.append(self._elapsed())

    # The end of an order

    def order_ended(self, acc_id: int, order_id: int, order_id_ex: str) -> list[str]:
        """It works no longer, in whatever way it ended: nothing of it is open, and changes of it whose fate was not known
        are settled (unknown is used). Gives the decisions of those; 0 and "" mean not given.
        """
        return self._end(self._book.under_any_id(acc_id, order_id, order_id_ex))

    def order_disabled(self, acc_id: int, order_id: int, order_id_ex: str, listed: float | None = None) -> list[str]:
        """As `order_ended`, of an order that may be enabled again: what was approved before it was is ended, not what came
        since. `listed`: OpenD said it in a list that was asked for at that moment; without, it may be old news.
        """
        entries = self._book.under_any_id(acc_id, order_id, order_id_ex)
        enabled = [
            one.sequence
            for one in entries
            if one.reservation.kind == "enable"
            and one.is_open
            and not (listed is not None and one.surely_listed(listed))
        ]
        return self._end([one for one in entries if not enabled or one.sequence < min(enabled)])

    def presumed_gone(self, decision_id: str) -> None:
        """It is open no longer, nor under way; what was reserved for it stays used. Should OpenD name it yet, it is open
        again."""
        entry = self._book.get(decision_id)
        if entry is not None and not entry.state.settled:
            entry.ended = self._wall()
            self._timeline.ended(entry)
            self._change(entry, State.ACCEPTED)

    def _end(self, entries: list[Entry]) -> list[str]:
        settled = []
        for entry in entries:
            if not entry.is_open:
                continue
            entry.ended = self._wall()
            self._timeline.ended(entry)
            if entry.state.settled:
                self._book.changed(entry)
                self._stage(entry.reservation.decision_id, entry.row())
            else:
                settled.append(entry.reservation.decision_id)
                self._change(entry, State.ACCEPTED)
        return settled

    def _end_if_nothing_works(self, modify: Entry) -> None:
        """A modify that is accepted after the order it changes has ended: the order was filled before it came."""
        if modify.reservation.kind != "modify" or not modify.is_open:
            return
        entries = self._book.under_any_id(modify.reservation.acc_id, modify.order_id, modify.order_id_ex)
        orders = [one for one in entries if one.is_order]
        if orders and not any(one.is_open for one in orders):
            modify.ended = self._wall()
            self._timeline.ended(modify)

    def _wall(self) -> float:
        now, at = self._opened
        return now + (self._elapsed() - at)

    # For the recorder

    def take(self) -> dict[ChangeKey, Change]:
        """What is to be written; the caller must write it, or keep it and write it later."""
        taken, self._staged = self._staged, {}
        for key in taken:
            entry = self._book.get(key) if isinstance(key, str) else None
            if entry is not None:
                entry.taken = True
        return taken

    @property
    def has_staged(self) -> bool:
        return bool(self._staged)

    def in_memory(self) -> list[Reservation]:
        """The reservations of the last `DAYS_KEPT` days, as far as they are kept in memory, oldest first."""
        return [entry.reservation for entry in self._book]

    # Inside

    def _load(self, now: float) -> float | None:
        rows = self._store.load(DAYS_KEPT)
        at = self._elapsed()
        newest: float | None = None
        for row in rows:
            made = row.reservation.at
            newest = made if newest is None else max(newest, made)
            # A row dated after now was written before the clock went back: it counts as if made just now.
            entry = self._entry(row, at - max(0.0, now - made))
            entry.taken = True
            self._book.add(entry)
            self._count(entry)
        for entry in self._book:
            if entry.state.settled and entry.elapsed > at - WINDOW:
                self._timeline.settled(entry)  # when is not stored; it may have been just now
            if entry.ended is not None and entry.ended > now - KEPT:
                self._timeline.ended(entry)
        if newest is not None:
            self._counted_since = newest - DAYS_KEPT * DAY
        for use in self._keys.values():
            use.orders = deque(sorted(use.orders, key=lambda entry: entry.elapsed))
        return newest

    def _entry(self, row: Row, elapsed: float) -> Entry:
        return Entry(
            reservation=row.reservation,
            state=row.state,
            sequence=self._timeline.step(elapsed),
            elapsed=elapsed,
            day=self._day_start(row.reservation.at),
            order_id=row.order_id,
            order_id_ex=row.order_id_ex,
            ended=row.ended,
            settled_at=self._elapsed() if row.state.settled else None,
        )

    def _count(self, entry: Entry) -> None:
        self._keys[entry.reservation.key_id].count(entry)
        if entry.day > self._newest_day:
            self._newest_day = entry.day
            for use in self._keys.values():
                use.drop_days_before(entry.day - DAYS_KEPT * DAY)

    def _change(self, entry: Entry, state: State) -> None:
        entry.state = state
        if state.settled:
            self._timeline.settled(entry)
            entry.settled_at = self._elapsed()
        self._book.changed(entry)
        self._stage(entry.reservation.decision_id, entry.row())

    def _give_back(self, decision_id: str, state: State) -> None:
        entry = self._book.find(decision_id)
        if entry is None or not entry.state.counts_in_daily_value:
            return
        if entry.reservation.at >= self._counted_since:
            self._keys[entry.reservation.key_id].take_value(entry)
        self._change(entry, state)

    def _was_reserved(self, decision_id: str) -> bool:
        return self._book.get(decision_id) is not None or self._store.find_decision(decision_id) is not None

    def _stage(self, key: ChangeKey, change: Change) -> None:
        first = not self._staged
        self._staged[key] = change
        if first and self.on_staged is not None:
            self.on_staged()
