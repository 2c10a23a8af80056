"""Market sessions and continuous futures codes on their way through the gate: what is asked, judged and forwarded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sidecar.asked import Asked, Forward, Refused
from sidecar.gathering import IN_VAIN_MOST
from sidecar.intents.model import PlaceOrder, Security
from sidecar.policy.decision import Code
from sidecar.policy.market_state import MarketState, Session
from sidecar.wire import catalog
from sidecar.wire.messages import message_class
from tests.test_gate import ACC, World

REST = MarketState(Session.CLOSED, "REST")
CONTRACT = Security("HK", "HK.HSI2612", 1, "HSI2612", 10)


def place_future(world: World, code: str = "HSImain") -> Asked | Refused:
    request: Any = message_class("Trd_PlaceOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 1, 1
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = world.env, ACC, 10
    c2s.trdSide, c2s.orderType, c2s.code, c2s.qty, c2s.price, c2s.secMarket = 1, 1, code, 1, 23_000, 1
    return world.gate.understand(world.caller, catalog.CATALOG[catalog.PLACE_ORDER], lambda: request)


def place_combo(world: World, *codes: str) -> Asked | Refused:
    request: Any = message_class("Trd_PlaceComboOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 1, 1
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = world.env, ACC, 10
    c2s.orderType, c2s.qty, c2s.price = 1, 1, 10
    for side, code in enumerate(codes, start=1):
        leg = c2s.comboLegs.add(side=side, qtyRatio=1.0)
        leg.security.market, leg.security.code = 1, code
    return world.gate.understand(world.caller, catalog.CATALOG[catalog.PLACE_COMBO_ORDER], lambda: request)


# --- sessions ---


async def test_a_key_with_trading_hours_asks_for_the_market_and_trades_while_it_is_open(tmp_path: Path) -> None:
    world = World(tmp_path, trading_hours=True)
    assert isinstance(await world.decide(world.place()), Forward)
    assert world.transcript == ["asked market state of HK.00700", "written", "forwarded"]


async def test_in_the_lunch_break_nothing_is_written_or_used(tmp_path: Path) -> None:
    world = World(tmp_path, trading_hours=True)
    world.market_state = REST
    verdict = await world.decide(world.place())
    assert verdict.code is Code.MARKET_CLOSED
    assert world.transcript == ["asked market state of HK.00700", "noted reject market_closed", "refused"]
    assert world.orders_used == 0


async def test_an_unknown_state_refuses_and_a_key_that_keeps_asking_stops_asking(tmp_path: Path) -> None:
    world = World(tmp_path, trading_hours=True)
    world.market_state = None
    for _ in range(IN_VAIN_MOST + 3):
        assert (await world.decide(world.place())).code is Code.MARKET_CLOSED
    assert world.transcript.count("asked market state of HK.00700") == IN_VAIN_MOST


async def test_a_key_without_trading_hours_asks_nobody(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.market_state = REST
    assert isinstance(await world.decide(world.place()), Forward)
    assert world.transcript == ["written", "forwarded"]


async def test_a_cancel_asks_for_no_session(tmp_path: Path) -> None:
    world = World(tmp_path, trading_hours=True)
    world.market_state = REST
    asked = world.cancel()
    assert isinstance(asked, Asked)
    assert isinstance(world.gate.decide_now(asked), Forward)
    assert not [line for line in world.transcript if line.startswith("asked")]


# --- continuous futures ---


async def test_a_continuous_code_is_judged_written_and_forwarded_as_its_contract(tmp_path: Path) -> None:
    world = World(tmp_path, allowed_symbols=["HK.HSI2612"], max_order_value=10_000_000)
    world.contract = CONTRACT
    verdict = await world.decide(place_future(world))
    assert isinstance(verdict, Forward)
    message: Any = verdict.asked.message
    assert message.c2s.code == "HSI2612"
    assert isinstance(verdict.asked.intent, PlaceOrder)
    assert verdict.asked.intent.security == CONTRACT
    assert world.records[-1].symbol == "HK.HSI2612"
    assert world.transcript == [
        "asked contract of HK.HSImain",
        "asked instrument of HK.HSI2612",
        "written",
        "forwarded",
    ]


async def test_the_hash_of_the_request_is_that_of_what_its_client_sent(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.contract = CONTRACT
    await world.decide(place_future(world))
    await world.decide(place_future(world, "HSI2612"))
    first, second = (record.args_hash for record in world.records)
    assert first != second


async def test_whitelists_look_at_the_contract(tmp_path: Path) -> None:
    world = World(tmp_path, allowed_symbols=["HK.HSI2701", "HK.HSImain"])
    world.contract = CONTRACT
    verdict = await world.decide(place_future(world))
    assert verdict.code is Code.SYMBOL
    assert "`HK.HSI2612` is not one of this key's allowed_symbols" in verdict.text


async def test_a_code_without_a_contract_is_refused_and_not_forwarded(tmp_path: Path) -> None:
    world = World(tmp_path)
    verdict = await world.decide(place_future(world))
    assert verdict.code is Code.INSTRUMENT_UNKNOWN
    assert "which contract `HK.HSImain` stands for now could not be found out" in verdict.text
    assert world.transcript == ["asked contract of HK.HSImain", "noted reject instrument_unknown", "refused"]


async def test_a_key_that_names_one_unknown_code_after_the_other_stops_asking(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(IN_VAIN_MOST + 5):
        assert (await world.decide(place_future(world, f"X{number}main"))).code is Code.INSTRUMENT_UNKNOWN
    assert len([line for line in world.transcript if line.startswith("asked contract")]) == IN_VAIN_MOST


async def test_what_is_refused_anyway_is_not_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path, allowed_trd_sides=["SELL"])
    verdict = place_future(world)
    assert isinstance(verdict, Refused)
    assert verdict.code is Code.SIDE
    assert world.transcript == ["noted reject side"]


async def test_legs_become_contracts_too(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.contract = CONTRACT
    verdict = await world.decide(place_combo(world, "HSImain", "HSI2701"))
    assert isinstance(verdict, Forward)
    message: Any = verdict.asked.message
    assert [leg.security.code for leg in message.c2s.comboLegs] == ["HSI2612", "HSI2701"]


async def test_two_legs_that_name_one_contract_on_one_side_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.contract = CONTRACT
    request = place_combo(world, "HSImain", "HSI2612")
    assert isinstance(request, Asked)
    message: Any = request.message
    message.c2s.comboLegs[1].side = 1
    asked = world.gate.understand(world.caller, request.row, lambda: message)
    assert (await world.decide(asked)).code is Code.INSTRUMENT_UNKNOWN


async def test_a_dry_run_judges_the_contract(tmp_path: Path) -> None:
    world = World(tmp_path, allowed_symbols=["HK.HSI2612"])
    world.contract = CONTRACT
    asked = place_future(world)
    assert isinstance(asked, Asked)
    decision = await world.gate.rehearse(replace(asked, rehearsal=True))
    assert not isinstance(decision, Refused)
    assert decision.refusal is None
    world.contract = None
    asked = place_future(world)
    assert isinstance(asked, Asked)
    decision = await world.gate.rehearse(replace(asked, rehearsal=True))
    assert not isinstance(decision, Refused)
    assert decision.refusal is not None
