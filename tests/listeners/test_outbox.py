from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.listeners.outbox import Outbox


async def test_what_was_put_is_taken_at_once_in_order() -> None:
    outbox: Outbox[str] = Outbox(100)
    assert outbox.put("a", 10)
    assert outbox.put("b", 20)
    assert await outbox.take() == ["a", "b"]


async def test_a_taker_waits_for_the_first_item() -> None:
    outbox: Outbox[str] = Outbox(100)
    taking = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.put("a", 1)
    assert await taking == ["a"]


async def test_the_bound_is_told_and_what_passes_it_is_not_kept() -> None:
    outbox: Outbox[str] = Outbox(100)
    assert outbox.put("a", 60)
    assert outbox.put("b", 40)
    assert not outbox.put("c", 1)
    assert outbox.unsent == 100
    assert await outbox.take() == ["a", "b"]


async def test_one_item_over_the_bound_fits_where_little_waits_and_nothing_after_it() -> None:
    outbox: Outbox[str] = Outbox(100)
    assert outbox.put("a", 12)
    assert outbox.put("long", 5000)
    assert not outbox.put("short", 1)


async def test_what_was_taken_counts_until_the_next_take() -> None:
    outbox: Outbox[str] = Outbox(100)
    outbox.put("a", 80)
    await outbox.take()
    assert outbox.unsent == 80
    assert not outbox.put("b", 30)
    assert outbox.put("c", 20)
    assert await outbox.take() == ["c"]
    assert outbox.unsent == 20


async def test_a_closed_outbox_gives_what_is_left_and_then_nothing() -> None:
    outbox: Outbox[str] = Outbox(100)
    outbox.put("a", 1)
    outbox.close()
    assert outbox.put("b", 1000)  # dropped: nobody is there to be cut
    assert await outbox.take() == ["a"]
    assert await outbox.take() == []
    assert await outbox.take() == []


async def test_closing_wakes_the_taker() -> None:
    outbox: Outbox[str] = Outbox(100)
    taking = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    outbox.close()
    assert await asyncio.wait_for(taking, 1) == []


async def test_closing_can_throw_away_what_waits() -> None:
    outbox: Outbox[str] = Outbox(100)
    outbox.put("a", 1)
    outbox.close(discard=True)
    assert outbox.unsent == 0
    assert await outbox.take() == []


async def test_a_taker_that_is_cancelled_loses_nothing() -> None:
    outbox: Outbox[str] = Outbox(100)
    taking = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    outbox.put("a", 1)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert outbox.unsent == 1
    assert await outbox.take() == ["a"]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(1, 60)), max_size=60))
def test_it_never_holds_more_than_its_bound_and_loses_nothing_it_took_in(steps: list[int | None]) -> None:
    """None is a take, a number the size of a put; no item is larger than the bound."""

    async def run() -> None:
        outbox: Outbox[int] = Outbox(100)
        accepted: list[int] = []
        taken: list[int] = []
        for number, step in enumerate(steps):
            if step is not None:
                if outbox.put(number, step):
                    accepted.append(number)
            elif outbox.unsent and len(taken) < len(accepted):
                taken += await outbox.take()
            assert outbox.unsent <= 100
        outbox.close()
        while rest := await outbox.take():
            taken += rest
        assert taken == accepted

    asyncio.run(run())
