"""A broker of a few lines that plays OpenD for stateful tests of what is held.

Orders arrive some time after they were sent, work, fill in parts, are cancelled or refused; the list of holdings is that of
a moment up to `LAG` seconds before it is read, and answers take time, get lost, or come after a push that told the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from sidecar.intents.model import Security, Side, TrdEnv
from sidecar.ledger.reservation import Reservation
from sidecar.policy.usage import Account, Position
from tests.ledger.ledger_making import Clock, open_ledger, reservation

LAG = 3.0
MAX_AGE = 3.0
HELD = 10
SECURITY = Security("HK", "HK.00700", 1, "00700", 1)
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
    def sells(self) -> bool:
        return self.made.side is Side.SELL

    @property
    def working(self) -> int:
        return self.qty - self.filled if self.arrived and not self.refused and not self.cancelled else 0

    @property
    def on_its_way(self) -> int:
        return 0 if self.arrived else self.qty


@dataclass
class Asked:
    """A list of holdings on its way."""

    sequence: int
    at: float
    told: Position | None = field(default=None)


@dataclass(frozen=True)
class Shown:
    """What the list shows of a moment."""

    free: int
    net: int


class Broker(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.ledger = open_ledger(clock=self.clock)
        self.orders: list[Order] = []
        self.history: list[tuple[float, Shown]] = [(self.clock.elapsed, Shown(HELD, HELD))]
        """When the broker could have said so."""
        self.questions: list[Asked] = []

    # -- the broker -----------------------------------------------------------------------------------------------

    def moved(self) -> None:
        net = HELD + sum(-order.filled if order.sells else order.filled for order in self.orders)
        free = net - sum(order.working for order in self.orders if order.sells)
        self.history.append((self.clock.elapsed, Shown(free, net)))

    def could_be_read(self) -> list[Shown]:
        """What the list may show now: the state of any moment of the last LAG seconds."""
        edge = self.clock.elapsed - LAG
        before = [shown for at, shown in self.history if at <= edge]
        return [*before[-1:], *(shown for at, shown in self.history if at > edge)]

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
        shown = data.draw(st.sampled_from(self.could_be_read()))
        free = max(0, min(shown.free, shown.net))
        asked.told = Position(Decimal(free), None, asked.sequence, asked.at, Decimal(shown.net))

    def sends(self, key_id: str, side: Side, qty: int, fate: str) -> None:
        """It was decided and reserved; `fate`: `never sent`, `on its way`, `arrives`, `arrives and is told`."""
        made = reservation(
            self.clock.now, acc_id=ACCOUNT.acc_id, key_id=key_id, env=ACCOUNT.env, side=side, qty=Decimal(qty)
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

    def answered(self) -> list[Asked]:
        return [asked for asked in self.questions if asked.told is not None]

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

    @precondition(lambda self: any(order.arrived and not order.working for order in self.orders))
    @rule(data=st.data())
    def it_is_told_that_an_order_has_ended(self, data: st.DataObject) -> None:
        order = self.one(data, [order for order in self.orders if order.arrived and not order.working])
        self.is_told(order)
        if not order.refused:
            number = self.orders.index(order) + 1
            self.ledger.order_ended(ACCOUNT.acc_id, number, f"X{number}")

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
