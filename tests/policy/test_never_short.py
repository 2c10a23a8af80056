"""Whatever happens in whatever order, a key that may not sell short never sells more than is held.

A broker of a few lines plays OpenD: orders arrive some time after they were sent, work, fill in parts, are cancelled or
refused; its list of holdings is that of a moment up to `LAG` seconds before it is read, and its answers take time, get
lost, or come after a push that told the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.intents.model import AccountRef, OrderType, PlaceOrder, Security, Side, TrdEnv
from sidecar.ledger.reservation import Reservation
from sidecar.policy.decide import decide
from sidecar.policy.decision import Code
from sidecar.policy.key import Key, Scope
from sidecar.policy.trading import ACTIVE
from sidecar.policy.usage import Account, Facts, Position
from tests.ledger.ledger_making import Clock, open_ledger, reservation

LAG = 3.0
MAX_AGE = 3.0
HELD = 10
SECURITY = Security("HK", "HK.00700", 1, "00700", 1)
KEYS = [Key(name, frozenset({Scope.TRADE_SIMULATE}), allow_short=False) for name in ("one", "two")]
ACCOUNT = Account(1001, TrdEnv.SIMULATE, frozenset({1}))


@dataclass
class Order:
    made: Reservation
    arrived: bool = False
    refused: bool = False
    filled: int = 0
    cancelled: bool = False

    @property
    def qty(self) -> int:
        return int(self.made.qty)

    @property
    def working(self) -> int:
        return self.qty - self.filled if self.arrived and not self.refused and not self.cancelled else 0


@dataclass
class Asked:
    """A list of holdings on its way."""

    sequence: int
    at: float
    told: Position | None = field(default=None)


class Trading(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.ledger = open_ledger(clock=self.clock)
        self.orders: list[Order] = []
        self.history: list[tuple[float, int]] = [(self.clock.elapsed, HELD)]
        """When the broker could have said that so much can be sold."""
        self.questions: list[Asked] = []

    # -- the broker -----------------------------------------------------------------------------------------------

    def moved(self) -> None:
        free = HELD - sum(order.filled + order.working for order in self.orders)
        self.history.append((self.clock.elapsed, free))

    def could_be_read(self) -> list[int]:
        """What the list may show now: the state of any moment of the last LAG seconds."""
        edge = self.clock.elapsed - LAG
        before = [free for at, free in self.history if at <= edge]
        return [*before[-1:], *(free for at, free in self.history if at > edge)]

    def arrives(self, order: Order, refused: bool) -> None:
        order.arrived, order.refused = True, refused
        self.moved()

    def is_told(self, order: Order) -> None:
        number = self.orders.index(order) + 1
        if order.refused:
            self.ledger.refused_by_opend(order.made.decision_id)
        else:
            self.ledger.accepted(order.made.decision_id, number, f"X{number}")

    def reads(self, asked: Asked, data: st.DataObject) -> None:
        free = max(0, data.draw(st.sampled_from(self.could_be_read())))
        asked.told = Position(Decimal(free), None, asked.sequence, asked.at)

    def one(self, data: st.DataObject, orders: list[Order]) -> Order:
        return data.draw(st.sampled_from(orders))

    @precondition(lambda self: any(not order.arrived for order in self.orders))
    @rule(data=st.data(), refused=st.booleans())
    def an_order_arrives(self, data: st.DataObject, refused: bool) -> None:
        self.arrives(self.one(data, [order for order in self.orders if not order.arrived]), refused)

    @precondition(lambda self: any(order.working for order in self.orders))
    @rule(data=st.data(), part=st.integers(1, HELD))
    def an_order_fills(self, data: st.DataObject, part: int) -> None:
        order = self.one(data, [order for order in self.orders if order.working])
        order.filled += min(part, order.working)
        self.moved()

    @precondition(lambda self: any(order.working for order in self.orders))
    @rule(data=st.data())
    def an_order_is_cancelled(self, data: st.DataObject) -> None:
        self.one(data, [order for order in self.orders if order.working]).cancelled = True
        self.moved()

    # -- what the sidecar hears -----------------------------------------------------------------------------------

    @precondition(lambda self: any(order.arrived for order in self.orders))
    @rule(data=st.data())
    def it_is_told_what_became_of_an_order(self, data: st.DataObject) -> None:
        self.is_told(self.one(data, [order for order in self.orders if order.arrived]))

    @rule(data=st.data(), at_once=st.booleans())
    def it_asks_for_the_holdings(self, data: st.DataObject, at_once: bool) -> None:
        self.questions.append(Asked(self.ledger.sequence_before(LAG), self.clock.elapsed))
        if at_once:
            self.reads(self.questions[-1], data)

    @precondition(lambda self: any(asked.told is None for asked in self.questions))
    @rule(data=st.data())
    def the_broker_reads_its_list(self, data: st.DataObject) -> None:
        self.reads(data.draw(st.sampled_from([asked for asked in self.questions if asked.told is None])), data)

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 2.9, 3.0, 3.1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_(seconds)
        self.questions = [asked for asked in self.questions if self.clock.elapsed - asked.at < MAX_AGE]

    # -- decisions ------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(asked.told is not None for asked in self.questions))
    @rule(
        data=st.data(),
        key=st.sampled_from(KEYS),
        qty=st.sampled_from([1, 4, 6, HELD]),
        fate=st.sampled_from(["on its way", "arrives", "arrives and is told", "never sent"]),
    )
    def a_sale_is_decided(self, data: st.DataObject, key: Key, qty: int, fate: str) -> None:
        asked = data.draw(st.sampled_from([asked for asked in self.questions if asked.told is not None]))
        assert asked.told is not None
        reserved = self.ledger.selling_since(ACCOUNT.acc_id, SECURITY.symbol, asked.sequence)
        facts = Facts(account=ACCOUNT, position=replace(asked.told, reserved=reserved), trading=ACTIVE)
        order = PlaceOrder(
            AccountRef(1001, TrdEnv.SIMULATE), SECURITY, Side.SELL, OrderType.NORMAL, Decimal(qty), Decimal(350)
        )
        usage = self.ledger.usage(key.id, self.clock.now)
        decision = decide(key, order, facts, usage, datetime(2026, 11, 20, tzinfo=UTC))
        if decision.refusal is not None:
            assert decision.refusal.code is Code.SHORT_SALE
            return
        made = reservation(
            self.clock.now, acc_id=1001, key_id=key.id, env=TrdEnv.SIMULATE, side=Side.SELL, qty=Decimal(qty)
        )
        self.ledger.reserve(made)
        if fate == "never sent":  # it could not be written down
            self.ledger.release(made.decision_id)
            return
        self.ledger.forwarded(made.decision_id)
        self.orders.append(Order(made))
        if fate.startswith("arrives"):
            self.arrives(self.orders[-1], refused=False)
        if fate.endswith("told"):
            self.is_told(self.orders[-1])

    @invariant()
    def never_more_than_is_held_is_sold_or_may_be(self) -> None:
        """Nothing this key sent can come to more, were every order on its way to arrive and to fill now."""
        on_the_way = sum(order.qty for order in self.orders if not order.arrived)
        assert sum(order.filled + order.working for order in self.orders) + on_the_way <= HELD


TestNeverShort = Trading.TestCase
TestNeverShort.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
