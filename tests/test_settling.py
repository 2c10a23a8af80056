"""What replies, pushes and lists make of the ledger, in whatever order they come, and what is recorded of lost orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.audit.record import AuditRecord
from sidecar.intents.model import AccountRef, ComboLeg, OrderType, Security, Side, TrdEnv
from sidecar.intents.replies import OrderStatus, PlaceReply, PushSubject
from sidecar.ledger.reservation import LegUnits, Reservation, State
from sidecar.policy.usage import OrderOwner
from sidecar.settling import Settling
from tests.ledger.ledger_making import ACCOUNT, NOON, Clock, MemoryStore, open_ledger, reservation

TENCENT = Security("HK", "HK.00700", 1, "00700")
OPTION = Security("US", "US.AAPL261218C200000", 11, "AAPL261218C200000")
APPLE = Security("US", "US.AAPL", 11, "AAPL")


class Heard:
    """A ledger that is told things by name, and what is recorded of them."""

    def __init__(self, store: MemoryStore | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.store = store or MemoryStore()
        self.ledger = open_ledger(self.store, self.clock)
        self.records: list[AuditRecord] = []
        self.answers = 0
        """Late replies that were the first to say what became of an order."""
        self.settling = Settling(self.ledger, self, clock=lambda: self.clock.now)  # type: ignore[arg-type]

    def note(self, record: AuditRecord) -> None:
        self.records.append(record)

    def sent(self, **changes: Any) -> Reservation:
        """An order that was approved and went out."""
        made = reservation(self.clock.now, **changes)
        self.ledger.reserve(made)
        self.ledger.forwarded(made.decision_id)
        return made

    def lost(self, made: Reservation) -> None:
        """Its reply will not come."""
        record = AuditRecord(
            at=made.at, iface="tcp", endpoint="place_order proto_id=2202", key_id=made.key_id, outcome="allow"
        )
        self.settling.lost(made.decision_id, replace(record, decision_id=made.decision_id, essential=True))

    def replied(self, made: Reservation, order_id: int = 7, ret_type: int = 0) -> None:
        ids = (order_id, f"EX{order_id}") if ret_type == 0 else (0, "")
        if self.settling.still_to_record(made.decision_id):
            self.answers += 1
        self.settling.replied(made.decision_id, PlaceReply(ret_type, "", *ids))

    def restarted(self) -> Heard:
        self.store.commit(self.ledger.take())
        return Heard(self.store, self.clock)

    @property
    def used(self) -> Decimal:
        return self.ledger.usage("bot", self.clock.now).daily_value.get("HKD", Decimal(0))

    def buying(self) -> Decimal:
        """Units that the account's orders may still buy."""
        traded = self.ledger.exposure.in_flight(ACCOUNT, "HK.00700", self.ledger.sequence)
        assert traded is not None
        return traded[0]

    @property
    def counts(self) -> tuple[int, int]:
        """Value used today, and orders open."""
        return int(self.used), self.ledger.open_orders("bot")

    def state(self, made: Reservation) -> State:
        row = self.ledger.orders.row_of(made.decision_id)
        assert row is not None
        return row.state

    def told(self) -> list[tuple[str, str | None]]:
        return [(record.outcome, record.decision_id) for record in self.records]


def order(
    made: Reservation, order_id: int = 7, status: OrderStatus = OrderStatus.SUBMITTED, **changes: Any
) -> PushSubject:
    """What OpenD says of the order that was placed so."""
    told = PushSubject(
        AccountRef(made.acc_id, made.env),
        order_id=order_id,
        order_id_ex=f"EX{order_id}",
        remark=made.remark,
        security=TENCENT,
        side=made.side,
        order_type=made.order_type,
        qty=made.qty,
        price=made.price,
        fill_qty=Decimal(0),
        order_status=status,
        created=made.at + 0.2,
    )
    return replace(told, **changes)


# Replies


def test_an_order_that_was_taken_is_its_keys_and_open() -> None:
    heard = Heard()
    made = heard.sent()
    heard.replied(made)
    assert heard.ledger.orders.owner_of(ACCOUNT, 7, "") == OrderOwner("bot")
    assert heard.ledger.open_orders("bot") == 1
    assert heard.ledger.usage("bot", heard.clock.now).open_orders == 1


def test_an_order_that_opend_refused_is_not_open_and_gives_back_its_value() -> None:
    heard = Heard()
    heard.replied(heard.sent(), ret_type=-1)
    assert heard.counts == (0, 0)


