"""Breakers, and orders that may only shrink positions, as the gate meets them; told as transcripts."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sidecar.asked import CLIENT_LEFT, Asked, Forward, Refused
from sidecar.policy.decision import Code, Decision
from sidecar.policy.trading import ACTIVE, Standing, TradingState
from tests.test_gate import World

REDUCING = Standing(
    TradingState.REDUCING, None, datetime(2026, 1, 5, 10, 41, tzinfo=UTC), "after the close", "key `ops`"
)
HALTED = Standing(TradingState.HALTED, None, datetime(2026, 1, 5, 10, 41, tzinfo=UTC), "fat finger", "key `ops`")


class Watched(World):
    """The trading states in force are those the breakers change."""

    def __init__(self, folder: Path, breakers: dict[str, Any], **limits: Any) -> None:
        super().__init__(folder, breakers=breakers, **limits)
        self.gate.trading = self.states.of
        self.gate._facts._trading = self.states.of

    async def order(self, **terms: Any) -> Any:
        asked = self.place(**terms)
        return asked if isinstance(asked, Refused) else await self.decide(asked)


def _cancel(world: World) -> Asked:
    asked = world.cancel()
    assert isinstance(asked, Asked)
    return asked


# -- breakers ---------------------------------------------------------------------------------------------------------


async def test_orders_refused_in_a_row_halt_the_key_and_the_next_good_one_reads_breaker(tmp_path: Path) -> None:
    world = Watched(tmp_path, {"refusals_in_a_row": 3}, max_order_qty=100)
    for _ in range(3):
        assert (await world.order(qty=200)).code is Code.ORDER_QTY
    verdict = await world.order(qty=100)
    assert verdict.code is Code.BREAKER
    assert "halted since" in verdict.text
    assert (
        "by the breaker refusals_in_a_row: 3 orders in a row were refused, the last one with order_qty" in verdict.text
    )
    assert isinstance(world.gate.decide_now(_cancel(world)), Forward)
    assert world.orders_used == 0


async def test_an_order_that_goes_out_ends_the_row(tmp_path: Path) -> None:
    world = Watched(tmp_path, {"refusals_in_a_row": 3}, max_order_qty=100)
    for qty in (200, 200, 100, 200, 200, 100):
        await world.order(qty=qty)
    assert world.states.of("bot") == ACTIVE


async def test_what_was_refused_for_want_of_the_disk_or_a_client_is_not_counted(tmp_path: Path) -> None:
    world = Watched(tmp_path, {"refusals_in_a_row": 2})
    for _ in range(5):
        asked = world.place()
        assert isinstance(asked, Asked)
        await world.gate.decide(asked, lambda: CLIENT_LEFT)
    assert world.states.of("bot") == ACTIVE


async def test_a_dry_run_is_neither_counted_nor_a_repetition(tmp_path: Path) -> None:
    world = Watched(tmp_path, {"refusals_in_a_row": 2, "identical_orders": 2}, max_order_qty=1)
    request = world.place(qty=100)
    assert isinstance(request, Asked)
    for _ in range(5):
        told = world.gate.understand(world.caller, request.row, lambda: request.message, rehearsal=True)
        assert isinstance(told, Asked)
        assert isinstance(await world.gate.rehearse(told), Decision)
    assert world.states.of("bot") == ACTIVE


async def test_the_same_order_too_often_is_stopped_before_it_is_sent_once_more(tmp_path: Path) -> None:
    world = Watched(tmp_path, {"identical_orders": 4})
    verdicts = [await world.order() for _ in range(5)]
    assert [isinstance(verdict, Forward) for verdict in verdicts] == [True, True, True, False, False]
    assert [verdict.code for verdict in verdicts[3:]] == [Code.BREAKER, Code.BREAKER]
    assert world.orders_used == 3


async def test_a_loop_of_refused_orders_is_one_all_the_same(tmp_path: Path) -> None:
    world = Watched(tmp_path, {"identical_orders": 4}, duplicate_window_s=60)
    codes = [getattr(await world.order(), "code", None) for _ in range(5)]
    assert codes == [None, Code.DUPLICATE, Code.DUPLICATE, Code.BREAKER, Code.BREAKER]


# -- only what shrinks a position -------------------------------------------------------------------------------------


async def test_what_is_held_is_asked_for_and_may_be_sold_and_what_is_not_may_not(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.standing = REDUCING
    world.holding = Decimal(1000)
    assert isinstance(await world.decide(world.place(side=2, qty=1000)), Forward)
    assert "asked holding" in " ".join(world.transcript)
    verdict = await world.decide(world.place(side=2, qty=1))
    assert verdict.code is Code.REDUCE_ONLY
    assert "1000 held of HK.00700, 1000 being sold" in verdict.text
    assert (await world.decide(world.place(side=1, qty=1))).code is Code.REDUCE_ONLY


async def test_selling_short_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.standing = REDUCING
    verdict = world.place(side=3)
    assert isinstance(verdict, Refused) and verdict.code is Code.REDUCE_ONLY
    assert world.transcript == ["noted reject reduce_only"]
    assert "ops" not in verdict.text


async def test_a_holding_that_is_not_known_stops_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.standing, world.holding = REDUCING, None
    assert (await world.decide(world.place(side=2))).code is Code.POSITION_UNKNOWN


async def test_an_order_for_which_no_holding_was_asked_does_not_pass_once_it_must_shrink_one(tmp_path: Path) -> None:
    world = World(tmp_path, max_order_value=100_000)
    asked = world.place(side=2)
    assert isinstance(asked, Asked)
    world.gate.prefetch(asked)
    assert asked.gathering is not None
    await asked.gathering
    world.standing = REDUCING
    assert (await world.decide(asked)).code is Code.POSITION_UNKNOWN


async def test_at_the_last_look_only_what_was_judged_as_shrinking_passes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.during_commit = lambda: setattr(world, "standing", REDUCING)
    verdict = await world.decide(world.place(side=2))
    assert verdict.code is Code.REDUCE_ONLY
    assert "it was not judged as shrinking a position; trading may only shrink positions since" in verdict.text
    assert world.orders_used == 0
    assert isinstance(await world.decide(world.place(side=2)), Forward), "judged under the state it is sent under"


async def test_at_the_last_look_a_halt_stops_what_shrinks_and_a_resume_stops_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.standing = REDUCING
    world.during_commit = lambda: setattr(world, "standing", HALTED)
    assert (await world.decide(world.place(side=2))).code is Code.TRADING_HALTED
    world.standing = REDUCING
    world.during_commit = lambda: setattr(world, "standing", ACTIVE)
    assert isinstance(await world.decide(world.place(side=2)), Forward)


async def test_cancels_go_on_while_positions_may_only_shrink(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.standing = REDUCING
    assert isinstance(world.gate.decide_now(_cancel(world)), Forward)
