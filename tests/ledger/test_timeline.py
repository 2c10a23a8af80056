"""What of the ledger a fact asked for at some moment may not show."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sidecar.intents.model import Side
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.timeline import KEPT
from tests.ledger.ledger_making import ACCOUNT, Clock, MemoryStore, open_ledger, reservation


def sale(ledger: Ledger, clock: Clock, qty: int = 10, **changes: Any) -> str:
    made = reservation(clock.now, side=Side.SELL, qty=Decimal(qty), **changes)
    ledger.reserve(made)
    ledger.forwarded(made.decision_id)
    return made.decision_id


def selling(ledger: Ledger, sequence: int) -> Decimal | None:
    return ledger.exposure.selling_since(ACCOUNT, "HK.00700", sequence)


def test_later_and_unsettled_reservations_are_added_to_an_older_fact() -> None:
    ledger = open_ledger()
    settled, waiting, later, elsewhere = reservation(), reservation(), reservation(), reservation(acc_id=1)
    ledger.reserve(settled)
    ledger.reserve(waiting)
    ledger.accepted(settled.decision_id, 7, "EX7")
    asked_at = ledger.sequence
    ledger.reserve(later)
    ledger.reserve(elsewhere)
    ledger.accepted(later.decision_id, 8, "EX8")
    assert ledger.exposure.reserved_since(ACCOUNT, asked_at) == [waiting, later]
    ledger.refused_by_opend(waiting.decision_id)
    assert ledger.exposure.reserved_since(ACCOUNT, asked_at) == [later]


def test_a_sale_settled_after_the_question_was_sent_may_not_be_in_the_answer() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    first = sale(ledger, clock)
    asked_at = ledger.sequence
    assert selling(ledger, asked_at) == 10
    ledger.accepted(first, 1, "X1")
    assert selling(ledger, asked_at) == 10
    assert selling(ledger, ledger.sequence) == 0


def test_an_answer_to_a_later_question_shows_what_was_settled_before() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    for _ in range(3):
        ledger.accepted(sale(ledger, clock), 1, "X1")
    asked_at = ledger.sequence
    ledger.accepted(sale(ledger, clock, 7), 2, "X2")
    assert selling(ledger, asked_at) == 7


def test_a_source_that_lags_behind_is_told_apart_by_the_sequence_of_that_much_earlier() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    ledger.accepted(sale(ledger, clock), 1, "X1")
    clock.pass_(2.0)
    assert selling(ledger, ledger.sequence_before(3.0)) == 10
    assert selling(ledger, ledger.sequence_before(2.0)) == 0
    ledger.accepted(sale(ledger, clock, 5), 2, "X2")
    clock.pass_(1.0)
    assert selling(ledger, ledger.sequence_before(3.0)) == 5
    clock.pass_(3.0)
    assert selling(ledger, ledger.sequence_before(3.0)) == 0
    assert ledger.sequence_before(0.0) == ledger.sequence


def test_what_opend_refused_or_failed_or_was_never_sent_is_free_and_what_is_unknown_is_not() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    asked_at = ledger.sequence
    refused, failed, released, unknown = (sale(ledger, clock, qty) for qty in (1, 2, 4, 8))
    assert selling(ledger, asked_at) == 15
    ledger.refused_by_opend(refused)
    ledger.accepted(failed, 1, "X1")
    ledger.order_failed(failed)
    ledger.release(released)
    assert selling(ledger, asked_at) == 8
    clock.pass_(KEPT * 2)
    assert selling(ledger, ledger.sequence) == 8
    ledger.accepted(unknown, 2, "X2")
    clock.pass_(4)
    assert selling(ledger, ledger.sequence_before(3)) == 0


def test_a_refusal_that_turns_out_to_be_wrong_counts_again() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    made = sale(ledger, clock)
    ledger.refused_by_opend(made)
    asked_at = ledger.sequence
    ledger.accepted(made, 1, "X1")
    assert selling(ledger, asked_at) == 10


def test_sales_of_every_key_count_and_buys_other_symbols_and_accounts_do_not() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    sale(ledger, clock, 1)
    sale(ledger, clock, 2, key_id="other")
    sale(ledger, clock, 4, symbol="HK.00005")
    sale(ledger, clock, 8, acc_id=1)
    ledger.reserve(reservation(clock.now, side=Side.BUY, qty=Decimal(16)))
    ledger.reserve(reservation(clock.now, side=Side.SELL_SHORT, qty=Decimal(32)))
    assert selling(ledger, ledger.sequence) == 1 + 2 + 32


def test_a_combo_makes_what_is_sold_unknown_until_an_answer_shows_it() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    combo = reservation(clock.now, side=None)
    ledger.reserve(combo)
    assert selling(ledger, ledger.sequence) is None
    ledger.accepted(combo.decision_id, 1, "X1")
    assert selling(ledger, ledger.sequence) == 0


def test_after_a_restart_what_was_sold_just_before_may_not_be_shown_yet() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    ledger.accepted(sale(ledger, clock, 1), 1, "X1")
    clock.pass_(100)
    ledger.accepted(sale(ledger, clock, 2), 2, "X2")
    sale(ledger, clock, 4)
    store.commit(ledger.take())
    clock.pass_(1)
    again = open_ledger(store, clock)
    assert selling(again, again.sequence_before(3)) == 2 + 4
    clock.pass_(4)
    assert selling(again, again.sequence_before(3)) == 4


def test_memory_of_what_was_settled_is_let_go() -> None:
    clock = Clock()
    ledger = open_ledger(clock=clock)
    for number in range(1, 500):
        clock.pass_(1)
        ledger.accepted(sale(ledger, clock), number, f"X{number}")
    assert len(ledger._timeline._steps) <= 2 * KEPT + 4
    assert len(ledger._timeline._settled[ACCOUNT]) <= KEPT + 2
