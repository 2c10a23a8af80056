"""In which order, and when, reservations came, were settled, and ended. Knows no totals and no store."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator

from sidecar.ledger.use import Entry

KEPT = 120.0
"""Seconds that are remembered: longer than any fact is waited for, used again, and lags behind."""

_Events = defaultdict[int, deque[tuple[float, int, Entry]]]
"""By account: when, under which number, what; in this order."""


class Timeline:
    """Numbers every reservation, settlement and end, so that facts from outside can be told apart from them."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self.sequence = 0
        self._steps: deque[tuple[float, int]] = deque()
        self._settled: _Events = defaultdict(deque)
        self._ended: _Events = defaultdict(deque)

    def step(self, at: float | None = None) -> int:
        """The next number; reached `at` that time, where it is not now, but never before the one before it."""
        self.sequence += 1
        now = self._elapsed()
        reached = now if at is None else at
        self._steps.append((max(reached, self._steps[-1][0]) if self._steps else reached, self.sequence))
        while self._steps and self._steps[0][0] < now - KEPT:
            self._steps.popleft()
        return self.sequence

    def before(self, seconds: float) -> int:
        """The number that was reached so many seconds ago (at most `KEPT`)."""
        edge = self._elapsed() - seconds
        reached = self.sequence
        for at, number in reversed(self._steps):
            if at <= edge:
                break
            reached = number - 1
        return reached

    def settled(self, entry: Entry) -> None:
        """The entry was settled now; once more if it was before."""
        self._note(self._settled, entry)

    def settled_since(self, acc_id: int, sequence: int) -> Iterator[Entry]:
        """The account's entries that were settled later than `sequence`, in any state, possibly more than once."""
        return _since(self._settled, acc_id, sequence)

    def ended(self, entry: Entry) -> None:
        """The entry's order was heard to have ended now."""
        self._note(self._ended, entry)

    def ended_since(self, acc_id: int, sequence: int) -> Iterator[Entry]:
        """The account's entries that ended later than `sequence`."""
        return _since(self._ended, acc_id, sequence)

    def _note(self, events: _Events, entry: Entry) -> None:
        number, now = self.step(), self._elapsed()
        of_account = events[entry.reservation.acc_id]
        of_account.append((now, number, entry))
        while of_account[0][0] < now - KEPT:
            of_account.popleft()


def _since(events: _Events, acc_id: int, sequence: int) -> Iterator[Entry]:
    for _, number, entry in reversed(events.get(acc_id, ())):
        if number <= sequence:
            break
        yield entry
