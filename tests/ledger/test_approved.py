"""What an order was approved for: by which a change of it is measured."""

from __future__ import annotations

from decimal import Decimal

from ledger_making import ACCOUNT, Clock, MemoryStore, open_ledger, reservation

from sidecar.intents.model import Side
from sidecar.ledger.ledger import Ledger
from sidecar.policy.usage import Approved


class Book:
    """A ledger with one order in it, of 10 for 1000."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), Clock()
        self.ledger = open_ledger(self.store, self.clock)
        self.placed = self._made("place", qty=10, value=1000)
        self.ledger.accepted(self.placed, 7, "EX7")

    def _made(self, kind: str, qty: int, value: int | None, **more: object) -> str:
        self.clock.pass_(1.0)
        made = reservation(
            self.clock.now, kind=kind, qty=Decimal(qty), value=None if value is None else Decimal(value), **more
        )
        self.ledger.reserve(made)
        self.ledger.forwarded(made.decision_id)
        return made.decision_id

    def changed(self, qty: int, value: int | None = 0, kind: str = "modify") -> str:
        """Approved; OpenD has not answered it."""
        return self._made(kind, qty, value, order_id=7, order_id_ex="EX7")

    def restart(self) -> None:
        self.store.commit(self.ledger.take())
        self.ledger = open_ledger(self.store, self.clock)

    @property
    def approved(self) -> Approved | None:
        by_id, by_ex = self.ledger.orders.approved(ACCOUNT, 7, ""), self.ledger.orders.approved(ACCOUNT, 0, "EX7")
        assert by_id == by_ex, "by either id it is the same order"
        return by_id


def approved(qty: int, value: int | None) -> Approved:
    return Approved(Decimal(qty), None if value is None else Decimal(value), None if value is None else "HKD", Side.BUY)


def test_an_order_is_approved_for_what_it_was_placed_with() -> None:
    assert Book().approved == approved(10, 1000)


def test_an_order_nobody_placed_here_is_not_known() -> None:
    assert Book().ledger.orders.approved(ACCOUNT, 8, "EX8") is None
    assert Book().ledger.orders.approved(1, 7, "EX7") is None


def test_increases_add_up_to_the_highest_total() -> None:
    book = Book()
    book.ledger.accepted(book.changed(15, 500), 0, "EX7")
    book.ledger.accepted(book.changed(12), 0, "EX7")
    book.ledger.accepted(book.changed(16, 100), 0, "EX7")
    assert book.approved == approved(16, 1600)


def test_a_change_counts_when_opend_has_taken_it() -> None:
    book = Book()
    raised = book.changed(15, 500)
    assert book.approved == approved(10, 1000), "until then it may be refused, and its value given back"
    book.ledger.accepted(raised, 0, "EX7")
    assert book.approved == approved(15, 1500)


def test_an_increase_is_not_measured_from_one_that_is_refused_in_the_end() -> None:
    book = Book()
    first = book.changed(15, 500)
    assert book.approved == approved(10, 1000)
    second = book.changed(16, 600)
    book.ledger.refused_by_opend(first)
    book.ledger.accepted(second, 0, "EX7")
    assert book.approved == approved(16, 1600)
    assert book.ledger.usage("bot", book.clock.now).daily_value == {"HKD": Decimal(1600)}


def test_increases_that_were_counted_side_by_side_are_credit_for_later_ones() -> None:
    book = Book()
    for decision_id in (book.changed(15, 500), book.changed(16, 600)):
        book.ledger.accepted(decision_id, 0, "EX7")
    assert book.approved == approved(16, 2100)


def test_of_changes_that_are_under_way_the_smallest_may_be_the_last() -> None:
    book = Book()
    smaller = book.changed(4)
    larger = book.changed(20, 1000)
    assert book.approved == approved(4, 1000)
    book.ledger.accepted(smaller, 0, "EX7")
    assert book.approved == approved(4, 1000)
    book.ledger.accepted(larger, 0, "EX7")
    assert book.approved == approved(20, 2000)


def test_what_opend_refuses_was_never_approved() -> None:
    book = Book()
    book.ledger.refused_by_opend(book.changed(15, 500))
    assert book.approved == approved(10, 1000)
    book.ledger.refused_by_opend(book.changed(4))
    assert book.approved == approved(10, 1000)


def test_enabling_it_again_is_no_increase() -> None:
    book = Book()
    book.ledger.accepted(book.changed(10, 1000, kind="enable"), 0, "EX7")
    assert book.approved == approved(10, 1000)
    book.ledger.accepted(book.changed(12, 200), 0, "EX7")
    assert book.approved == approved(12, 1200)


def test_an_order_placed_while_no_limit_asked_for_its_value_has_none() -> None:
    book = Book()
    book.ledger.refused_by_opend(book.placed)  # accepted, so this is not believed
    assert book.approved == approved(10, 1000)
    plain = open_ledger()
    made = reservation(value=None)
    plain.reserve(made)
    plain.accepted(made.decision_id, 7, "EX7")
    assert plain.orders.approved(ACCOUNT, 7, "") == approved(10, None)
    raised = reservation(made.at + 1, kind="modify", qty=Decimal(12), value=Decimal(1200), order_id_ex="EX7")
    plain.reserve(raised)
    plain.accepted(raised.decision_id, 0, "EX7")
    assert plain.orders.approved(ACCOUNT, 7, "") == approved(12, 1200), (
        "what was valued later is the highest that is known"
    )


def test_values_in_two_currencies_do_not_add_up() -> None:
    book = Book()
    made = reservation(
        book.clock.now + 1, kind="modify", qty=Decimal(12), currency="USD", value=Decimal(1), order_id_ex="EX7"
    )
    book.ledger.reserve(made)
    book.ledger.accepted(made.decision_id, 0, "EX7")
    assert book.approved == approved(12, None)


def test_it_is_the_same_after_a_restart() -> None:
    book = Book()
    book.ledger.accepted(book.changed(15, 500), 0, "EX7")
    book.changed(12)
    before = book.approved
    book.restart()
    assert book.approved == before == approved(12, 1500)


def test_an_order_that_left_memory_is_still_measured_by_what_it_was_approved_for() -> None:
    book = Book()
    book.ledger.accepted(book.changed(15, 500), 0, "EX7")
    assert _forgotten(book).orders.approved(ACCOUNT, 0, "EX7") == approved(15, 1500)


def _forgotten(book: Book) -> Ledger:
    """A ledger that loads nothing and looks everything up."""
    book.store.commit(book.ledger.take())
    book.store.load = lambda days: []  # type: ignore[method-assign]
    return open_ledger(book.store, book.clock)
