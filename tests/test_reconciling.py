"""When OpenD's order lists are asked for, and what is taken from them and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.message import Message

from sidecar import reconciling
from sidecar.audit.record import AuditRecord
from sidecar.errors import UpstreamError
from sidecar.intents.model import TrdEnv
from sidecar.ledger.reservation import Reservation, State
from sidecar.policy.usage import Account
from sidecar.reconciling import Reconciling
from sidecar.settling import Settling
from sidecar.wire.messages import message_class
from tests.ledger.ledger_making import ACCOUNT, Clock, MemoryStore, open_ledger, reservation

HK, US, FUND = 1, 2, 113


class World:
    """OpenD's lists, by account and market, as the test says; the ledger is a real one."""

    def __init__(self, markets: tuple[int, ...] = (HK, US)) -> None:
        self.clock = Clock()
        self.ledger = open_ledger(MemoryStore(), self.clock)
        self.records: list[AuditRecord] = []
        self.settling = Settling(self.ledger, self)  # type: ignore[arg-type]
        self.accounts = {
            ACCOUNT: Account(ACCOUNT, TrdEnv.REAL, frozenset(markets)),
            ACCOUNT + 1: Account(ACCOUNT + 1, TrdEnv.REAL, frozenset({HK})),
        }
        self.lists: dict[int, list[dict[str, Any]]] = {}
        """By market."""
        self.refused: set[int] = set()
        self.away = False
        self.asked: list[tuple[int, int]] = []
        self.reconciling = Reconciling(self, self, self.ledger, self.settling)  # type: ignore[arg-type]

    def note(self, record: AuditRecord) -> None:
        self.records.append(record)

    def get(self, acc_id: int) -> Account | None:
        return self.accounts.get(acc_id)

    async def ask(self, proto_id: int, request: Message, *, timeout: float) -> Message:
        header = request.c2s.header  # type: ignore[attr-defined]
        assert (proto_id, request.c2s.refreshCache) == (2201, False)  # type: ignore[attr-defined]
        self.asked.append((header.accID, header.trdMarket))
        if self.away:
            raise UpstreamError("OpenD is away")
        reply: Any = message_class("Trd_GetOrderList.Response")()
        reply.retType = -1 if header.trdMarket in self.refused else 0
        if reply.retType == 0:
            reply.s2c.header.CopyFrom(header)
            for fields in self.lists.get(header.trdMarket, []):
                reply.s2c.orderList.add(**fields)
        answer: Message = reply
        return answer

    def sent(self, order_id: int = 0, **changes: Any) -> Reservation:
        """An order that went out; with an id one that OpenD took."""
        made = reservation(self.clock.now, **changes)
        self.ledger.reserve(made)
        self.ledger.forwarded(made.decision_id)
        if order_id:
            self.ledger.accepted(made.decision_id, order_id, f"EX{order_id}")
        return made

    def state(self, made: Reservation) -> State:
        row = self.ledger.orders.row_of(made.decision_id)
        assert row is not None
        return row.state

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.reconciling.run())
        try:
            yield
        finally:
            task.cancel()


async def looked(world: World) -> None:
    """For as long as it takes until an order that no list shows counts as gone."""
    for _ in range(3):
        world.clock.pass_(61)
        await world.reconciling.look()


def listed(made: Reservation, order_id: int, status: int = 5, **changes: Any) -> dict[str, Any]:
    """The order as OpenD lists it; status 5 is SUBMITTED."""
    fields: dict[str, Any] = {
        "trdSide": 1, "orderType": 1, "orderStatus": status, "orderID": order_id, "orderIDEx": f"EX{order_id}",
        "code": "00700", "name": "Tencent", "qty": float(made.qty), "price": float(made.price or 0), "fillQty": 0.0,
        "secMarket": 1, "trdMarket": HK, "remark": made.remark, "createTime": "", "updateTime": "",
        "createTimestamp": made.at + 1,
    }  # fmt: skip
    return {**fields, **changes}


async def test_nothing_is_asked_while_nothing_is_open() -> None:
    world = World()
    await world.reconciling.look()
    assert world.asked == []


async def test_only_the_accounts_concerned_are_asked_and_unknown_ones_not() -> None:
    world = World()
    world.sent(7)
    world.sent(8, acc_id=ACCOUNT + 5)
    world.lists[HK] = [listed(reservation(), 7)]
    await world.reconciling.look()
    assert world.asked == [(ACCOUNT, HK)]


async def test_an_order_whose_reply_was_lost_is_found() -> None:
    world = World()
    made = world.sent()
    world.lists[HK] = [listed(made, 7)]
    await world.reconciling.look()
    assert world.state(made) is State.ACCEPTED
    assert world.ledger.orders.decision_of(ACCOUNT, 7, "EX7") == made.decision_id


async def test_an_order_without_a_tag_is_found_among_all_markets_lists() -> None:
    world = World()
    first, second = world.sent(remark="mine"), world.sent(remark="mine")
    world.lists = {HK: [listed(first, 7)], US: [listed(first, 7), listed(first, 8)]}
    await world.reconciling.look()
    assert [world.state(first), world.state(second)] == [State.ACCEPTED] * 2
    assert world.asked == [(ACCOUNT, HK), (ACCOUNT, US)]


