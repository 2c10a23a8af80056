"""Whatever happens in whatever order, no key buys or sells a position beyond its limit; and what a larger order, a higher price
or a larger holding changes.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from broker import ACCOUNT, HELD, SECURITY, Broker
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from sidecar.intents.model import AccountRef, OrderType, PlaceOrder, Side
from sidecar.policy.decide import decide
from sidecar.policy.decision import Code, Refusal
from sidecar.policy.key import Key, Scope
from sidecar.policy.trading import ACTIVE
from sidecar.policy.usage import Facts, Instrument, InstrumentKind, Position, Usage

PRICE = 100
UNITS = 25
"""The limit, in units at that price."""
KEYS = [
    Key(name, frozenset({Scope.TRADE_SIMULATE}), max_position_value=Decimal(UNITS * PRICE)) for name in ("one", "two")
]
SHARE = Instrument(InstrumentKind.STOCK, Decimal(1), "HKD")
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def order_of(side: Side, qty: Decimal, price: Decimal = Decimal(PRICE)) -> PlaceOrder:
    ref = AccountRef(ACCOUNT.acc_id, ACCOUNT.env)
    return PlaceOrder(ref, SECURITY, side, OrderType.NORMAL, qty, price)


def facts_of(position: Position, quote: Decimal = Decimal(PRICE)) -> Facts:
    return Facts(account=ACCOUNT, instrument=SHARE, quote=quote, position=position, trading=ACTIVE)


class Trading(Broker):
    @rule(
        data=st.data(),
        key=st.sampled_from(KEYS),
        side=st.sampled_from([Side.BUY, Side.SELL]),
        qty=st.sampled_from([15, 10, 5, 1, 35]),
        fate=st.sampled_from(["arrives and is told", "arrives", "on its way", "never sent"]),
        anew=st.booleans(),
    )
    def an_order_is_decided(self, data: st.DataObject, key: Key, side: Side, qty: int, fate: str, anew: bool) -> None:
        if anew or not self.answered():
            self.it_asks_for_the_holdings(data, at_once=True)
        asked = data.draw(st.sampled_from(self.answered())) if not anew else self.questions[-1]
        assert asked.told is not None
        flight = self.ledger.exposure.in_flight(ACCOUNT.acc_id, SECURITY.symbol, asked.sequence)
        assert flight is not None
        known = replace(asked.told, open_buys=flight[0], open_sells=flight[1])
        usage = self.ledger.usage(key.id, self.clock.now)
        decision = decide(key, order_of(side, Decimal(qty)), facts_of(known), usage, NOW)
        if decision.refusal is not None:
            assert decision.refusal.code is Code.POSITION_VALUE
            return
        self.sends(key.id, side, qty, fate)

    @invariant()
    def no_position_comes_to_more_than_the_limit(self) -> None:
        """Were every order that goes one way to arrive and to fill now, and none that goes the other."""
        net = HELD + sum(-order.filled if order.sells else order.filled for order in self.orders)
        bought = sum(order.working + order.on_its_way for order in self.orders if not order.sells)
        sold = sum(order.working + order.on_its_way for order in self.orders if order.sells)
        assert net + bought <= UNITS
        assert net - sold >= -UNITS


TestPositionLimit = Trading.TestCase
TestPositionLimit.settings = settings(max_examples=300, stateful_step_count=25, deadline=None)


units = st.decimals(0, 1000, places=2)
sizes = st.decimals("0.01", 1000, places=2)
positions = st.builds(
    lambda net, buys, sells: Position(max(net, Decimal(0)), Decimal(0), net=net, open_buys=buys, open_sells=sells),
    st.decimals(-1000, 1000, places=2),
    units,
    units,
)
limits = st.decimals(1, 200_000, places=2)


def refusal(limit: Decimal, side: Side, qty: Decimal, price: Decimal, position: Position) -> Refusal | None:
    key = Key("bot", frozenset({Scope.TRADE_SIMULATE}), max_position_value=limit)
    return decide(key, order_of(side, qty, price), facts_of(position), Usage(), NOW).refusal


@settings(max_examples=200, deadline=None)
@given(limits, st.sampled_from([Side.BUY, Side.SELL]), sizes, sizes, positions, sizes)
def test_more_of_anything_never_turns_a_refusal_into_an_approval(
    limit: Decimal, side: Side, qty: Decimal, price: Decimal, position: Position, more: Decimal
) -> None:
    if refusal(limit, side, qty, price, position) is None:
        return
    assert position.net is not None and position.open_buys is not None and position.open_sells is not None
    deeper = replace(position, net=position.net + (more if side is Side.BUY else -more))
    busier = replace(position, open_buys=position.open_buys + more, open_sells=position.open_sells + more)
    assert refusal(limit, side, qty + more, price, position) is not None
    assert refusal(limit, side, qty, price + more, position) is not None
    assert refusal(limit, side, qty, price, deeper) is not None
    assert refusal(limit, side, qty, price, busier) is not None
    assert refusal(max(limit - more, Decimal("0.01")), side, qty, price, position) is not None


@settings(max_examples=200, deadline=None)
@given(limits, st.sampled_from([Side.BUY, Side.SELL]), sizes, sizes, positions)
def test_what_passes_leaves_a_position_within_the_limit_or_one_that_did_not_grow(
    limit: Decimal, side: Side, qty: Decimal, price: Decimal, position: Position
) -> None:
    if refusal(limit, side, qty, price, position) is not None:
        return
    assert position.net is not None and position.open_buys is not None and position.open_sells is not None
    if side is Side.BUY:
        after = position.net + position.open_buys + qty
        assert after <= 0 or after * price <= limit
    else:
        after = position.net - position.open_sells - qty
        assert after >= 0 or -after * max(price, Decimal(PRICE)) <= limit
