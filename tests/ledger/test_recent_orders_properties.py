"""Under any interleaving of placing, outcomes, passing time and restarts, the youngest order of the same terms is known."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_making import ACCOUNT, Clock, MemoryStore, open_ledger, reservation

from sidecar.intents.model import AccountRef, OrderType, PlaceOrder, Security, Side, TrdEnv
from sidecar.ledger.recent import LONGEST

PRICES = (Decimal(1), Decimal(2), None)
TENCENT = Security("HK", "HK.00700", 1, "00700", 1)


class Placing(RuleBasedStateMachine):
    """The model remembers every order with its time, and which are in force."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.ledger = open_ledger(self.store, self.clock)
        self.placed: dict[str, tuple[Decimal | None, float]] = {}
        self.in_force: set[str] = set()
        self.unsent: set[str] = set()

    @rule(price=st.sampled_from(PRICES))
    def place(self, price: Decimal | None) -> None:
        made = reservation(self.clock.now, price=price)
        self.ledger.reserve(made)
        self.placed[made.decision_id] = (price, self.clock.now)
        self.in_force.add(made.decision_id)
        self.unsent.add(made.decision_id)

    @precondition(lambda self: self.unsent)
    @rule(data=st.data(), sent=st.booleans())
    def send_or_release(self, data: st.DataObject, sent: bool) -> None:
        decision_id = data.draw(st.sampled_from(sorted(self.unsent)))
        self.unsent.remove(decision_id)
        if sent:
            self.ledger.forwarded(decision_id)
        else:
            self.ledger.release(decision_id)
            self.in_force.remove(decision_id)
            del self.placed[decision_id]

    @precondition(lambda self: self.placed.keys() - self.unsent)
    @rule(data=st.data(), taken=st.booleans())
    def opend_answers(self, data: st.DataObject, taken: bool) -> None:
        """Late, twice and in any order: a refusal may turn out to be wrong, and is where OpenD has named the order."""
        decision_id = data.draw(st.sampled_from(sorted(self.placed.keys() - self.unsent)))
        if taken:
            self.ledger.accepted(decision_id, 0, f"EX{decision_id}")
            self.in_force.add(decision_id)
        else:
            self.ledger.refused_by_opend(decision_id)
            if not self.ledger.named(ACCOUNT, 0, f"EX{decision_id}"):
                self.in_force.discard(decision_id)

    @rule(seconds=st.sampled_from([0.5, 10.0, 3_600.0, LONGEST / 2, LONGEST]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_(seconds)

    @rule()
    def restart(self) -> None:
        self.store.commit(self.ledger.take())
        self.ledger = open_ledger(self.store, self.clock)

    @invariant()
    def the_youngest_is_known(self) -> None:
        for price in PRICES:
            order = PlaceOrder(
                AccountRef(ACCOUNT, TrdEnv.REAL), TENCENT, Side.BUY, OrderType.NORMAL, Decimal(10), price
            )
            alike = [at for each, (its, at) in self.placed.items() if its == price and each in self.in_force]
            age = self.ledger.usage("bot", self.clock.now, order).same_order_age
            expected = self.clock.now - max(alike) if alike else None
            if expected is None or expected >= LONGEST:
                assert age is None or age >= LONGEST
            else:
                assert age == pytest.approx(expected, abs=0.001)


TestPlacing = Placing.TestCase
TestPlacing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
