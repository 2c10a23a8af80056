"""What is remembered of idempotency keys: for how long, over restarts, and when memory or the store gives out."""

from __future__ import annotations

import pytest
from ledger_making import NOON, Clock, MemoryStore, open_ledger, reservation

from sidecar.errors import RecordError
from sidecar.ledger import attempts as attempts_module
from sidecar.ledger.attempts import Attempt, AttemptDropped
from sidecar.ledger.ledger import Ledger

REPLY = b"\x08\x00"


def attempt(token: str = "t", at: float = NOON, **changes: str) -> Attempt:
    fields = {"key_id": "bot", "request_hash": "h", "decision_id": f"01J{token}", **changes}
    return Attempt(token=token, at=at, **fields)


def place(ledger: Ledger, made: Attempt) -> None:
    """An order on its way: begun, and reserved."""
    ledger.attempts.begun(made, write=True)
    ledger.reserve(reservation(made.at, decision_id=made.decision_id))


def restarted(store: MemoryStore, clock: Clock, kept: float = 86_400.0) -> Ledger:
    return open_ledger(store, clock, attempts_kept=kept)


def test_a_key_nobody_used_is_free() -> None:
    assert open_ledger().attempts.find("bot", "t") is None


def test_what_was_begun_is_known_at_once_and_belongs_to_its_own_key() -> None:
    ledger = open_ledger()
    made = attempt()
    ledger.attempts.begun(made, write=True)
    assert ledger.attempts.find("bot", "t") == made
    assert ledger.attempts.find("other", "t") is None


def test_an_attempt_is_written_with_the_reservation_it_is_for() -> None:
    ledger = open_ledger()
    made = attempt()
    place(ledger, made)
    taken = ledger.take()
    assert taken[made.key] == made
    assert made.decision_id in taken


def test_what_became_of_the_order_and_its_outcome_are_written_together() -> None:
    ledger = open_ledger()
    made = attempt()
    place(ledger, made)
    ledger.take()
    ledger.attempts.ended(made, REPLY)
    ledger.accepted(made.decision_id, 7, "EX7")
    assert set(ledger.take()) == {made.key, made.decision_id}


def test_an_outcome_outlives_the_process() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    made = attempt()
    place(ledger, made)
    ledger.attempts.ended(made, REPLY)
    store.commit(ledger.take())
    found = restarted(store, clock).attempts.find("bot", "t")
    assert found is not None
    assert (found.outcome, found.decision_id, found.request_hash) == (REPLY, made.decision_id, "h")


def test_after_a_restart_an_order_that_may_have_been_sent_still_holds_its_key() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    made = attempt()
    place(ledger, made)
    store.commit(ledger.take())
    assert restarted(store, clock).attempts.find("bot", "t") == made


def test_after_a_restart_an_order_that_was_never_reserved_has_freed_its_key() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    ledger.attempts.begun(attempt(), write=True)
    store.commit(ledger.take())
    assert restarted(store, clock).attempts.find("bot", "t") is None


def test_after_a_restart_an_order_that_is_released_as_never_sent_has_freed_its_key() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    made = attempt()
    place(ledger, made)
    store.commit(ledger.take())
    ledger = restarted(store, clock)
    ledger.release(made.decision_id)
    store.commit(ledger.take())
    assert ledger.attempts.find("bot", "t") is None


def test_a_key_that_was_freed_can_be_used_again() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    ledger.attempts.begun(attempt(), write=True)
    store.commit(ledger.take())
    ledger = restarted(store, clock)
    second = attempt(decision_id="01JSECOND")
    place(ledger, second)
    store.commit(ledger.take())
    assert restarted(store, clock).attempts.find("bot", "t") == second


def test_a_cancel_is_written_only_once_it_has_an_outcome() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    made = attempt()
    ledger.attempts.begun(made, write=False)
    assert not ledger.has_staged
    assert ledger.attempts.find("bot", "t") == made
    assert restarted(store, clock).attempts.find("bot", "t") is None
    ledger.attempts.ended(made, REPLY)
    store.commit(ledger.take())
    found = restarted(store, clock).attempts.find("bot", "t")
    assert found is not None
    assert found.outcome == REPLY


def test_what_was_refused_before_anything_was_written_leaves_nothing_to_write() -> None:
    ledger = open_ledger()
    made = attempt()
    ledger.attempts.begun(made, write=True)
    ledger.attempts.dropped(made)
    assert not ledger.has_staged
    assert ledger.attempts.find("bot", "t") is None


def test_what_was_refused_after_it_was_written_is_written_as_gone() -> None:
    ledger = open_ledger()
    made = attempt()
    ledger.attempts.begun(made, write=True)
    ledger.take()
    ledger.attempts.dropped(made)
    assert ledger.attempts.find("bot", "t") is None
    assert ledger.take() == {made.key: AttemptDropped("bot", "t")}


def test_a_late_answer_does_not_change_a_later_use_of_the_key() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock, attempts_kept=60)
    first = attempt()
    ledger.attempts.begun(first, write=True)
    clock.pass_(61)
    second = attempt(decision_id="01JSECOND", at=clock.now)
    ledger.attempts.begun(second, write=True)
    ledger.take()
    ledger.attempts.ended(first, REPLY)
    ledger.attempts.dropped(first)
    assert ledger.attempts.find("bot", "t") == second
    assert not ledger.has_staged


