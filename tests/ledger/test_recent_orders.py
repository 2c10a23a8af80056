"""When a key last placed an order like the one that is judged: what counts, what does not, and for how long."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from ledger_making import ACCOUNT, Clock, MemoryStore, open_ledger, reservation

from sidecar.intents.model import AccountRef, OrderType, PlaceOrder, Security, Side, TrdEnv
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.recent import LONGEST

ORDER = PlaceOrder(
    AccountRef(ACCOUNT, TrdEnv.REAL),
    Security("HK", "HK.00700", 1, "00700", 1),
    Side.BUY,
    OrderType.NORMAL,
    Decimal(10),
    Decimal(100),
)
"""As the reservations of these tests."""


def age(ledger: Ledger, clock: Clock, **changes: Any) -> float | None:
    return ledger.usage("bot", clock.now, replace(ORDER, **changes)).same_order_age


def a_ledger() -> tuple[Ledger, Clock]:
    clock = Clock()
    return open_ledger(clock=clock), clock


def test_an_order_is_seen_the_moment_it_is_reserved_and_grows_older() -> None:
    ledger, clock = a_ledger()
    assert age(ledger, clock) is None
    ledger.reserve(reservation(clock.now))
    assert age(ledger, clock) == 0
    clock.pass_(7.5)
    assert age(ledger, clock) == 7.5


def test_the_newest_of_several_counts() -> None:
    ledger, clock = a_ledger()
    for _ in range(3):
        ledger.reserve(reservation(clock.now))
        clock.pass_(10)
    assert age(ledger, clock) == 10


@pytest.mark.parametrize(
    "changes",
    [
        {"account": AccountRef(ACCOUNT + 1, TrdEnv.REAL)},
        {"security": Security("HK", "HK.00005", 1, "00005", 1)},
        {"side": Side.SELL},
        {"qty": Decimal("10.0001")},
        {"price": Decimal("100.01")},
        {"price": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_order_that_differs_in_one_term_is_another_order(changes: dict[str, Any]) -> None:
    ledger, clock = a_ledger()
    ledger.reserve(reservation(clock.now))
    assert age(ledger, clock, **changes) is None


def test_numbers_are_compared_by_what_they_are_worth_and_not_by_how_they_are_written() -> None:
    ledger, clock = a_ledger()
    ledger.reserve(reservation(clock.now, qty=Decimal("10.0"), price=Decimal("1E+2")))
    assert age(ledger, clock) == 0


def test_orders_without_a_price_are_alike() -> None:
    ledger, clock = a_ledger()
    ledger.reserve(reservation(clock.now, price=None, order_type=OrderType.MARKET))
    assert age(ledger, clock, price=None) == 0


def test_the_type_and_the_remark_of_an_order_make_no_other_order() -> None:
    ledger, clock = a_ledger()
    ledger.reserve(reservation(clock.now, order_type=OrderType.SPECIAL_LIMIT, remark="mine"))
    assert age(ledger, clock) == 0


def test_the_orders_of_another_key_do_not_count() -> None:
    ledger, clock = a_ledger()
    ledger.reserve(reservation(clock.now, key_id="other"))
    ledger.reserve(reservation(clock.now, qty=Decimal(1)))
    assert age(ledger, clock) is None


@pytest.mark.parametrize("end", ["release", "refused_by_opend", "order_failed"])
def test_what_was_never_sent_or_opend_refused_did_not_happen(end: str) -> None:
    ledger, clock = a_ledger()
    first, second = reservation(clock.now), reservation(clock.now)
    ledger.reserve(first)
    clock.pass_(5)
    ledger.reserve(second)
    getattr(ledger, end)(second.decision_id)
    assert age(ledger, clock) == 5, "the one before it did"
    getattr(ledger, end)(first.decision_id)
    assert age(ledger, clock) is None


def test_an_order_whose_fate_is_unknown_counts() -> None:
    ledger, clock = a_ledger()
    made = reservation(clock.now)
    ledger.reserve(made)
    ledger.forwarded(made.decision_id)
    clock.pass_(5)
    assert age(ledger, clock) == 5


def test_an_order_whose_refusal_turns_out_to_be_wrong_counts_again() -> None:
    ledger, clock = a_ledger()
    made, later = reservation(clock.now), reservation(clock.now)
    ledger.reserve(made)
    ledger.refused_by_opend(made.decision_id)
    clock.pass_(5)
    ledger.reserve(later)
    ledger.accepted(made.decision_id, 1, "X1")
    assert age(ledger, clock) == 0, "and is not taken for the newest"
    ledger.release(later.decision_id)
    assert age(ledger, clock) == 5


def test_a_change_of_an_order_is_no_placing() -> None:
    ledger, clock = a_ledger()
    ledger.reserve(reservation(clock.now, kind="modify", order_id_ex="X1"))
    assert age(ledger, clock) is None


def test_a_restart_forgets_nothing() -> None:
    store, clock = MemoryStore(), Clock()
    ledger = open_ledger(store, clock)
    accepted, refused = reservation(clock.now), reservation(clock.now, qty=Decimal(20))
    for made in (accepted, refused):
        ledger.reserve(made)
        ledger.forwarded(made.decision_id)
    ledger.accepted(accepted.decision_id, 7, "EX7")
    ledger.refused_by_opend(refused.decision_id)
    store.commit(ledger.take())
    clock.pass_(30)
    ledger = open_ledger(store, clock)
    assert age(ledger, clock) == 30
    assert age(ledger, clock, qty=Decimal(20)) is None


def test_a_clock_set_back_makes_no_order_older() -> None:
    ledger, clock = a_ledger()
    ledger.reserve(reservation(clock.now))
    clock.jump(-3_600)
    clock.pass_(5)
    assert age(ledger, clock) == 5


def test_what_is_older_than_any_key_can_ask_for_is_let_go() -> None:
    ledger, clock = a_ledger()
    for number in range(1, 50):
        ledger.reserve(reservation(clock.now, qty=Decimal(number)))
    clock.pass_(LONGEST - 1)
    assert age(ledger, clock) == LONGEST - 1
    for _ in range(3):
        ledger.reserve(reservation(clock.now, qty=Decimal(999)))
    clock.pass_(1)
    assert age(ledger, clock) is None
    recent = ledger._keys["bot"].recent
    assert len(recent._placed) == 1
    clock.pass_(LONGEST)
    ledger.reserve(reservation(clock.now, qty=Decimal(999)))
    assert [len(placed) for placed in recent._placed.values()] == [1], "the same order over and over fills no memory"
