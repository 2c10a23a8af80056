"""Runs over all accounts: whose orders, which run gives way to which, and what the records say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.audit.record import AuditRecord
from sidecar.cancelling import account as emptying
from sidecar.cancelling.canceller import Canceller, Run, Why, Wish
from sidecar.errors import UpstreamError
from sidecar.metrics import Metrics
from sidecar.policy.usage import Account, OrderOwner
from tests.cancelling.cancelling_world import CANCELLED, PAPER, REAL, SUBMITTED, FakeOpenD, Resting, book, means

ALL = Wish(None, Why.HALT, "the command line", iface="admin")
BOT = Wish("bot", Why.HALT, "the command line", iface="admin")
GONE = Wish("bot", Why.DISCONNECT, "cancel_on_disconnect")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LIST_EVERY": 0.02, "LIST_SELDOM": 0.05, "AT_ONCE_PATIENCE": 0.1, "MARGIN": 0.3, "_AGAIN_AFTER": (0.05, 0.1),
        "_HOLD_FIRST": 0.02, "_HOLD_MOST": 0.1, "UNLISTED_PATIENCE": 0.3, "REFUSED_PATIENCE": 0.1, "REPLY_PATIENCE": 0.1, "LOOK_AFTER": 0.1,
    }.items():  # fmt: skip
        monkeypatch.setattr(emptying, name, value)


@dataclass
class World:
    """The sidecar around the canceller: its account list, ledger and recorder."""

    opend: FakeOpenD
    accounts: tuple[Account, ...] = (REAL, PAPER)
    loaded: bool = True
    owners: dict[int, str] = field(default_factory=dict)
    """Order → key, as far as the ledger knows it by its id."""
    tags: dict[str, str] = field(default_factory=dict)
    records: list[AuditRecord] = field(default_factory=list)
    finished: list[Run] = field(default_factory=list)
    limit: dict[str, Any] = field(default_factory=lambda: {"period": 0.3})

    def __post_init__(self) -> None:
        self.canceller = Canceller(
            means=means(self.opend, **self.limit),
            accounts=self,  # type: ignore[arg-type]
            ledger=SimpleNamespace(orders=self),  # type: ignore[arg-type]
            recorder=self,  # type: ignore[arg-type]
            metrics=Metrics(),
            revision=lambda: "r1",
        )
        self.canceller.on_finished = self.finished.append

    def all_ids(self) -> frozenset[int]:
        return frozenset(each.acc_id for each in self.accounts)

    def get(self, acc_id: int) -> Account | None:
        return next((each for each in self.accounts if each.acc_id == acc_id), None)

    async def refresh(self) -> None:
        if not self.opend.up:
            raise UpstreamError("OpenD is away")
        self.loaded = True

    def owner_of(self, acc_id: int, order_id: int, order_id_ex: str) -> OrderOwner | None:
        found = self.owners.get(order_id)
        return None if found is None else OrderOwner(found)

    def owner_by_remark(self, remark: str) -> OrderOwner | None:
        found = self.tags.get(remark)
        return None if found is None else OrderOwner(found)

    def note(self, record: AuditRecord) -> None:
        self.records.append(record)

    # -- in words

    async def ended(self, wish: Wish) -> Run:
        run = self.canceller.start(wish)
        await self.until(lambda: run.finished)
        return run

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not holds():
                await asyncio.sleep(0.01)

    def said(self) -> list[tuple[str, int | None, str | None]]:
        return [(one.outcome, one.acc_id, one.message) for one in self.records]

    def working(self) -> set[int]:
        return {one.order_id for orders in self.opend.books.values() for one in orders if one.status == SUBMITTED}


async def test_all_orders_of_all_accounts_go_and_each_account_with_orders_has_a_record() -> None:
    world = World(FakeOpenD({1: book(3), 2: book(2, 10)}))
    run = await world.ended(ALL)
    assert world.working() == set() and run.clean and world.finished == [run]
    assert world.said() == [
        ("allow", None, "all orders, by the command line: cancelling begins"),
        ("success", 1, "all orders: 3 of 3 cancelled"),
        ("success", 2, "all orders: 2 of 2 cancelled"),
    ]
    assert {record.decision_id for record in world.records} == {run.id}
    assert all(record.essential for record in world.records), "they wait in memory where there is no room for them"


async def test_the_orders_of_a_key_are_those_the_ledger_knows_and_those_tagged_for_it() -> None:
    orders = [Resting(1), Resting(2, remark="#D2"), Resting(3, remark="#D3"), Resting(4), Resting(5, remark="my own")]
    world = World(FakeOpenD({2: orders}), owners={1: "bot", 4: "other"}, tags={"#D2": "bot", "#D3": "other"})
    run = await world.ended(BOT)
    assert world.working() == {3, 4, 5}
    assert run.total == 2
    assert world.said()[-1] == ("success", 2, "the orders of key `bot`: 2 of 2 cancelled")


async def test_what_is_left_over_is_named_in_the_record_and_told_whole() -> None:
    orders = [Resting(number, refuses="locked") for number in range(1, 24)]
    world = World(FakeOpenD({1: orders}), limit={"period": 0.1})
    run = await world.ended(ALL)
    outcome, acc_id, text = world.said()[-1]
    assert (outcome, acc_id) == ("failure", 1)
    assert text is not None and text.startswith("all orders: 0 of 23 cancelled; X1 HK.00700: locked; X2")
    assert text.endswith("; and 3 more")
    assert len(run.tree()["not_cancelled"]) == 23 and not run.clean


async def test_nothing_to_cancel_is_recorded_for_the_owner_and_nothing_at_all_for_a_client_that_has_gone() -> None:
    world = World(FakeOpenD({1: [], 2: []}))
    await world.ended(ALL)
    assert [text for _, _, text in world.said()][-1] == "all orders: there was nothing to cancel"
    world.records.clear()
    run = await world.ended(GONE)
    assert world.records == [] and run.clean


async def test_a_client_that_has_gone_is_on_record_once_there_is_something_to_cancel() -> None:
    world = World(FakeOpenD({2: book(1)}), owners={1: "bot"})
    await world.ended(GONE)
    assert [(outcome, text) for outcome, _, text in world.said()] == [
        ("allow", "the orders of key `bot`, by cancel_on_disconnect: cancelling begins"),
        ("success", "the orders of key `bot`: 1 of 1 cancelled"),
    ]


async def test_a_second_wish_for_the_same_is_the_same_run_and_all_orders_take_over_those_of_a_key() -> None:
    world = World(FakeOpenD({2: book(30)}), owners=dict.fromkeys(range(1, 31), "bot"), limit={"period": 1.0})
    first = world.canceller.start(BOT)
    assert world.canceller.start(GONE) is first
    await world.until(lambda: first.done)
    everything = world.canceller.start(ALL)
    assert first.finished and first.stopped == "every order is being cancelled instead"
    assert world.canceller.start(BOT) is everything
    await world.until(lambda: everything.finished)
    assert world.working() == set() and world.finished == [everything]


async def test_a_run_that_is_stopped_sends_no_more_and_says_how_far_it_came() -> None:
    world = World(FakeOpenD({2: book(30)}), limit={"period": 2.0})
    run = world.canceller.start(ALL)
    await world.until(lambda: run.done)
    world.canceller.stop(None, "trading was resumed")
    await asyncio.sleep(0.05)  # one may be on its way
    sent = len(world.opend.changes)
    await asyncio.sleep(0.5)
    assert len(world.opend.changes) == sent < 30
    assert run.finished and not run.clean and world.finished == []
    outcome, _, text = world.said()[-1]
    assert outcome == "unknown" and text is not None and text.endswith("of 30, trading was resumed")
    assert world.canceller.running(None) is None


async def test_without_opend_or_its_accounts_it_waits_and_says_so_and_begins_when_they_are_there() -> None:
    world = World(FakeOpenD({1: book(2)}, up=False, trouble="OpenD is away"), loaded=False)
    run = world.canceller.start(ALL)
    await asyncio.sleep(0.4)
    assert (run.tree()["waiting_for"], run.finished) == ("OpenD is away", False)
    world.opend.up = True
    await world.until(lambda: run.finished)
    assert world.working() == set()


async def test_an_account_in_which_something_breaks_keeps_no_other_from_being_emptied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_one = emptying.Emptying.run

    async def breaks(self: emptying.Emptying) -> None:
        if self.account is REAL:
            raise RuntimeError("a mistake")
        await run_one(self)

    monkeypatch.setattr(emptying.Emptying, "run", breaks)
    world = World(FakeOpenD({1: book(1), 2: book(2, 10)}))
    run = await world.ended(ALL)
    assert world.working() == {1}
    assert [each["problem"] for each in run.tree()["accounts"]] == ["RuntimeError, which the log tells", None]
    assert not run.clean


async def test_an_account_without_a_market_is_left_out_since_nothing_can_be_placed_in_it() -> None:
    world = World(FakeOpenD({1: book(1)}), accounts=(REAL, Account(9, REAL.env, frozenset())))
    run = await world.ended(ALL)
    assert run.clean and len(run.accounts) == 1


async def test_what_has_ended_is_told_for_a_while_the_latest_first() -> None:
    world = World(FakeOpenD({1: book(1)}))
    runs = [await world.ended(ALL) for _ in range(10)]
    assert [run.id for run in world.canceller] == [run.id for run in reversed(runs)][:8]
    assert world.opend.books[1][0].status == CANCELLED
