"""What the gate asks and reserves for orders without a price and for contracts, under a limit of value."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from sidecar.asked import Asked, Forward, Refused
from sidecar.gate import GateSettings
from sidecar.policy.decision import Code, Decision
from sidecar.policy.usage import Instrument, InstrumentKind, Terms
from sidecar.wire import catalog
from sidecar.wire.messages import message_class
from tests.test_gate import ACC, World, _Lookup

ASKS_BOTH = ["asked instrument of HK.00700", "asked quote of HK.00700"]


def market_order(world: World, *, qty: float = 100, rehearsal: bool = False) -> Asked | Refused:
    """A market buy in which, as the SDK has it, a price is written all the same."""
    request: Any = message_class("Trd_PlaceOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 1, 1
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, ACC, 1
    c2s.trdSide, c2s.orderType, c2s.code, c2s.qty, c2s.price, c2s.secMarket = 1, 2, "00700", qty, 0.01, 1
    row = catalog.CATALOG[catalog.PLACE_ORDER]
    return world.gate.understand(world.caller, row, lambda: request, rehearsal=rehearsal)


def reserved_today(world: World) -> dict[str, Decimal]:
    return world.ledger.usage("bot", time.time()).daily_value


async def test_a_market_order_under_a_value_cap_asks_for_type_and_price_and_reserves_its_value(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    assert isinstance(await world.decide(market_order(world)), Forward)
    assert world.transcript == [*ASKS_BOTH, "written", "forwarded"]
    assert reserved_today(world) == {"HKD": Decimal(31_500)}
    assert world.records[-1].value == Decimal(31_500)


async def test_a_market_order_without_a_value_cap_asks_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert isinstance(await world.decide(market_order(world)), Forward)
    assert world.transcript == ["written", "forwarded"]


async def test_a_market_order_counts_with_the_buffer_the_operator_set(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=30_750)
    world.gate._settings = GateSettings(terms=Terms(price_buffer_pct=Decimal("2.5")))
    assert isinstance(await world.decide(market_order(world)), Forward)
    world.gate._settings = GateSettings(terms=Terms(price_buffer_pct=Decimal("2.501")))
    verdict = await world.decide(market_order(world))
    assert verdict.code is Code.ORDER_VALUE
    assert "order value 30750.3 HKD is over the limit of 30750 HKD" in verdict.text


async def test_a_market_order_without_a_quote_is_refused_and_reserves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, max_daily_value=100_000)
    world.quote = None
    verdict = await world.decide(market_order(world))
    assert verdict.code is Code.PRICE_UNAVAILABLE
    assert world.transcript == [*ASKS_BOTH, "noted reject price_unavailable", "refused"]
    assert reserved_today(world) == {}


async def test_a_contract_is_reserved_with_everything_it_stands_for(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=1500)
    option = Instrument(InstrumentKind.OPTION, Decimal(100), "USD")
    world.look_up_by(instruments=_Lookup(world, "instrument", lambda: option))
    assert isinstance(await world.decide(world.place(qty=1, price=15.00)), Forward)
    assert reserved_today(world) == {"USD": Decimal(1500)}
    verdict = await world.decide(world.place(qty=2, price=15.00))
    assert "order value 3000 USD is over the limit of 1500 USD" in verdict.text


async def test_a_dry_run_tells_how_the_value_came_about_and_reserves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, max_daily_value=100_000)
    world.gate._settings = GateSettings(terms=Terms(price_buffer_pct=Decimal(10)))
    asked = market_order(world, rehearsal=True)
    assert isinstance(asked, Asked)
    decision = await world.gate.rehearse(asked)
    assert isinstance(decision, Decision)
    assert decision.worth is not None
    assert decision.worth.explanation == "100 × 330 (quote 300 + 10 %) × 1 = 33000 HKD"
    assert "a unit counts at 330 (quote 300 + 10 %)" in [finding.detail for finding in decision.findings]
    assert reserved_today(world) == {}