def test_a_refusal_of_an_order_that_opend_has_named_is_not_believed() -> None:
    heard = Heard()
    made = heard.sent()
    heard.settling.pushed(order(made))
    heard.replied(made, ret_type=-1)
    assert heard.counts == (1000, 1)


@pytest.mark.parametrize("ret_type", [-100, -200, -400])
def test_an_answer_that_is_no_answer_leaves_the_order_reserved(ret_type: int) -> None:
    heard = Heard()
    made = heard.sent()
    heard.replied(made, ret_type=ret_type)
    assert heard.state(made) is State.FORWARDED
    assert heard.counts == (1000, 1)


# The end of an order

ENDS = [
    OrderStatus.SUBMIT_FAILED,
    OrderStatus.FILLED_ALL,
    OrderStatus.CANCELLED_PART,
    OrderStatus.CANCELLED_ALL,
    OrderStatus.FAILED,
    OrderStatus.DISABLED,
    OrderStatus.DELETED,
    OrderStatus.FILL_CANCELLED,
]


@pytest.mark.parametrize("status", OrderStatus, ids=[status.name for status in OrderStatus])
def test_an_order_is_open_until_opend_says_that_it_works_no_longer(status: OrderStatus) -> None:
    heard = Heard()
    made = heard.sent()
    heard.replied(made)
    heard.settling.pushed(order(made, status=status))
    assert heard.ledger.open_orders("bot") == (0 if status in ENDS else 1)
    failed = status in (OrderStatus.SUBMIT_FAILED, OrderStatus.FAILED)
    assert heard.used == (0 if failed else 1000), "only a failure gives its value back"


def test_a_failure_after_a_part_was_filled_gives_nothing_back() -> None:
    heard = Heard()
    made = heard.sent()
    heard.settling.pushed(order(made, status=OrderStatus.FAILED, fill_qty=Decimal(1)))
    assert heard.counts == (1000, 0)


def test_last_words_that_come_before_anybody_knows_whose_order_it_was_count_later() -> None:
    heard = Heard()
    first, second = heard.sent(remark="mine"), heard.sent(remark="mine")
    heard.settling.pushed(order(first, status=OrderStatus.FILLED_ALL))
    assert heard.ledger.open_orders("bot") == 2
    heard.replied(first, 7)
    heard.replied(second, 8)
    assert heard.ledger.open_orders("bot") == 1


def test_a_change_that_is_under_way_when_its_order_ends_is_settled_and_stays_used() -> None:
    heard = Heard()
    made = heard.sent()
    heard.replied(made)
    change = heard.sent(kind="modify", order_id_ex="EX7", value=Decimal(500), qty=Decimal(15), adds=Decimal(5))
    heard.settling.pushed(order(made, status=OrderStatus.FILLED_ALL))
    assert heard.state(change) is State.ACCEPTED
    assert heard.used == 1500
    assert heard.buying() == 0
    heard.replied(change, ret_type=-1)
    assert heard.used == 1000, "its own reply, when it comes, knows better"


def test_a_change_that_opend_takes_after_its_order_has_ended_adds_nothing_to_what_is_open() -> None:
    heard = Heard()
    made = heard.sent()
    heard.replied(made)
    heard.settling.pushed(order(made, status=OrderStatus.FILLED_ALL))
    change = heard.sent(kind="modify", order_id_ex="EX7", qty=Decimal(15), adds=Decimal(5))
    assert heard.buying() == 5
    heard.replied(change)
    heard.clock.pass_(10)
    assert heard.buying() == 0


def test_a_disabled_order_does_not_count_until_it_is_enabled_and_late_news_of_it_changes_nothing() -> None:
    heard = Heard()
    made = heard.sent()
    heard.replied(made)
    disabled = order(made, status=OrderStatus.DISABLED)
    heard.settling.pushed(disabled)
    assert heard.ledger.open_orders("bot") == 0
    again = heard.sent(kind="enable", order_id_ex="EX7", adds=Decimal(10))
    assert heard.ledger.open_orders("bot") == 1
    heard.settling.pushed(disabled)
    heard.replied(again)
    heard.settling.pushed(disabled)
    assert heard.ledger.open_orders("bot") == 1
    heard.settling.listed([disabled], heard.ledger.moment())
    assert heard.ledger.open_orders("bot") == 1, "a list may be older than the enabling, too"
    heard.clock.pass_(61)
    heard.settling.listed([disabled], heard.ledger.moment())
    assert heard.ledger.open_orders("bot") == 0, "but not by a minute: it was disabled again"


