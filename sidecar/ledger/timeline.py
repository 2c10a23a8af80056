"""In which order, and when, reservations came and were settled. Knows no totals and no store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from sidecar.ledger.use import Entry

KEPT = 120.0
"""Seconds that are remembered: longer than any fact is waited for, used again, and lags behind."""


class Timeline:
    """Numbers every reservation and every settlement, so that facts from outside can be told apart from them."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self.sequence = 0
        self._steps: deque[tuple[float, int]] = deque()
        self._settled: dict[int, deque[tuple[float, int, Entry]]] = {}
        """By account, in the order in which they were settled."""

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
        number, now = self.step(), self._elapsed()
        of_account = self._settled.setdefault(entry.reservation.acc_id, deque())
        of_account.append((now, number, entry))
        while of_account[0][0] < now - KEPT:
            of_account.popleft()

    def settled_since(self, acc_id: int, sequence: int) -> Iterator[Entry]:
        """The account's entries that were settled later than `sequence`, in any state, possibly more than once."""
        for _, number, entry in reversed(self._settled.get(acc_id, ())):
            if number <= sequence:
                break
            yield entry