# How long


def test_a_key_is_remembered_for_its_time_and_then_forgotten() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock, attempts_kept=100)
    made = attempt()
    place(ledger, made)
    ledger.attempts.ended(made, REPLY)
    store.commit(ledger.take())
    clock.pass_(100)
    assert ledger.attempts.find("bot", "t") is not None
    assert restarted(store, clock, 100).attempts.find("bot", "t") is not None
    clock.pass_(1)
    assert ledger.attempts.find("bot", "t") is None
    assert restarted(store, clock, 100).attempts.find("bot", "t") is None


def test_what_is_forgotten_leaves_memory() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock, attempts_kept=100)
    for number in range(50):
        ledger.attempts.begun(attempt(f"old{number}"), write=True)
    clock.pass_(101)
    for number in range(50):
        ledger.attempts.begun(attempt(f"new{number}", clock.now), write=True)
    assert len(ledger.attempts) == 50


@pytest.mark.parametrize("jump", [86_400.0 * 3, -86_400.0 * 3])
def test_a_clock_that_jumps_forgets_no_key(jump: float) -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    made = attempt()
    place(ledger, made)
    store.commit(ledger.take())
    clock.jump(jump)
    assert ledger.attempts.find("bot", "t") == made
    if jump < 0:  # a clock that is ahead when a process starts cannot be told from time that passed
        assert restarted(store, clock).attempts.find("bot", "t") == made


# When memory is full


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "MOST_IN_MEMORY", 5)


@pytest.mark.usefixtures("small")
def test_the_oldest_leave_memory_and_are_found_in_the_store() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    for number in range(30):
        made = attempt(str(number), clock.now)
        place(ledger, made)
        ledger.attempts.ended(made, REPLY)
        store.commit(ledger.take())
        clock.pass_(61)
    assert len(ledger.attempts) <= 6
    assert all(ledger.attempts.find("bot", str(number)) is not None for number in range(30))
    assert ledger.attempts.find("bot", "free") is None


@pytest.mark.usefixtures("small")
def test_what_may_not_be_written_yet_stays_in_memory_however_much_it_is() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    for number in range(30):
        ledger.attempts.begun(attempt(str(number), clock.now), write=True)
        clock.pass_(1)
    assert len(ledger.attempts) == 30


@pytest.mark.usefixtures("small")
def test_after_a_restart_with_more_than_fits_into_memory_all_are_found() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    for number in range(20):
        place(ledger, attempt(str(number), clock.now))
        store.commit(ledger.take())
        clock.pass_(1)
    ledger = restarted(store, clock)
    assert len(ledger.attempts) == 5
    assert all(ledger.attempts.find("bot", str(number)) is not None for number in range(20))


@pytest.mark.usefixtures("small")
def test_once_what_memory_lacks_has_expired_the_store_is_asked_no_more() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock, attempts_kept=1_000)
    for number in range(10):
        place(ledger, attempt(str(number), clock.now))
        store.commit(ledger.take())
        clock.pass_(61)
    store.asked = 0
    assert ledger.attempts.find("bot", "free") is None
    assert store.asked == 1
    clock.pass_(1_000)
    assert ledger.attempts.find("bot", "free") is None
    assert store.asked == 1


def test_while_memory_knows_all_the_store_is_not_asked() -> None:
    store = MemoryStore()
    ledger = open_ledger(store)
    place(ledger, attempt())
    ledger.attempts.find("bot", "t")
    ledger.attempts.find("bot", "free")
    assert store.asked == 0


# When the store cannot be read


@pytest.mark.usefixtures("small")
def test_a_store_that_cannot_be_read_is_no_proof_that_a_key_is_free() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    for number in range(10):
        place(ledger, attempt(str(number), clock.now))
        store.commit(ledger.take())
        clock.pass_(61)
    store.error = RecordError("ledger_unavailable", "gone")
    with pytest.raises(RecordError):
        ledger.attempts.find("bot", "0")
    with pytest.raises(RecordError):
        ledger.attempts.find("bot", "free")
    assert ledger.attempts.find("bot", "9") is not None


def test_an_old_order_that_cannot_be_looked_up_is_no_proof_that_it_was_never_sent() -> None:
    store, clock = MemoryStore(), Clock()
    made = attempt()
    store.attempts[made.key] = made
    ledger = open_ledger(store, clock)
    store.error = RecordError("ledger_unavailable", "gone")
    with pytest.raises(RecordError):
        ledger.attempts.find("bot", "t")


def test_an_answer_to_what_has_left_memory_is_still_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "MOST_IN_MEMORY", 1)
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    late = attempt("late", clock.now)
    place(ledger, late)
    store.commit(ledger.take())
    clock.pass_(61)
    place(ledger, attempt("next", clock.now))
    assert len(ledger.attempts) == 1
    ledger.attempts.ended(late, REPLY)
    store.commit(ledger.take())
    found = ledger.attempts.find("bot", "late")
    assert found is not None
    assert found.outcome == REPLY