# Whose order


def test_an_early_push_is_known_by_its_tag_and_a_combo_by_its_legs() -> None:
    heard = Heard()
    legs = (LegUnits(OPTION.symbol, Side.SELL, Decimal(1)), LegUnits(APPLE.symbol, Side.BUY, Decimal(100)))
    made = heard.sent(symbol="combo", side=None, qty=Decimal(1), legs=legs, price=Decimal("-1.5"))
    told = order(made, security=None, side=None, price=Decimal("-1.5"))
    as_reported = (ComboLeg(APPLE, Side.BUY, Decimal(100)), ComboLeg(OPTION, Side.SELL_SHORT, Decimal(1)))
    for wrong in ((), as_reported[:1], (as_reported[0], replace(as_reported[1], side=Side.BUY))):
        heard.settling.pushed(replace(told, legs=wrong))
        assert heard.state(made) is State.FORWARDED
    heard.settling.pushed(replace(told, legs=as_reported))
    assert heard.state(made) is State.ACCEPTED
    assert heard.ledger.orders.owner_of(ACCOUNT, 7, "") == OrderOwner("bot")


def test_of_a_combo_whose_reply_has_one_id_the_push_tells_the_other() -> None:
    heard = Heard()
    made = heard.sent()
    heard.settling.replied(made.decision_id, PlaceReply(0, "", 0, "EX7"))
    assert heard.ledger.orders.owner_of(ACCOUNT, 7, "") is None
    heard.settling.pushed(order(made))
    assert heard.ledger.orders.owner_of(ACCOUNT, 7, "") == OrderOwner("bot")


def test_a_sale_that_opend_reports_as_a_short_sale_is_the_same_order() -> None:
    heard = Heard()
    made = heard.sent(side=Side.SELL)
    heard.settling.pushed(order(made, side=Side.SELL_SHORT))
    assert heard.state(made) is State.ACCEPTED


@pytest.mark.parametrize(
    "other",
    [
        {"qty": Decimal(11)},
        {"side": Side.SELL},
        {"order_type": OrderType.MARKET},
        {"security": APPLE},
        {"security": None},
        {"account": AccountRef(ACCOUNT + 1, TrdEnv.REAL)},
    ],
    ids=["quantity", "side", "type", "security", "no security", "account"],
)
def test_a_tag_on_another_order_is_not_believed(other: dict[str, Any]) -> None:
    heard = Heard()
    made = heard.sent()
    heard.settling.pushed(order(made, **other))
    assert heard.state(made) is State.FORWARDED
    assert heard.ledger.orders.owner_of(ACCOUNT, 7, "") is None


@pytest.mark.parametrize(
    "other",
    [{"price": Decimal(101)}, {"created": NOON - 61}, {"created": NOON + 601}, {"created": None}, {"remark": "theirs"}],
    ids=["price", "long before", "long after", "no time", "remark"],
)
def test_without_a_tag_price_time_and_remark_must_fit_too(other: dict[str, Any]) -> None:
    heard = Heard()
    made = heard.sent(remark="mine")
    heard.settling.pushed(order(made, **other))
    assert heard.state(made) is State.FORWARDED
    heard.settling.pushed(order(made))
    assert heard.state(made) is State.ACCEPTED


def test_two_orders_alike_are_told_apart_by_their_replies_only() -> None:
    heard = Heard()
    mine, theirs = heard.sent(remark="same"), heard.sent(remark="same", key_id="other")
    for number in (7, 8):
        heard.settling.pushed(order(mine, number))
    assert heard.ledger.orders.owner_of(ACCOUNT, 7, "") is None
    heard.replied(theirs, 7)
    heard.settling.pushed(order(mine, 8))
    assert heard.ledger.orders.owner_of(ACCOUNT, 7, "") == OrderOwner("other")
    assert heard.ledger.orders.owner_of(ACCOUNT, 8, "") == OrderOwner("bot")


def test_a_reply_that_names_another_order_takes_back_what_was_heard_of_the_first() -> None:
    heard = Heard()
    made = heard.sent(remark="mine")
    heard.settling.pushed(order(made, 7, OrderStatus.FAILED))
    assert heard.counts == (0, 0)
    heard.replied(made, 8)
    assert heard.counts == (1000, 1)
    assert heard.ledger.orders.owner_of(ACCOUNT, 7, "") is None


# Lists


