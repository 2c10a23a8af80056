"""The limit on open orders at the gate: counted in the step that decides, given back when an order never works."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sidecar.asked import Forward
from sidecar.errors import RecordError
from sidecar.policy.decision import Code
from tests.test_gate import ACC, World


async def test_of_orders_decided_at_once_no_more_pass_than_may_be_open(tmp_path: Path) -> None:
    world = World(tmp_path, max_open_orders=2)
    verdicts = await asyncio.gather(*(world.decide(world.place(price=300 + n)) for n in range(5)))
    assert sum(isinstance(one, Forward) for one in verdicts) == 2
    assert {one.code for one in verdicts if not isinstance(one, Forward)} == {Code.OPEN_ORDERS}
    assert world.transcript.count("written") == 2, "what is refused is not written"


async def test_an_order_that_is_refused_has_no_time_after_which_it_would_pass(tmp_path: Path) -> None:
    world = World(tmp_path, max_open_orders=1)
    await world.decide(world.place())
    refused = await world.decide(world.place(price=301))
    assert "1 order is open, the limit is 1" in refused.text
    assert refused.retry_after is None


async def test_an_order_that_could_not_be_written_takes_no_room(tmp_path: Path) -> None:
    world = World(tmp_path, max_open_orders=1)
    world.commit_error = RecordError("audit_unavailable", "the disk is full")
    assert (await world.decide(world.place())).code is Code.AUDIT_UNAVAILABLE
    world.commit_error = None
    assert isinstance(await world.decide(world.place()), Forward)


async def test_an_order_takes_its_room_until_opend_refuses_it_or_it_ends(tmp_path: Path) -> None:
    world = World(tmp_path, max_open_orders=1)
    first = await world.decide(world.place())
    assert (await world.decide(world.place(price=301))).code is Code.OPEN_ORDERS
    world.ledger.refused_by_opend(first.asked.decision_id)
    second = await world.decide(world.place(price=302))
    world.ledger.accepted(second.asked.decision_id, 7, "EX7")
    assert (await world.decide(world.place(price=303))).code is Code.OPEN_ORDERS
    world.ledger.order_ended(ACC, 7, "EX7")
    assert isinstance(await world.decide(world.place(price=304)), Forward)


async def test_a_cancel_asks_for_no_room(tmp_path: Path) -> None:
    world = World(tmp_path, max_open_orders=1)
    await world.decide(world.place())
    asked = world.cancel()
    assert isinstance(world.gate.decide_now(asked), Forward)  # type: ignore[arg-type]
