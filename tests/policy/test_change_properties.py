"""What holds for changes of an order, however they are worded and in whatever order OpenD carries them out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.intents.model import (
    AccountRef,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceOrder,
    RestingOrder,
    Security,
    Side,
    Trail,
    TrdEnv,
)
from sidecar.policy.change import added_by, would_become
from sidecar.policy.decide import decide, explain
from sidecar.policy.key import Key, Scope
from sidecar.policy.trading import ACTIVE
from sidecar.policy.usage import Account, Facts, Instrument, InstrumentKind, Position, Usage
from sidecar.reserving import reservation_of
from tests.ledger.ledger_making import Clock, MemoryStore, open_ledger

HERE = AccountRef(1001, TrdEnv.SIMULATE)
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)
NOW = datetime(2026, 11, 20, 3, tzinfo=UTC)
KNOWN = Facts(
    account=Account(1001, TrdEnv.SIMULATE, frozenset({1})),
    instrument=Instrument(InstrumentKind.STOCK, Decimal(1), "HKD"),
    quote=Decimal(480),
    trading=ACTIVE,
    position=Position(Decimal(1000), Decimal(0)),
)
CAPPED = Key(
    "bot", frozenset({Scope.TRADE_SIMULATE}), max_order_value=Decimal(100_000), max_daily_value=Decimal(200_000)
)
STEADY = Key("bot", frozenset({Scope.TRADE_SIMULATE}), max_order_qty=Decimal(300), price_collar_pct=Decimal(20))
CAREFUL = Key("bot", frozenset({Scope.TRADE_SIMULATE}), allow_short=False)

quantities = st.integers(1, 400).map(Decimal)
prices = st.integers(1, 1200).map(Decimal)
trails = st.builds(Trail, prices, st.booleans(), st.just(Decimal(0)) | prices)
resting_orders = st.builds(
    PlaceOrder,
    account=st.just(HERE),
    security=st.just(TENCENT),
    side=st.sampled_from(Side),
    order_type=st.sampled_from(
        [OrderType.NORMAL, OrderType.MARKET, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP_LIMIT]
    ),
    qty=quantities,
    price=prices,
    aux_price=prices,
    trail=trails,
)


def change(**fields: object) -> ModifyOrder:
    return ModifyOrder(HERE, ModifyOp.NORMAL, OrderRef(0, "A1"), **fields)  # type: ignore[arg-type]


@settings(max_examples=200)
@given(
    resting_orders, st.sampled_from([CAPPED, STEADY, CAREFUL]),
    st.none() | quantities, st.none() | prices, st.none() | prices, st.none() | trails,
)  # fmt: skip
def test_saying_what_stays_as_it_is_changes_nothing(
    order: PlaceOrder, key: Key, qty: Decimal | None, price: Decimal | None, aux: Decimal | None, trail: Trail | None
) -> None:
    facts = replace(KNOWN, resting=RestingOrder(order, 1, "A1"))
    brief = change(qty=qty, price=price, aux_price=aux, trail=trail)
    whole = would_become(brief, RestingOrder(order, 1, "A1"))
    assert isinstance(whole, PlaceOrder)
    full = change(qty=whole.qty, price=whole.price, aux_price=whole.aux_price, trail=whole.trail)
    assert explain(key, brief, facts, Usage(), NOW) == explain(key, full, facts, Usage(), NOW)


@given(resting_orders, quantities, st.none() | quantities)
def test_what_a_change_adds_is_never_less_than_by_what_the_order_grows(
    order: PlaceOrder, qty: Decimal, least: Decimal | None
) -> None:
    resting = RestingOrder(order, 1, "A1")
    adds = added_by(change(qty=qty), resting, least)
    assert adds >= max(Decimal(0), qty - order.qty)
    assert adds == max(Decimal(0), qty - min(order.qty, order.qty if least is None else least))
    assert added_by(replace(change(), op=ModifyOp.ENABLE), resting, least) == order.qty
    for op in (ModifyOp.DISABLE, ModifyOp.DELETE):
        assert added_by(replace(change(qty=qty), op=op), resting, least) == 0


@dataclass
class Market:
    """OpenD with one order, which carries out changes when it will, and lists the order as it was at any time before."""

    order: PlaceOrder
    waiting: list[tuple[str, PlaceOrder]] = field(default_factory=list)
    past: list[PlaceOrder] = field(default_factory=list)

    def carry_out(self, number: int) -> str:
        decision_id, self.order = self.waiting.pop(number % len(self.waiting))
        self.past.append(self.order)
        return decision_id


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, 3), st.none() | quantities, st.none() | prices),
        st.tuples(st.just("carry out"), st.integers(0, 9), st.none(), st.none()),
        st.tuples(st.just("refuse"), st.integers(0, 9), st.none(), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_no_interleaving_of_changes_makes_an_order_larger_than_the_key_allows_or_the_day_forgets_it(
    steps: list[tuple[str, int, Decimal | None, Decimal | None]],
) -> None:
    """Changes are judged against a list that may be old, carried out in any order, refused, and never answered."""
    start = PlaceOrder(HERE, TENCENT, Side.BUY, OrderType.NORMAL, Decimal(100), Decimal(500))
    market, clock = Market(start, past=[start]), Clock()
    ledger = open_ledger(MemoryStore(), clock)
    placed = decide(CAPPED, start, KNOWN, Usage(), NOW)
    ledger.reserve(reservation_of("P", "bot", clock.now, start, KNOWN, placed, "#P"))
    ledger.accepted("P", 1, "A1")
    highest = Decimal(50_000)
    for number, (what, which, qty, price) in enumerate(steps):
        clock.pass_(1.0)
        if what == "change":
            listed = RestingOrder(market.past[-1 - which % len(market.past)], 1, "A1")
            facts = replace(KNOWN, resting=listed, approved=ledger.orders.approved(1001, 1, "A1"))
            asked = change(qty=qty, price=price)
            decision = decide(CAPPED, asked, facts, ledger.usage("bot", clock.now), NOW)
            if decision.refusal is None:
                becomes = would_become(asked, listed)
                assert isinstance(becomes, PlaceOrder)
                made = reservation_of(f"D{number:03}", "bot", clock.now, asked, facts, decision, "")
                ledger.reserve(made)
                market.waiting.append((made.decision_id, becomes))
        elif market.waiting and what == "carry out":
            ledger.accepted(market.carry_out(which), 0, "A1")
        elif market.waiting:
            ledger.refused_by_opend(market.waiting.pop(which % len(market.waiting))[0])
        assert market.order.price is not None
        highest = max(highest, market.order.qty * market.order.price)
        assert highest <= 100_000
        used = ledger.usage("bot", clock.now).daily_value["HKD"]
        assert highest <= used <= 200_000


GROWING = st.lists(
    st.tuples(
        st.sampled_from(
            ["change", "change", "carry out", "carry out", "reply", "refuse", "list orders", "list holdings"]
        ),
        st.integers(0, 9),
        st.sampled_from([Decimal(qty) for qty in (10, 100, 400, 490)]),
    ),
    max_size=12,
)


SMALL, ALL, TOO_MUCH = Decimal(10), Decimal(400), Decimal(490)
DONE_UNANSWERED = [("change", 0, SMALL), ("carry out", 0, SMALL), ("list holdings", 0, SMALL), ("change", 0, TOO_MUCH)]
"""The list of orders still says 100, and OpenD has not said that it did the first."""
DONE_ANSWERED = [*DONE_UNANSWERED[:2], ("reply", 0, SMALL), *DONE_UNANSWERED[2:]]
SOME = Decimal(100)
OVERTAKEN = [
    *DONE_ANSWERED[:3], ("list holdings", 0, SMALL), ("change", 0, SOME), ("change", 0, ALL), ("refuse", 0, SMALL),
    ("carry out", 0, SMALL), ("list orders", 0, SMALL), ("change", 0, TOO_MUCH),
]  # fmt: skip
"""A change to 100 that is refused in the end is no start for one to 400."""


@settings(max_examples=400, deadline=None)
@given(GROWING)
@example([*DONE_UNANSWERED, ("carry out", 0, SMALL)])
@example([*DONE_ANSWERED, ("carry out", 0, SMALL)])
@example([*OVERTAKEN, ("carry out", 0, SMALL)])
def test_no_interleaving_of_changes_sells_more_than_is_held(steps: list[tuple[str, int, Decimal]]) -> None:
    """Of 400 held. What OpenD lists may be older than what it has done, and what it has done older than its answer."""
    start = PlaceOrder(HERE, TENCENT, Side.SELL, OrderType.NORMAL, Decimal(100), Decimal(500))
    held, market, clock = Decimal(400), Market(start), Clock()
    unanswered: list[str] = []
    ledger = open_ledger(MemoryStore(), clock)
    ledger.reserve(
        reservation_of("P", "bot", clock.now, start, KNOWN, decide(CAREFUL, start, KNOWN, Usage(), NOW), "#P")
    )
    ledger.accepted("P", 1, "A1")
    listed, sellable, sequence = start, held - start.qty, ledger.sequence
    for number, (what, which, qty) in enumerate(steps):
        clock.pass_(1.0)
        if what == "change":
            facts = replace(
                KNOWN, resting=RestingOrder(listed, 1, "A1"), approved=ledger.orders.approved(1001, 1, "A1")
            )
            reserved = ledger.exposure.selling_since(1001, "HK.00700", sequence)
            facts = replace(facts, position=Position(sellable, reserved, sequence))
            asked = change(qty=qty)
            decision = decide(CAREFUL, asked, facts, ledger.usage("bot", clock.now), NOW)
            if decision.refusal is None:
                made = reservation_of(f"D{number:03}", "bot", clock.now, asked, facts, decision, "")
                ledger.reserve(made)
                market.waiting.append((made.decision_id, replace(start, qty=qty)))
        elif what == "carry out" and market.waiting:
            unanswered.append(market.carry_out(which))
        elif what == "reply" and unanswered:
            ledger.accepted(unanswered.pop(which % len(unanswered)), 0, "A1")
        elif what == "refuse" and market.waiting:
            ledger.refused_by_opend(market.waiting.pop(which % len(market.waiting))[0])
        elif what == "list orders":
            listed = market.order
        elif what == "list holdings":
            sellable, sequence = held - market.order.qty, ledger.sequence
        assert market.order.qty <= held