def test_an_order_whose_reply_was_lost_is_found_by_its_tag_and_recorded_once() -> None:
    heard = Heard()
    made = heard.sent()
    heard.lost(made)
    for _ in range(2):
        assert heard.settling.listed([order(made)], heard.ledger.moment()) == []
    assert heard.told() == [("success", made.decision_id)]
    assert heard.records[0].order_id_ex == "EX7"
    assert heard.records[0].message == "its reply was lost, the order was found at OpenD: SUBMITTED"
    assert heard.counts == (1000, 1)
    assert not heard.settling.still_to_record(made.decision_id)


def test_an_order_of_an_earlier_process_is_found_and_recorded_too() -> None:
    before = Heard()
    made = before.sent()
    heard = before.restarted()
    heard.settling.listed([order(made, status=OrderStatus.FAILED)], heard.ledger.moment())
    assert heard.told() == [("failure", made.decision_id)]
    assert (heard.records[0].iface, heard.records[0].symbol, heard.records[0].essential) == (
        "sidecar",
        "HK.00700",
        True,
    )
    assert heard.counts == (0, 0)


def test_a_push_that_came_before_its_reply_was_lost_is_recorded_when_it_is() -> None:
    heard = Heard()
    made = heard.sent()
    heard.settling.pushed(order(made))
    assert heard.records == []
    heard.lost(made)
    assert heard.told() == [("success", made.decision_id)]


def test_a_lost_reply_is_reported_so_that_the_order_is_looked_for() -> None:
    heard = Heard()
    woken: list[bool] = []
    heard.settling.on_lost = lambda: woken.append(True)
    heard.lost(heard.sent())
    assert woken == [True]


@pytest.mark.parametrize(("reserved", "listed"), [(1, 2), (2, 1), (3, 2)])
def test_orders_alike_are_not_guessed_at_while_their_numbers_differ(reserved: int, listed: int) -> None:
    heard = Heard()
    made = [heard.sent(remark="mine") for _ in range(reserved)]
    _list(heard, [order(made[0], 7 + number) for number in range(listed)])
    assert all(heard.state(each) is State.FORWARDED for each in made)


def test_as_many_orders_alike_as_reservations_of_one_key_are_settled() -> None:
    heard = Heard()
    made = [heard.sent(remark="mine") for _ in range(2)]
    for each in made:
        heard.lost(each)
    _list(heard, [order(made[0], 8, OrderStatus.FILLED_ALL, created=NOON + 2), order(made[0], 7, created=NOON + 1)])
    assert [heard.state(each) for each in made] == [State.ACCEPTED] * 2
    assert heard.ledger.orders.decision_of(ACCOUNT, 7, "") == made[0].decision_id, "the older is the older one's"
    assert heard.ledger.open_orders("bot") == 1
    assert heard.told() == [("success", each.decision_id) for each in made]


def test_orders_alike_of_two_keys_stay_nobodys() -> None:
    heard = Heard()
    mine, theirs = heard.sent(remark="same"), heard.sent(remark="same", key_id="other")
    _list(heard, [order(mine, 7), order(mine, 8)])
    assert heard.state(mine) is heard.state(theirs) is State.FORWARDED
    assert heard.ledger.orders.owner_of(ACCOUNT, 7, "") is heard.ledger.orders.owner_of(ACCOUNT, 8, "") is None


def test_a_change_whose_reply_was_lost_is_settled_once_the_order_shows_it() -> None:
    heard = Heard()
    made = heard.sent()
    heard.replied(made)
    change = heard.sent(kind="modify", order_id_ex="EX7", qty=Decimal(15), price=Decimal(100), adds=Decimal(5))
    heard.settling.pushed(order(made, qty=Decimal(15)))
    assert heard.state(change) is State.FORWARDED, "its reply is still to come"
    heard.lost(change)
    heard.settling.pushed(order(made))
    assert heard.state(change) is State.FORWARDED
    heard.settling.pushed(order(made, qty=Decimal(15)))
    assert heard.state(change) is State.ACCEPTED
    assert heard.told() == [("success", change.decision_id)]


def test_an_order_that_is_listed_no_longer_has_ended_but_never_one_that_may_only_be_late() -> None:
    heard = Heard()
    ended, unnamed, young = heard.sent(), heard.sent(), None
    heard.replied(ended)
    heard.clock.pass_(61)
    young = heard.sent()
    heard.replied(young, 8)
    assert heard.ledger.doubts.unlisted(ACCOUNT, {9, "EX9"}, heard.ledger.moment()) == [(7, "EX7")]
    heard.settling.gone(ACCOUNT, 7, "EX7")
    assert heard.ledger.open_orders("bot") == 2
    assert heard.used == 3000, "absence gives nothing back"
    assert heard.state(unnamed) is State.FORWARDED


