"""Changes of orders as the gate counts them, told as transcripts: what is kept for cancels, and that cancels pass."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

from sidecar.asked import Asked, Forward, Refused
from sidecar.change_budget import ChangeBudget, ChangeLimit
from sidecar.intents.model import AccountRef, OrderRef, OrderType, PlaceOrder, RestingOrder, Security, Side, TrdEnv
from sidecar.policy.decision import Code
from sidecar.wire import catalog
from sidecar.wire.messages import message_class
from tests.test_gate import ACC, World


def budget_of(world: World, **limit: Any) -> ChangeBudget:
    """The gate's, with other numbers."""
    made = ChangeBudget(ChangeLimit(**limit))
    world.gate._changes = made
    return made


def used(budget: ChangeBudget) -> int:
    return len(budget._window(ACC))


def test_a_cancel_is_counted_when_it_is_forwarded_and_not_when_it_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    budget = budget_of(world)
    for _ in range(3):
        asked = world.cancel()
        assert isinstance(asked, Asked)
        assert isinstance(world.gate.decide_now(asked), Forward)
    assert used(budget) == 3
    world.freeze()
    assert isinstance(world.gate.decide_now(asked), Refused)
    assert used(budget) == 3


async def test_cancels_of_working_orders_pass_when_nothing_is_left_and_need_no_more_than_before(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(1, 6):
        placed = await world.decide(world.place())
        assert isinstance(placed, Forward)
        world.ledger.accepted(placed.asked.decision_id, number, f"X{number}")
    budget_of(world, most=2, kept=1)
    world.transcript.clear()
    for number in range(1, 6):
        asked = world.cancel(f"X{number}")
        assert isinstance(asked, Asked) and not world.gate.waits(asked)
        assert isinstance(world.gate.decide_now(asked), Forward)
    assert world.transcript == ["noted allow"] * 5
    for again_or_unknown in ("X1", "X99"):
        asked = world.cancel(again_or_unknown)
        assert isinstance(asked, Asked)
        refused = world.gate.decide_now(asked)
        assert isinstance(refused, Refused) and refused.code is Code.UPSTREAM_FULL
        assert "the last 1 are kept for the first cancels of orders known to be working" in refused.text


def test_while_the_sidecar_cancels_its_order_a_cancel_may_be_told_to_come_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    budget = budget_of(world, most=2, kept=1)
    asked = world.cancel()
    assert isinstance(asked, Asked)
    with budget.reserved(ACC, "another key"):
        assert isinstance(world.gate.decide_now(asked), Forward)
    for key_id, whose in ((None, "every order"), (asked.caller.key_id, "this key's orders")):
        with budget.reserved(ACC, key_id):
            refused = world.gate.decide_now(asked)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.retry_after) == (Code.UPSTREAM_FULL, 1)
        assert f"the sidecar is cancelling {whose} of this account" in refused.text


async def test_an_order_takes_nothing_of_the_changes(tmp_path: Path) -> None:
    world = World(tmp_path)
    budget = budget_of(world)
    assert isinstance(await world.decide(world.place()), Forward)
    await asyncio.sleep(0)
    assert used(budget) == 0


class _OneOrder:
    """The order list: one order of the key that rests."""

    async def get(self, account: Any, order: OrderRef) -> RestingOrder:
        placed = PlaceOrder(
            AccountRef(ACC, TrdEnv.SIMULATE), Security("HK", "HK.00700", 1, "00700", 1), Side.BUY, OrderType.NORMAL,
            Decimal(100), Decimal(300),
        )  # fmt: skip
        return RestingOrder(placed, 7, order.order_id_ex, status=5)


async def changing(tmp_path: Path, **limit: Any) -> tuple[World, ChangeBudget, str]:
    """A gate with an order of the key that rests, and its id."""
    world = World(tmp_path)
    world.look_up_by(orders=_OneOrder())
    placed = await world.decide(world.place())
    world.ledger.accepted(placed.asked.decision_id, 7, "X1")
    world.transcript.clear()
    return world, budget_of(world, **limit), "X1"


def change(world: World, order_id_ex: str) -> Asked:
    request: Any = message_class("Trd_ModifyOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 1, 2
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, ACC, 1
    c2s.orderID, c2s.modifyOrderOp, c2s.orderIDEx, c2s.qty, c2s.price = 0, 1, order_id_ex, 100, 299
    asked = world.gate.understand(world.caller, catalog.CATALOG[catalog.MODIFY_ORDER], lambda: request)
    assert isinstance(asked, Asked), asked
    return asked


async def test_changes_are_counted_when_they_are_forwarded_and_stop_where_the_part_for_cancels_begins(
    tmp_path: Path,
) -> None:
    world, budget, order = await changing(tmp_path, most=3, kept=1)
    for _ in range(2):
        assert isinstance(await world.decide(change(world, order)), Forward)
    assert used(budget) == 2
    refused = await world.decide(change(world, order))
    assert refused.code is Code.UPSTREAM_FULL and refused.retry_after is not None
    assert "the last 1 are kept for cancels" in refused.text
    assert world.transcript == ["written", "forwarded"] * 2 + ["noted reject upstream_full", "refused"]
    assert used(budget) == 2
    cancel = world.cancel(order)
    assert isinstance(cancel, Asked) and isinstance(world.gate.decide_now(cancel), Forward)


async def test_of_two_changes_that_are_written_together_only_one_fits_into_the_last_place(tmp_path: Path) -> None:
    world, budget, order = await changing(tmp_path, most=2, kept=1)
    verdicts = await asyncio.gather(*(world.decide(change(world, order)) for _ in range(2)))
    assert sorted(type(each).__name__ for each in verdicts) == ["Forward", "Refused"]
    assert used(budget) == 1


async def test_a_change_that_is_being_written_when_the_sidecar_begins_to_cancel_is_not_sent(tmp_path: Path) -> None:
    world, budget, order = await changing(tmp_path)
    run = budget.reserved(ACC, "another key")
    world.during_commit = run.__enter__
    refused = await world.decide(change(world, order))
    assert refused.code is Code.UPSTREAM_FULL
    assert world.transcript == ["written", "noted reject upstream_full", "refused"]
    assert used(budget) == 0
