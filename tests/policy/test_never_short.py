"""Whatever happens in whatever order, a key that may not sell short never sells more than is held."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from broker import ACCOUNT, HELD, SECURITY, Broker
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from sidecar.intents.model import AccountRef, OrderType, PlaceOrder, Side
from sidecar.policy.decide import decide
from sidecar.policy.decision import Code
from sidecar.policy.key import Key, Scope
from sidecar.policy.trading import ACTIVE
from sidecar.policy.usage import Facts

KEYS = [Key(name, frozenset({Scope.TRADE_SIMULATE}), allow_short=False) for name in ("one", "two")]


class Trading(Broker):
    @precondition(lambda self: self.answered())
    @rule(
        data=st.data(),
        key=st.sampled_from(KEYS),
        qty=st.sampled_from([1, 4, 6, HELD]),
        fate=st.sampled_from(["on its way", "arrives", "arrives and is told", "never sent"]),
    )
    def a_sale_is_decided(self, data: st.DataObject, key: Key, qty: int, fate: str) -> None:
        asked = data.draw(st.sampled_from(self.answered()))
        assert asked.told is not None
        reserved = self.ledger.exposure.selling_since(ACCOUNT.acc_id, SECURITY.symbol, asked.sequence)
        facts = Facts(account=ACCOUNT, position=replace(asked.told, reserved=reserved), trading=ACTIVE)
        order = PlaceOrder(
            AccountRef(ACCOUNT.acc_id, ACCOUNT.env), SECURITY, Side.SELL, OrderType.NORMAL, Decimal(qty), Decimal(350)
        )
        usage = self.ledger.usage(key.id, self.clock.now)
        decision = decide(key, order, facts, usage, datetime(2026, 11, 20, tzinfo=UTC))
        if decision.refusal is not None:
            assert decision.refusal.code is Code.SHORT_SALE
            return
        self.sends(key.id, Side.SELL, qty, fate)

    @invariant()
    def never_more_than_is_held_is_sold_or_may_be(self) -> None:
        """Nothing this key sent can come to more, were every order on its way to arrive and to fill now."""
        assert sum(order.filled + order.working + order.on_its_way for order in self.orders) <= HELD


TestNeverShort = Trading.TestCase
TestNeverShort.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
