"""When the wall clock is believed, and when a day begins."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.ledger.clock import ClockWatch, day_starts, elapsed

NEW_YORK = ZoneInfo("America/New_York")


def test_elapsed_time_does_not_go_back() -> None:
    assert elapsed() <= elapsed()


@given(st.lists(st.tuples(st.floats(0.001, 100_000), st.floats(-0.0005, 0.0005)), max_size=50))
def test_a_clock_that_is_slewed_is_believed(steps: list[tuple[float, float]]) -> None:
    now, at = 1_750_000_000.0, 0.0
    watch = ClockWatch(now, at)
    for seconds, drift in steps:
        at += seconds
        now += seconds * (1 + max(-0.0003, min(0.0003, drift)))
        assert watch.ok(now, at)


@given(st.floats(0, 86_400), st.floats(36, 1e9), st.booleans())
def test_every_jump_is_noticed(passed: float, jump: float, back: bool) -> None:
    watch = ClockWatch(1e9, 0.0)
    assert not watch.ok(1e9 + passed + (-jump if back else jump), passed)


def test_a_second_jump_starts_the_wait_anew() -> None:
    watch = ClockWatch(1_000.0, 0.0)
    assert watch.wait(1_100.0, 0.0) == 60
    assert watch.wait(1_030.0, 30.0) == 60
    assert watch.wait(1_090.0, 90.0) == 0


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)),
    st.sampled_from([time(0), time(17), time(2, 30), time(23, 59)]),
)
def test_a_day_holds_the_moment_it_was_asked_for(moment: datetime, at: time) -> None:
    day_start = day_starts(at, NEW_YORK)
    now = moment.replace(tzinfo=UTC).timestamp()
    start = day_start(now)
    assert start <= now < start + 25 * 3_600 + 1
    assert day_start(start) == start


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2026-03-08T21:30:00+00:00", "2026-03-08T17:00:00-04:00"),
        ("2026-03-08T20:30:00+00:00", "2026-03-07T17:00:00-05:00"),
        ("2026-11-01T21:59:00+00:00", "2026-10-31T17:00:00-04:00"),
    ],
)
def test_the_day_rolls_at_its_local_hour_in_summer_and_winter(now: str, start: str) -> None:
    day_start = day_starts(time(17), NEW_YORK)
    assert day_start(datetime.fromisoformat(now).timestamp()) == datetime.fromisoformat(start).timestamp()
