"""The limits on the order itself, on their way through the gate: what is asked for them, and what two orders at once see."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from pathlib import Path

from sidecar.asked import Forward, Refused
from sidecar.errors import RecordError
from sidecar.gathering import IN_VAIN_MOST
from sidecar.policy.decision import Code
from tests.test_gate import World


async def test_a_price_collar_asks_for_the_quote_and_nothing_is_written_of_what_is_outside(tmp_path: Path) -> None:
    world = World(tmp_path, price_collar_pct=5)
    verdict = await world.decide(world.place(price=315.01))
    assert verdict.code is Code.PRICE_COLLAR
    assert "asked quote of HK.00700" in world.transcript
    assert world.transcript[-2:] == ["noted reject price_collar", "refused"]
    assert "written" not in world.transcript
    assert isinstance(await world.decide(world.place(price=315)), Forward)


async def test_a_price_collar_without_a_quote_refuses(tmp_path: Path) -> None:
    world = World(tmp_path, price_collar_pct=5)
    world.quote = None
    assert (await world.decide(world.place())).code is Code.PRICE_UNAVAILABLE


async def test_a_key_under_a_collar_that_keeps_asking_for_quotes_there_are_not_stops_asking(tmp_path: Path) -> None:
    world = World(tmp_path, price_collar_pct=5)
    world.quote = None
    for _ in range(IN_VAIN_MOST + 5):
        assert (await world.decide(world.place())).code is Code.PRICE_UNAVAILABLE
    assert world.transcript.count("asked quote of HK.00700") == IN_VAIN_MOST


async def test_what_the_request_itself_tells_is_refused_before_opend_is_asked_for_a_quote(tmp_path: Path) -> None:
    world = World(tmp_path, allowed_order_types=["MARKET"], price_collar_pct=5)
    refused = world.place()
    assert isinstance(refused, Refused)
    assert refused.code is Code.ORDER_TYPE
    assert world.transcript == ["noted reject order_type"]


async def test_of_two_identical_orders_at_one_moment_one_passes(tmp_path: Path) -> None:
    world = World(tmp_path, duplicate_window_s=10)
    verdicts = await asyncio.gather(*(world.decide(world.place()) for _ in range(2)))
    assert sorted(type(each).__name__ for each in verdicts) == ["Forward", "Refused"]
    refused = next(each for each in verdicts if isinstance(each, Refused))
    assert refused.code is Code.DUPLICATE
    assert refused.retry_after == 10
    assert world.orders_used == 1


async def test_of_two_identical_orders_that_wait_for_the_same_quote_one_passes(tmp_path: Path) -> None:
    world = World(tmp_path, duplicate_window_s=10, price_collar_pct=5)
    world.facts_wait = 0.02
    verdicts = await asyncio.gather(*(world.decide(world.place()) for _ in range(5)))
    assert sum(isinstance(each, Forward) for each in verdicts) == 1
    assert {each.code for each in verdicts if isinstance(each, Refused)} == {Code.DUPLICATE}


async def test_orders_that_differ_in_price_quantity_or_side_are_no_duplicates(tmp_path: Path) -> None:
    world = World(tmp_path, duplicate_window_s=10)
    for qty, price, side in ((100, 300, 1), (200, 300, 1), (100, 301, 1), (100, 300, 2)):
        assert isinstance(await world.decide(world.place(qty=qty, price=price, side=side)), Forward)


async def test_an_order_that_could_not_be_written_may_be_repeated_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, duplicate_window_s=10)
    world.commit_error = RecordError("audit_unavailable", "the disk is full")
    assert (await world.decide(world.place())).code is Code.AUDIT_UNAVAILABLE
    world.commit_error = None
    assert isinstance(await world.decide(world.place()), Forward)


async def test_an_order_opend_refused_may_be_repeated_and_one_of_unknown_fate_may_not(tmp_path: Path) -> None:
    world = World(tmp_path, duplicate_window_s=10)
    first = await world.decide(world.place())
    world.ledger.refused_by_opend(first.asked.decision_id)
    assert isinstance(await world.decide(world.place()), Forward)
    assert (await world.decide(world.place())).code is Code.DUPLICATE, "no answer yet: it may have arrived"


async def test_a_refused_repetition_does_not_make_the_wait_longer(tmp_path: Path) -> None:
    world = World(tmp_path, duplicate_window_s=10)
    later = 0.0
    real = world.ledger._elapsed
    world.ledger._elapsed = lambda: real() + later
    world.gate._clock = lambda: time.time() + later
    await world.decide(world.place())
    later += 6
    assert (await world.decide(world.place())).retry_after == 4
    later += 4
    assert isinstance(await world.decide(world.place()), Forward)


async def test_a_dry_run_finds_the_repetition_and_is_none_itself(tmp_path: Path) -> None:
    world = World(tmp_path, duplicate_window_s=10)

    async def rehearsed() -> Code | None:
        asked = world.place()
        assert not isinstance(asked, Refused)
        asked.rehearsal = True
        found = await world.gate.rehearse(asked)
        assert not isinstance(found, Refused)
        return None if found.refusal is None else found.refusal.code

    assert [await rehearsed(), await rehearsed()] == [None, None]
    await world.decide(world.place())
    assert await rehearsed() is Code.DUPLICATE


def test_cancels_ask_for_no_quote_and_know_no_repetition(tmp_path: Path) -> None:
    world = World(
        tmp_path, duplicate_window_s=10, price_collar_pct=5, allowed_order_types=["MARKET"], max_order_qty=1,
        extended_hours=False,
    )  # fmt: skip
    world.quote = Decimal("NaN")
    for _ in range(2):
        asked = world.cancel()
        assert not isinstance(asked, Refused)
        assert isinstance(world.gate.decide_now(asked), Forward)
    assert world.transcript == ["noted allow", "noted allow"]