async def test_a_list_that_could_not_be_had_pairs_nothing_by_terms() -> None:
    world = World()
    made = world.sent(remark="mine")
    world.lists[HK], world.refused = [listed(made, 7)], {US}
    await world.reconciling.look()
    assert world.state(made) is State.FORWARDED


async def test_absence_releases_no_reservation() -> None:
    world = World()
    made = world.sent()
    world.clock.pass_(3_600)
    await world.reconciling.look()
    assert world.state(made) is State.FORWARDED
    assert world.ledger.open_orders("bot") == 1
    assert world.ledger.usage("bot", world.clock.now).daily_value == {"HKD": Decimal(1000)}


async def test_what_no_list_has_shown_for_a_day_is_open_no_longer_and_stays_used() -> None:
    world = World()
    made = world.sent()
    world.clock.pass_(86_399)
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 1
    world.clock.pass_(1)
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 0
    assert world.state(made) is State.ACCEPTED
    world.asked.clear()
    await world.reconciling.look()
    assert world.asked == [], "nothing is in doubt any more"


async def test_what_may_be_one_of_the_orders_of_no_key_stays_open() -> None:
    world = World()
    made = world.sent(remark="mine")
    world.clock.pass_(86_400)
    world.lists[US] = [listed(made, 9, qty=5.0, remark="")]
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 1


async def test_an_order_that_was_presumed_gone_and_is_listed_after_all_is_open_again() -> None:
    world = World()
    made, other = world.sent(), world.sent(7)
    world.clock.pass_(86_400)
    world.lists[HK] = [listed(other, 7)]
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 1
    world.lists[HK].append(listed(made, 8))
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 2


async def test_a_named_order_that_no_list_shows_a_minute_later_is_open_no_longer() -> None:
    world = World()
    world.sent(7)
    world.clock.pass_(59)
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 1, "the list may be older than the order"
    for waited in (1, 30, 29):
        world.clock.pass_(waited)
        await world.reconciling.look()
        assert world.ledger.open_orders("bot") == 1, "one list may not be whole yet"
    world.clock.pass_(1)
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 0
    assert world.ledger.usage("bot", world.clock.now).daily_value == {"HKD": Decimal(1000)}


@pytest.mark.parametrize("trouble", ["refused", "away", "listed under another market", "one that cannot be read"])
async def test_nothing_is_concluded_from_lists_that_are_not_whole(trouble: str) -> None:
    world = World()
    made = world.sent(7)
    if trouble == "refused":
        world.refused = {US}
    elif trouble == "away":
        world.away = True
    elif trouble == "listed under another market":
        world.lists[US] = [listed(made, 7)]
    else:
        world.lists[HK] = [listed(made, 9)]
        world.get = lambda acc_id: Account(ACCOUNT, TrdEnv.REAL, frozenset({HK, US}))  # type: ignore[method-assign]
        world.refused = {US}
    await looked(world)
    assert world.ledger.open_orders("bot") == 1


async def test_markets_without_orders_are_not_asked() -> None:
    world = World(markets=(HK, FUND))
    world.refused = {FUND}
    world.sent(7)
    await looked(world)
    assert set(world.asked) == {(ACCOUNT, HK)}
    assert world.ledger.open_orders("bot") == 0


async def test_an_order_that_was_missing_only_while_opend_started_stays_open() -> None:
    world = World()
    made = world.sent(7)
    world.clock.pass_(61)
    await world.reconciling.look()
    world.lists[HK] = [listed(made, 7)]
    world.clock.pass_(61)
    await world.reconciling.look()
    world.lists.clear()
    world.clock.pass_(1)
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 1, "it was listed in between"


async def test_what_was_missing_before_a_reconnect_says_nothing_after_it() -> None:
    world = World()
    world.sent(7)
    unnamed = world.sent()
    world.clock.pass_(86_400)
    await world.reconciling.look()
    assert world.state(unnamed) is State.ACCEPTED, "it was given up"
    world.sent()
    world.clock.pass_(86_400)
    world.reconciling.connected()
    await world.reconciling.look()
    world.clock.pass_(59)
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 2
    world.clock.pass_(1)
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 0


async def test_a_whole_list_of_hundreds_is_gone_through() -> None:
    world = World()
    made = [world.sent() for _ in range(250)]
    world.lists[HK] = [listed(each, 7 + number, 11) for number, each in enumerate(made)]
    await world.reconciling.look()
    assert world.ledger.open_orders("bot") == 0
    assert world.ledger.doubts.unsettled(ACCOUNT) == []


async def test_after_a_reconnect_it_looks_at_once_and_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciling, "FIRST", 0.02)
    world = World()
    made = world.sent()
    async with world.running():
        await asyncio.sleep(0.05)
        assert world.asked == [], "the next regular look is half a minute away"
        world.reconciling.wake()
        await asyncio.sleep(0.01)
        assert len(world.asked) == 2
        world.lists[HK] = [listed(made, 7)]
        await asyncio.sleep(0.05)
        assert world.state(made) is State.ACCEPTED
