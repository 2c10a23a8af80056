"""Whether the wall clock can be trusted at this moment, and when a day begins; sets no clock and reads none but the
given ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import time as time_of_day

STEP = 5.0
"""Seconds by which the wall clock may differ from elapsed time between two looks; more is a jump."""
SLEW = 0.001
"""Share of the elapsed time allowed on top, over the 0.05 % by which time daemons slew."""
SLEW_MOST = 30.0
"""Seconds that the share comes to at most, however long nobody has looked."""
HOLD = 60.0
"""Seconds for which orders are refused after a jump: as long as the rate window."""


def elapsed() -> float:
    """Seconds that never go back and go on while the machine sleeps, so that waking up is not taken for a jump."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_MONOTONIC"):  # counts sleep on macOS, where time.monotonic does not
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic()


class ClockWatch:
    """Compares the wall clock with elapsed time. After a jump in either direction it says no for `HOLD` seconds, then
    takes the new time as right: nobody here can know which of the two was wrong, and what is counted stays counted in
    the meantime."""

    def __init__(self, now: float, at: float, newest: float | None = None) -> None:
        """`now` is unix seconds, `at` elapsed seconds; `newest` is the latest time on record: a clock behind it has
        jumped back."""
        self._wall = now
        self._at = at
        self._held_until = at + HOLD if newest is not None and now < newest - STEP else at

    def ok(self, now: float, at: float) -> bool:
        return self.wait(now, at) <= 0

    def wait(self, now: float, at: float) -> float:
        """Seconds until orders are taken again; 0 when the clock is in order."""
        passed = at - self._at
        if abs((now - self._wall) - passed) > STEP + min(SLEW * passed, SLEW_MOST):
            self._held_until = at + HOLD
        self._wall = now
        self._at = at
        return max(0.0, self._held_until - at)


def day_starts(at: time_of_day, zone: tzinfo) -> Callable[[float], float]:
    """The function that gives the start of the running day, both in unix seconds; the day rolls at `at` in `zone`."""

    def day_start(now: float) -> float:
        local = datetime.fromtimestamp(now, zone)
        start = datetime.combine(local.date(), at, zone)
        if start.astimezone(UTC) > local.astimezone(UTC):
            start = datetime.combine(local.date() - timedelta(days=1), at, zone)
        return start.timestamp()

    return day_start