def test_an_order_under_either_of_its_ids_in_the_list_is_not_missing() -> None:
    heard = Heard()
    heard.replied(heard.sent())
    heard.clock.pass_(61)
    for listed in ({7}, {"EX7"}):
        assert heard.ledger.doubts.unlisted(ACCOUNT, listed, heard.ledger.moment()) == []


def test_a_list_that_was_asked_for_before_the_order_says_nothing_by_its_absence() -> None:
    heard = Heard()
    asked = heard.ledger.moment()
    heard.replied(heard.sent())
    heard.clock.pass_(3600)
    assert heard.ledger.doubts.unlisted(ACCOUNT, set(), asked) == []


def _list(heard: Heard, orders: list[PushSubject]) -> None:
    at = heard.ledger.moment()
    heard.settling.paired(heard.settling.listed(orders, at), at)


# In any order

Word = Callable[[Heard, Reservation], None]


def _reply(heard: Heard, made: Reservation) -> None:
    heard.replied(made)


def _push(status: OrderStatus) -> Word:
    return lambda heard, made: heard.settling.pushed(order(made, status=status))


def _listed(status: OrderStatus) -> Word:
    return lambda heard, made: _list(heard, [order(made, status=status)])


LIVES: dict[str, list[Word]] = {
    "filled": [
        _reply,
        _push(OrderStatus.SUBMITTING),
        _push(OrderStatus.SUBMITTED),
        _push(OrderStatus.FILLED_ALL),
        _listed(OrderStatus.FILLED_ALL),
    ],
    "failed": [_reply, _push(OrderStatus.SUBMITTING), _push(OrderStatus.FAILED), _listed(OrderStatus.FAILED)],
    "refused, and named as failed": [
        lambda heard, made: heard.replied(made, ret_type=-1),
        _push(OrderStatus.SUBMIT_FAILED),
        _listed(OrderStatus.SUBMIT_FAILED),
    ],
    "refused, and there all the same": [
        lambda heard, made: heard.replied(made, ret_type=-1),
        _push(OrderStatus.SUBMITTED),
        _listed(OrderStatus.FILLED_PART),
    ],
    "timed out": [lambda heard, made: heard.replied(made, ret_type=-100), _push(OrderStatus.SUBMITTED)],
}


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("remark", [None, "mine"], ids=["tagged", "own remark"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_words_late_twice_and_in_any_order_leave_the_same_ledger(life: str, remark: str | None, data: Any) -> None:
    words = LIVES[life]
    if remark is not None and life.startswith("refused"):
        return  # without a tag what was refused is not looked for: what carries the same remark may be anything
    repeated = words + data.draw(st.lists(st.sampled_from(words), max_size=4))
    seen = [_after(said, remark) for said in (words, data.draw(st.permutations(repeated)))]
    assert seen[0] == seen[1]


def test_every_order_of_the_words_about_one_order_leaves_the_same_ledger() -> None:
    for words in LIVES.values():
        assert len({_after(said, None) for said in permutations(words)}) == 1


def _after(said: Any, remark: str | None) -> tuple[Any, ...]:
    """What the ledger and the record are after these words, and after a restart."""
    heard = Heard()
    made = heard.sent(**({} if remark is None else {"remark": remark}))
    heard.lost(made)
    for word in said:
        word(heard, made)
    found = []
    for each in (heard, heard.restarted()):
        row = each.ledger.orders.row_of(made.decision_id)
        assert row is not None
        found.append((
            row.state, row.order_id, row.order_id_ex, row.ended is not None, each.used,
            each.ledger.open_orders("bot"), each.ledger.orders.owner_of(ACCOUNT, 7, "EX7"),
        ))  # fmt: skip
    told = len(heard.records) + heard.answers
    assert [outcome for outcome, _ in heard.told()].count("failure") <= 1
    # an order that was taken and then failed has a record of each, one that was found failed has one
    return (*found, told > 0 if found[0][0] is State.FAILED else told)


def test_an_order_that_opend_took_and_that_failed_later_is_recorded_once_more_and_once_only() -> None:
    heard = Heard()
    made = heard.sent()
    heard.replied(made)
    for _ in range(2):
        heard.settling.pushed(order(made, status=OrderStatus.FAILED))
    assert heard.told() == [("failure", made.decision_id)]
    assert heard.records[0].message == "the order failed at OpenD: FAILED"
