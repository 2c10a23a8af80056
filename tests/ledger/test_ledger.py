"""What counts, for how long, what survives a restart, and what is kept in memory."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ledger_making import ACCOUNT, NOON, Clock, MemoryStore, open_ledger, reservation

from sidecar.errors import RecordError
from sidecar.ledger import book
from sidecar.ledger.reservation import Dropped, Row, State
from sidecar.policy.usage import OrderOwner, Usage


def test_a_key_that_did_nothing_has_used_nothing() -> None:
    assert open_ledger().usage("bot", NOON) == Usage()


def test_a_reservation_counts_at_once_in_rate_and_daily_value() -> None:
    ledger = open_ledger()
    ledger.reserve(reservation(value=Decimal("35050.10")))
    usage = ledger.usage("bot", NOON)
    assert usage.orders_last_minute == 1
    assert usage.daily_value == {"HKD": Decimal("35050.10")}


def test_usage_is_kept_per_key_and_per_currency() -> None:
    ledger = open_ledger()
    ledger.reserve(reservation(value=Decimal(10), currency="HKD"))
    ledger.reserve(reservation(value=Decimal(20), currency="USD"))
    ledger.reserve(reservation(value=Decimal(40), key_id="other"))
    assert ledger.usage("bot", NOON).daily_value == {"HKD": Decimal(10), "USD": Decimal(20)}
    assert ledger.usage("other", NOON).daily_value == {"HKD": Decimal(40)}


def test_the_rate_window_slides_and_the_oldest_order_says_when_there_is_room() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    ledger.reserve(reservation(clock.now))
    clock.pass_(40)
    ledger.reserve(reservation(clock.now))
    assert ledger.usage("bot", clock.now).orders_last_minute == 2
    assert ledger.usage("bot", clock.now).oldest_order_age == 40
    clock.pass_(20)
    assert ledger.usage("bot", clock.now).orders_last_minute == 1
    assert ledger.usage("bot", clock.now).oldest_order_age == 20


def test_the_daily_value_starts_anew_when_the_day_rolls() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    ledger.reserve(reservation(clock.now))
    clock.pass_(43_199)
    assert ledger.usage("bot", clock.now).daily_value == {"HKD": Decimal(1000)}
    clock.pass_(1)
    assert ledger.usage("bot", clock.now).daily_value == {}


def test_a_released_reservation_leaves_rate_and_daily_value() -> None:
    ledger = open_ledger()
    kept, gone = reservation(), reservation()
    ledger.reserve(kept)
    ledger.reserve(gone)
    ledger.release(gone.decision_id)
    usage = ledger.usage("bot", NOON)
    assert usage.orders_last_minute == 1
    assert usage.daily_value == {"HKD": Decimal(1000)}
    assert ledger.doubts.unsettled(ACCOUNT) == [kept]


def test_releasing_twice_or_something_unknown_changes_nothing() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    ledger.release(made.decision_id)
    ledger.release(made.decision_id)
    ledger.release("01JUNKNOWN")
    assert ledger.usage("bot", NOON) == Usage(daily_value={"HKD": Decimal(0)})


def test_what_opend_refused_gives_back_its_value_but_stays_in_the_rate() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    ledger.forwarded(made.decision_id)
    ledger.refused_by_opend(made.decision_id)
    ledger.refused_by_opend(made.decision_id)
    usage = ledger.usage("bot", NOON)
    assert usage.orders_last_minute == 1
    assert usage.daily_value == {"HKD": Decimal(0)}


def test_an_accepted_order_that_failed_gives_back_its_value_once() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    ledger.accepted(made.decision_id, 7, "EX7")
    ledger.order_failed(made.decision_id)
    ledger.order_failed(made.decision_id)
    assert ledger.usage("bot", NOON).daily_value == {"HKD": Decimal(0)}


def test_a_failure_that_comes_before_the_reply_is_not_undone_by_it() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    ledger.order_failed(made.decision_id)
    ledger.accepted(made.decision_id, 7, "EX7")
    assert ledger.usage("bot", NOON).daily_value == {"HKD": Decimal(0)}
    assert ledger.orders.owner_of(ACCOUNT, 7, "") == OrderOwner("bot")


def test_a_refusal_that_turns_out_to_be_wrong_counts_again() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    ledger.refused_by_opend(made.decision_id)
    ledger.accepted(made.decision_id, 7, "EX7")
    assert ledger.usage("bot", NOON).daily_value == {"HKD": Decimal(1000)}


def test_an_unknown_outcome_stays_used() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    made = reservation()
    ledger.reserve(made)
    ledger.forwarded(made.decision_id)
    clock.pass_(3_600)
    assert ledger.usage("bot", clock.now).daily_value == {"HKD": Decimal(1000)}
    assert ledger.doubts.unsettled(ACCOUNT) == [made]


def test_a_reservation_without_a_value_counts_in_the_rate_only() -> None:
    ledger = open_ledger()
    made = reservation(value=None)
    ledger.reserve(made)
    assert ledger.usage("bot", NOON).daily_value == {}
    ledger.refused_by_opend(made.decision_id)
    assert ledger.usage("bot", NOON) == Usage(orders_last_minute=1)


def test_sums_stay_exact_far_beyond_a_double() -> None:
    ledger = open_ledger()
    ledger.reserve(reservation(value=Decimal("123456789012345678901234567890")))
    small = reservation(value=Decimal("0.000000000000000000000000000001"))
    ledger.reserve(small)
    assert ledger.usage("bot", NOON).daily_value["HKD"] == Decimal(
        "123456789012345678901234567890.000000000000000000000000000001"
    )
    ledger.release(small.decision_id)
    assert ledger.usage("bot", NOON).daily_value["HKD"] == Decimal("123456789012345678901234567890")


def test_a_decision_reserves_once() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    with pytest.raises(ValueError, match=made.decision_id):
        ledger.reserve(made)


def test_cancels_are_counted_for_a_minute() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    ledger.note_cancel("bot", clock.now)
    clock.pass_(30)
    ledger.note_cancel("bot", clock.now)
    assert ledger.usage("bot", clock.now).cancels_last_minute == 2
    clock.pass_(30)
    assert ledger.usage("bot", clock.now).cancels_last_minute == 1


# Clocks


def test_a_wall_clock_set_back_forgets_no_attempt_and_no_value() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    ledger.reserve(reservation(clock.now))
    clock.jump(-86_400 * 3)
    usage = ledger.usage("bot", clock.now)
    assert usage.orders_last_minute == 1
    assert usage.daily_value == {"HKD": Decimal(1000)}


def test_a_wall_clock_set_forward_empties_no_rate_window() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    ledger.reserve(reservation(clock.now))
    clock.jump(600)
    assert ledger.usage("bot", clock.now).orders_last_minute == 1


@pytest.mark.parametrize("seconds", [-10, 10, -86_400, 86_400])
def test_after_a_jump_orders_wait_for_a_minute(seconds: float) -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    assert ledger.clock_ok(clock.now)
    clock.jump(seconds)
    assert not ledger.clock_ok(clock.now)
    clock.pass_(59)
    assert not ledger.clock_ok(clock.now)
    assert ledger.clock_wait(clock.now) == 1
    clock.pass_(1)
    assert ledger.clock_ok(clock.now)


def test_a_restart_with_the_clock_set_back_counts_everything_and_waits() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    ledger.reserve(reservation(clock.now))
    store.commit(ledger.take())
    again = Clock(now=clock.now - 7_200, elapsed=5.0)
    ledger = open_ledger(store, again)
    assert not ledger.clock_ok(again.now)
    usage = ledger.usage("bot", again.now)
    assert (usage.orders_last_minute, usage.daily_value) == (1, {"HKD": Decimal(1000)})
    again.pass_(60)
    assert ledger.clock_ok(again.now)


def test_a_start_with_the_clock_far_ahead_and_then_mended_still_knows_the_day() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    ledger.reserve(reservation(clock.now))
    store.commit(ledger.take())
    ahead = Clock(now=clock.now + 86_400 * 365)
    ledger = open_ledger(store, ahead)
    ahead.jump(-86_400 * 365)
    assert ledger.usage("bot", ahead.now).daily_value == {"HKD": Decimal(1000)}


# Restarts


def test_a_restart_keeps_rate_value_owner_and_the_unsettled() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    placed, waiting, refused = reservation(), reservation(), reservation()
    for made in (placed, waiting, refused):
        ledger.reserve(made)
    ledger.accepted(placed.decision_id, 7, "EX7")
    ledger.forwarded(waiting.decision_id)
    ledger.refused_by_opend(refused.decision_id)
    store.commit(ledger.take())
    clock.pass_(30)
    ledger = open_ledger(store, clock)
    usage = ledger.usage("bot", clock.now)
    assert (usage.orders_last_minute, usage.oldest_order_age) == (3, 30)
    assert usage.daily_value == {"HKD": Decimal(2000)}
    assert ledger.orders.owner_of(ACCOUNT, 0, "EX7") == OrderOwner("bot")
    assert ledger.doubts.unsettled(ACCOUNT) == [waiting]
    assert ledger.doubts.never_forwarded() == []


def test_reserved_but_never_forwarded_is_told_apart_after_a_restart() -> None:
    store = MemoryStore()
    ledger = open_ledger(store)
    made = reservation()
    ledger.reserve(made)
    store.commit(ledger.take())
    ledger = open_ledger(store)
    assert ledger.doubts.never_forwarded() == [made]
    ledger.release(made.decision_id)
    store.commit(ledger.take())
    assert store.rows == {}


# What is to be written


def test_a_release_before_anything_was_written_leaves_nothing_to_write() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    ledger.release(made.decision_id)
    assert not ledger.has_staged
    assert ledger.take() == {}


def test_a_release_after_it_was_taken_is_written_as_a_drop() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    assert ledger.take() == {made.decision_id: Row(made, State.RESERVED)}
    ledger.release(made.decision_id)
    assert ledger.take() == {made.decision_id: Dropped(made.decision_id)}


def test_the_recorder_is_called_once_when_something_is_to_be_written() -> None:
    ledger = open_ledger()
    calls: list[int] = []
    ledger.on_staged = lambda: calls.append(1)
    ledger.reserve(reservation())
    ledger.reserve(reservation())
    assert len(calls) == 1
    ledger.take()
    ledger.reserve(reservation())
    assert len(calls) == 2


# Memory


def test_old_orders_that_ended_leave_memory_and_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "MOST_IN_MEMORY", 10)
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    first = reservation(clock.now)
    ledger.reserve(first)
    ledger.accepted(first.decision_id, 1, "EX1")
    ledger.order_ended(ACCOUNT, 1, "EX1")
    unsettled, resting = reservation(clock.now), reservation(clock.now)
    ledger.reserve(unsettled)
    ledger.reserve(resting)
    ledger.accepted(resting.decision_id, 1_000, "")
    for number in range(2, 30):
        clock.pass_(61)
        made = reservation(clock.now)
        ledger.reserve(made)
        ledger.accepted(made.decision_id, number, f"EX{number}")
        ledger.order_ended(ACCOUNT, number, f"EX{number}")
        store.commit(ledger.take())
    assert len(ledger._book) <= 10
    assert ledger.open_orders("bot") == 2
    assert ledger.doubts.unsettled(ACCOUNT) == [unsettled]
    assert ledger.orders.owner_of(ACCOUNT, 1, "") == OrderOwner("bot")
    before = ledger.usage("bot", clock.now).daily_value["HKD"]
    ledger.order_failed(first.decision_id)
    assert ledger.usage("bot", clock.now).daily_value["HKD"] == before - 1000


def test_orders_of_others_are_looked_up_once() -> None:
    store = MemoryStore()
    ledger = open_ledger(store)
    for _ in range(3):
        assert ledger.orders.owner_of(ACCOUNT, 0, "FOREIGN") is None
    assert store.asked == 1
    made = reservation()
    ledger.reserve(made)
    ledger.accepted(made.decision_id, 0, "FOREIGN")
    assert ledger.orders.owner_of(ACCOUNT, 0, "FOREIGN") == OrderOwner("bot")


def test_a_store_that_cannot_be_read_does_not_stop_a_cancel() -> None:
    store = MemoryStore()
    ledger = open_ledger(store)
    store.error = RecordError("ledger_unavailable", "gone")
    assert ledger.orders.owner_of(ACCOUNT, 7, "") is None
    assert ledger.orders.owner_by_remark("#01JX") is None
    ledger.accepted("01JX", 7, "")
    store.error = None
    store.rows["x"] = Row(reservation(key_id="late"), State.ACCEPTED, 7, "")
    assert ledger.orders.owner_of(ACCOUNT, 7, "") == OrderOwner("late")
