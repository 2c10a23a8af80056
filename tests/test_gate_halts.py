"""Halts as the gate meets them, told as transcripts: before the facts, in the decision, and at the last look."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sidecar.asked import Asked, Forward, Refused
from sidecar.policy.decision import Code, Decision
from sidecar.policy.trading import ACTIVE, Standing, TradingState
from tests.test_gate import BOT, World

HALTED = Standing(TradingState.HALTED, None, datetime(2026, 1, 5, 10, 41, tzinfo=UTC), "fat finger", "key `ops`")


async def test_an_order_while_trading_is_halted_asks_and_writes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    world.standing = HALTED
    refused = world.place(side=2)
    assert isinstance(refused, Refused) and refused.code is Code.TRADING_HALTED
    assert world.transcript == ["noted reject trading_halted"]
    assert "trading is halted since 2026-01-05 10:41 UTC: fat finger; only the owner can resume it" in refused.text
    assert "ops" not in refused.text, "who halted it is the owner's to know"


async def test_a_halt_while_an_order_waits_for_a_fact_stops_it(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    asked = world.place()
    world.standing = HALTED
    await world.decide(asked)
    assert world.transcript == ["asked instrument of HK.00700", "noted reject trading_halted", "refused"]
    assert world.orders_used == 0


async def test_a_halt_while_an_order_is_being_written_stops_it_and_gives_the_reservation_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.during_commit = lambda: setattr(world, "standing", HALTED)
    verdict = await world.decide(world.place())
    assert verdict.code is Code.TRADING_HALTED
    assert world.transcript == ["written", "noted reject trading_halted", "refused"]
    assert world.orders_used == 0
    allowed, refused = world.records
    assert (allowed.outcome, refused.outcome) == ("allow", "reject")
    assert allowed.decision_id == refused.decision_id


async def test_a_halt_of_the_key_at_the_last_look_counts_as_well_and_one_that_ended_does_not(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.during_commit = lambda: setattr(world, "standing", Standing(TradingState.HALTED, "bot", None, "loop"))
    verdict = await world.decide(world.place())
    assert "trading under this key is halted: loop" in verdict.text
    world.during_commit = None
    world.standing = ACTIVE
    assert isinstance(await world.decide(world.place()), Forward)


async def test_a_cancel_while_trading_is_halted_is_forwarded_and_waits_for_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.standing = HALTED
    asked = world.cancel()
    assert isinstance(asked, Asked) and not world.gate.waits(asked)
    assert isinstance(world.gate.decide_now(asked), Forward)
    assert world.transcript == ["noted allow"]


async def test_a_dry_run_tells_of_the_halt_among_its_checks(tmp_path: Path) -> None:
    world = World(tmp_path)
    asked = world.place()
    assert isinstance(asked, Asked)
    for standing, code in ((ACTIVE, None), (HALTED, Code.TRADING_HALTED)):
        world.standing = standing
        decision = await world.gate.rehearse(asked)
        assert isinstance(decision, Decision)
        found = next(finding for finding in decision.findings if finding.rule == "trading state")
        assert (None if found.refusal is None else found.refusal.code) is code


async def test_the_state_is_asked_for_the_key_that_asks_and_no_other(tmp_path: Path) -> None:
    world = World(tmp_path)
    asked_for = []
    world.gate.trading = lambda key_id: asked_for.append(key_id) or ACTIVE  # type: ignore[func-returns-value]
    await world.decide(world.place())
    assert set(asked_for) == {BOT["id"]}
