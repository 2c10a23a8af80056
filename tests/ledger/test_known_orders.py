"""Whose order is whose, by every id that may be told of it."""

from __future__ import annotations

from decimal import Decimal

from ledger_making import ACCOUNT, open_ledger, reservation

from sidecar.ledger.known_orders import NOBODY
from sidecar.ledger.ledger import Ledger
from sidecar.policy.usage import OrderOwner


def test_an_order_is_found_by_either_id_and_only_in_its_account() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    assert ledger.orders.owner_of(ACCOUNT, 7, "EX7") is None
    ledger.accepted(made.decision_id, 7, "EX7")
    for order_id, order_id_ex in ((7, ""), (0, "EX7"), (7, "EX7")):
        assert ledger.orders.owner_of(ACCOUNT, order_id, order_id_ex) == OrderOwner("bot")
        assert ledger.orders.decision_of(ACCOUNT, order_id, order_id_ex) == made.decision_id
        assert ledger.orders.owner_of(ACCOUNT + 1, order_id, order_id_ex) is None
    assert ledger.orders.owner_of(ACCOUNT, 0, "") is None


def test_ids_of_two_different_orders_are_nobodys() -> None:
    ledger = open_ledger()
    mine, theirs = reservation(), reservation(key_id="other")
    ledger.reserve(mine)
    ledger.reserve(theirs)
    ledger.accepted(mine.decision_id, 7, "EX7")
    ledger.accepted(theirs.decision_id, 8, "EX8")
    assert ledger.orders.owner_of(ACCOUNT, 7, "EX8") == NOBODY


def test_the_number_of_an_order_written_as_its_text_id_finds_it_too() -> None:
    ledger = open_ledger()
    mine, theirs = reservation(), reservation(key_id="other")
    for made, ids in ((mine, (7, "EX7")), (theirs, (8, "7"))):
        ledger.reserve(made)
        assert ledger.orders.owner_of(ACCOUNT, 0, str(ids[0])) is None
        ledger.accepted(made.decision_id, *ids)
    assert ledger.orders.owner_of(ACCOUNT, 0, "8") == OrderOwner("other")
    assert ledger.orders.owner_of(ACCOUNT, 0, "7") == NOBODY
    for absurd in ("9", str(2**64), "9" * 5_000):
        assert ledger.orders.owner_of(ACCOUNT, 0, absurd) is None


def test_ids_told_one_after_the_other_are_joined() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    ledger.accepted(made.decision_id, 0, "EX7")
    ledger.accepted(made.decision_id, 7, "")
    assert ledger.orders.owner_of(ACCOUNT, 7, "EX7") == OrderOwner("bot")


def test_a_reply_corrects_a_guess_made_from_a_push() -> None:
    ledger = open_ledger()
    first, second = reservation(), reservation(key_id="other")
    ledger.reserve(first)
    ledger.reserve(second)
    ledger.accepted(first.decision_id, 7, "EX7")
    ledger.accepted(first.decision_id, 8, "EX8")
    ledger.accepted(second.decision_id, 7, "EX7")
    assert ledger.orders.owner_of(ACCOUNT, 7, "EX7") == OrderOwner("other")
    assert ledger.orders.owner_of(ACCOUNT, 8, "EX8") == OrderOwner("bot")


def test_a_tag_names_its_owner_and_another_remark_does_not() -> None:
    ledger = open_ledger()
    tagged, own = reservation(), reservation(remark="my remark")
    ledger.reserve(tagged)
    ledger.reserve(own)
    assert ledger.orders.owner_by_remark(tagged.remark) == OrderOwner("bot")
    assert ledger.orders.owner_by_remark("my remark") is None
    assert ledger.orders.owner_by_remark(f"#{own.decision_id}") is None
    assert ledger.orders.owner_by_remark("#") is None
    assert ledger.orders.owner_by_remark("") is None


def test_a_modify_raises_the_approved_total_and_owns_nothing() -> None:
    ledger = open_ledger()
    placed = reservation(value=Decimal(1000))
    ledger.reserve(placed)
    ledger.accepted(placed.decision_id, 7, "EX7")
    raised = reservation(kind="modify", value=Decimal(500), order_id_ex="EX7", key_id="other")
    ledger.reserve(raised)
    assert _highest(ledger, 7, "") == (Decimal(1000), "HKD"), "OpenD may yet refuse it"
    assert ledger.orders.owner_of(ACCOUNT, 7, "") == OrderOwner("bot")
    ledger.accepted(raised.decision_id, 0, "EX7")
    assert _highest(ledger, 7, "") == (Decimal(1500), "HKD")
    refused = reservation(kind="modify", value=Decimal(300), order_id_ex="EX7")
    ledger.reserve(refused)
    ledger.refused_by_opend(refused.decision_id)
    assert _highest(ledger, 0, "EX7") == (Decimal(1500), "HKD")
    assert ledger.orders.approved(ACCOUNT, 0, "EX8") is None


def _highest(ledger: Ledger, order_id: int, order_id_ex: str) -> tuple[Decimal | None, str | None]:
    approved = ledger.orders.approved(ACCOUNT, order_id, order_id_ex)
    assert approved is not None
    return approved.value, approved.currency


def test_an_order_is_open_by_each_of_its_names_until_it_has_ended() -> None:
    ledger = open_ledger()
    made = reservation()
    ledger.reserve(made)
    ledger.forwarded(made.decision_id)
    ledger.accepted(made.decision_id, 7, "EX7")
    names = ((7, ""), (0, "EX7"), (0, "7"), (7, "EX7"))
    assert {ledger.orders.open_under(ACCOUNT, *each) for each in names} == {made.decision_id}
    assert ledger.orders.open_under(ACCOUNT + 1, 7, "EX7") == ""
    assert ledger.orders.open_under(ACCOUNT, 0, "8") == ""
    ledger.order_ended(ACCOUNT, 7, "EX7")
    assert {ledger.orders.open_under(ACCOUNT, *each) for each in names} == {""}
