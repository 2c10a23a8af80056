"""Emptying one account: at once where OpenD can, else one by one at its pace, and a true word about what is left."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from sidecar.cancelling import account as emptying
from sidecar.cancelling.account import Emptying
from sidecar.policy.usage import Account
from tests.cancelling.cancelling_world import (
    CANCELLED,
    FILLED,
    HKCC,
    ODD,
    PAPER,
    REAL,
    FakeOpenD,
    Resting,
    book,
    means,
)  # fmt: skip


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LIST_EVERY": 0.02, "LIST_SELDOM": 0.05, "AT_ONCE_PATIENCE": 0.1, "MARGIN": 0.5, "_AGAIN_AFTER": (0.05, 0.1),
        "_HOLD_FIRST": 0.02, "_HOLD_MOST": 0.1, "UNLISTED_PATIENCE": 0.3, "REFUSED_PATIENCE": 0.1, "REPLY_PATIENCE": 0.1,
    }.items():  # fmt: skip
        monkeypatch.setattr(emptying, name, value)


def made(opend: FakeOpenD, account: Account, **fields: Any) -> Emptying:
    limit = fields.pop("limit", {})
    return Emptying(
        account,
        means(opend, **limit),
        fields.pop("meant", lambda listed: True),
        fields.pop("key_id", None),
        **fields,
    )


async def emptied(opend: FakeOpenD, account: Account, **fields: Any) -> Emptying:
    run = made(opend, account, **fields)
    await asyncio.wait_for(run.run(), 10)
    assert run.finished and run.seconds_left == 0
    return run


def reasons(run: Emptying) -> dict[str, str]:
    return {one.order_id: one.reason for one in run.not_cancelled}


async def test_a_real_account_is_emptied_with_one_request() -> None:
    opend = FakeOpenD({1: book(100)})
    run = await emptied(opend, REAL)
    assert (opend.at_once(1), opend.singles(1)) == ([0], 0)
    assert (run.total, run.done, run.not_cancelled) == (100, 100, ())


async def test_a_paper_account_is_emptied_one_by_one_at_opend_s_pace() -> None:
    opend = FakeOpenD({2: book(34)}, limit=20, period=1.0)
    started = time.monotonic()
    run = await emptied(opend, PAPER)
    assert 1.0 <= time.monotonic() - started < 1.9
    assert (opend.at_once(2), opend.singles(2), opend.refused) == ([], 34, 0)
    assert run.done == 34 and not run.not_cancelled


async def test_stock_connect_orders_are_cancelled_one_by_one_and_the_others_of_the_account_by_market() -> None:
    opend = FakeOpenD({1: [*book(5), *book(3, 10, market=HKCC), *book(2, 20, market=2)]})
    run = await emptied(opend, REAL)
    assert (opend.at_once(1), opend.singles(1)) == ([1, 2], 3)
    assert run.done == 10 and not run.not_cancelled


async def test_where_opend_refuses_all_at_once_each_is_cancelled_by_itself_without_delay() -> None:
    opend = FakeOpenD({1: book(5)}, refuses_all_at_once=True)
    run = await emptied(opend, REAL)
    assert (opend.at_once(1), opend.singles(1)) == ([0], 5)
    assert not run.not_cancelled


async def test_what_all_at_once_left_is_cancelled_by_itself_afterwards() -> None:
    opend = FakeOpenD({1: [*book(3), Resting(9, refuses="locked for a moment")]})
    asyncio.get_running_loop().call_later(0.3, lambda: setattr(opend.books[1][3], "refuses", ""))
    run = await emptied(opend, REAL)
    assert opend.singles(1) >= 1
    assert not run.not_cancelled


async def test_only_what_is_meant_is_cancelled_and_never_all_at_once() -> None:
    opend = FakeOpenD({1: book(6)})
    run = await emptied(opend, REAL, key_id="bot", meant=lambda listed: listed.order_id % 2 == 0)
    assert opend.at_once(1) == []
    assert [one.status == CANCELLED for one in opend.books[1]] == [False, True] * 3
    assert run.total == 3


async def test_an_order_filled_before_its_cancel_is_named_and_so_is_one_opend_refuses_with_its_words() -> None:
    opend = FakeOpenD({2: [Resting(1, refuses="the exchange is closed"), Resting(2, refuses="x"), *book(2, 3)]})
    asyncio.get_running_loop().call_later(0.1, lambda: setattr(opend.books[2][1], "status", FILLED))
    run = await emptied(opend, PAPER, limit={"period": 0.2})
    assert reasons(run) == {"X1": "the exchange is closed", "X2": "filled before it could be cancelled"}
    assert (run.total, run.done) == (4, 3)


async def test_an_order_in_a_status_nobody_knows_counts_as_working() -> None:
    opend = FakeOpenD({2: [Resting(1, status=ODD)]})
    run = await emptied(opend, PAPER)
    assert opend.books[2][0].status == CANCELLED and run.done == 1


async def test_what_has_ended_already_is_not_cancelled_again_and_nothing_to_do_is_done_at_once() -> None:
    opend = FakeOpenD({1: [Resting(1, status=FILLED), Resting(2, status=CANCELLED), Resting(3, status=22)]})
    run = await emptied(opend, REAL)
    assert (opend.changes, run.total) == ([], 0)


async def test_an_order_that_was_under_way_when_it_began_is_cancelled_too() -> None:
    opend = FakeOpenD({1: []})
    run = made(opend, REAL)

    async def settled(patience: float) -> None:
        if not opend.books[1]:
            opend.books[1] += book(1)

    run.means = type(run.means)(run.means.house, run.means.budget, run.means.spawn, settled)
    await asyncio.wait_for(run.run(), 5)
    assert opend.books[1][0].status == CANCELLED


async def test_a_limit_that_others_use_up_is_waited_for_and_nothing_is_given_up() -> None:
    opend = FakeOpenD({2: book(6)}, limit=3, period=0.4)
    run = await emptied(opend, PAPER, limit={"period": 0.8})
    assert opend.refused > 0
    assert not run.not_cancelled


async def test_opend_that_goes_away_in_the_middle_is_waited_for_and_the_rest_is_cancelled_then() -> None:
    opend = FakeOpenD({2: book(12)}, limit=5, period=0.6)
    run = made(opend, PAPER, limit={"most": 5, "period": 0.6})
    work = asyncio.ensure_future(run.run())
    await asyncio.sleep(0.3)
    opend.up, opend.trouble = False, "OpenD closed the connection"
    await asyncio.sleep(0.3)
    assert not run.finished and run.waiting_for == "OpenD closed the connection"
    assert 0 < run.done < 12
    opend.up = True
    await asyncio.wait_for(work, 5)
    assert run.done == 12 and not run.not_cancelled and run.waiting_for == ""


async def test_an_account_whose_orders_opend_will_not_list_is_a_problem_that_is_told() -> None:
    opend = FakeOpenD({}, refuses_lists={1: "the account is disabled"})
    run = await emptied(opend, REAL)
    assert run.problem == "its orders could not be listed: the account is disabled"


async def test_an_opend_that_says_nothing_is_given_up_in_the_end() -> None:
    run = await emptied(FakeOpenD({1: book(1)}, silent=True), REAL)
    assert "did not answer" in run.problem


async def test_progress_tells_how_many_are_left_and_how_long_that_takes() -> None:
    opend = FakeOpenD({2: book(45)}, limit=20, period=1.0)
    run = made(opend, PAPER)
    work = asyncio.ensure_future(run.run())
    async with asyncio.timeout(0.95):
        while run.done < 20:
            await asyncio.sleep(0.02)
    assert (run.total, run.done) == (45, 20)
    assert 1.0 <= run.seconds_left <= 3.0
    work.cancel()


async def test_where_nobody_is_in_a_hurry_a_part_is_left_to_clients() -> None:
    opend = FakeOpenD({2: book(20)})
    run = made(opend, PAPER, key_id="bot", kept=5, limit={"period": 5.0})
    work = asyncio.ensure_future(run.run())
    async with asyncio.timeout(4):
        while opend.singles(2) < 15:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert opend.singles(2) == 15
    work.cancel()


async def test_two_of_one_account_at_once_stay_within_its_limit_together() -> None:
    opend = FakeOpenD({2: book(30)}, limit=10, period=0.5)
    shared = means(opend, most=10, period=0.5)
    runs = [
        Emptying(PAPER, shared, lambda listed, rest=rest: listed.order_id % 2 == rest, f"bot-{rest}")
        for rest in range(2)
    ]
    await asyncio.wait_for(asyncio.gather(*(run.run() for run in runs)), 5)
    assert opend.refused == 0
    assert all(one.status == CANCELLED for one in opend.books[2])
