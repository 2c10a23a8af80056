"""Push streams of those who share a session: each judged by itself, held until the owner is known, ended with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sidecar.asked import Refused
from sidecar.desk import Stream
from sidecar.policy.decision import Code
from sidecar.settings import Policy, Upstream
from sidecar.wire.catalog import CATALOG
from sidecar.wire.messages import message_class
from tests.desk_world import PLACE, Asking, Listener, asking, code_of, opened, soon
from tests.faults.faults_world import ALICE, BOB, CARL, DORA, HK_PAPER, KEYS, NOBODY, US_PAPER, write_keys

UPDATE_ORDER = 2208


@pytest.fixture(scope="session")
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Asking]:
    async with asking(tmp_path) as made:
        yield made


def reload(here: Asking, *records: dict[str, Any]) -> None:
    write_keys(here.world.keys_file, list(records))
    here.world.app.rereading.reload()


async def refused(here: Asking, key: str, address: str = "127.0.0.1") -> Refused:
    made = Listener()
    got = await here.desks.listen(here.caller(key, address), made.show, made.ended.append)
    assert isinstance(got, Refused), got
    return got


# What is shown


async def test_pushes_go_to_the_streams_of_the_key_that_subscribed_and_to_no_other(here: Asking) -> None:
    hers, too, his = [await here.listen(key) for key in (DORA, DORA, BOB)]
    await here.subscribe(DORA)
    order_id = opened(await here.place(ALICE)).s2c.orderID
    await here.world.until(lambda: hers.orders() and too.orders())
    assert hers.orders() == too.orders() == [order_id]
    assert his.pushes == []


async def test_a_key_without_acc_read_sees_only_its_own_orders(here: Asking) -> None:
    hers, his = await here.listen(ALICE), await here.listen(BOB)
    await here.subscribe(ALICE)
    await here.subscribe(BOB)
    of_alice = opened(await here.place(ALICE)).s2c.orderID
    of_bob = opened(await here.place(BOB, price=299)).s2c.orderID
    await here.world.until(lambda: hers.orders() and his.orders())
    await soon(0.2)
    assert hers.orders() == [of_alice]
    assert his.orders() == [of_bob]


async def test_an_account_the_key_may_not_see_is_not_subscribed_for_it(here: Asking) -> None:
    hers = await here.listen(ALICE)
    await here.subscribe(ALICE, HK_PAPER, US_PAPER)
    opened(await here.place(BOB, acc_id=US_PAPER, market=2, code="AAPL", sec_market=2, price=100, qty=1))
    await soon(0.2)
    assert hers.pushes == []
    assert here.world.sandbox.received.of(2008)[-1].c2s == {"accIDList": [HK_PAPER]}


async def test_an_own_order_that_is_not_known_as_such_yet_is_shown_when_it_is(here: Asking) -> None:
    """Two orders alike in everything, the remark too: only their answers tell whose push is whose."""
    his = await here.listen(BOB)
    await here.subscribe(BOB)
    here.delays[PLACE] = 0.4
    asked = [asyncio.ensure_future(here.place(BOB, remark="mine")) for _ in range(2)]
    await here.at_opend(2)
    await soon(0.2)
    assert his.pushes == []
    ids = {opened(answer).s2c.orderID for answer in await asyncio.gather(*asked)}
    await here.world.until(lambda: set(his.orders()) == ids)


async def test_an_order_nobody_is_known_to_own_is_hidden_in_the_end(tmp_path: Path) -> None:
    async with asking(tmp_path, policy=Policy(push_owner_wait=0.1)) as here:
        his, hers = await here.listen(BOB), await here.listen(DORA)
        await here.subscribe(BOB)
        await here.subscribe(DORA)
        for listener in (his, hers):
            assert listener.stream is not None
            listener.stream.came(CATALOG[UPDATE_ORDER], push_from_elsewhere())
        await soon(0.3)
        assert his.pushes == []
        assert [number for number, _ in hers.pushes] == [UPDATE_ORDER]


def push_from_elsewhere() -> bytes:
    """Of an order that came by no sidecar."""
    push: Any = message_class("Trd_UpdateOrder.Response")()
    push.retType = 0
    head, one = push.s2c.header, push.s2c.order
    head.trdEnv, head.accID, head.trdMarket = 0, HK_PAPER, 1
    one.trdSide, one.orderType, one.orderStatus, one.orderID, one.orderIDEx = 1, 1, 5, 99, "EX99"
    one.code, one.name, one.qty, one.price, one.createTime, one.updateTime = "00700", "x", 100, 300, "", ""
    one.secMarket = 1
    made: bytes = push.SerializeToString()
    return made


async def test_a_stream_that_is_closed_is_shown_nothing_more(here: Asking) -> None:
    one, other = await here.listen(DORA), await here.listen(DORA)
    await here.subscribe(DORA)
    assert one.stream is not None
    one.stream.close()
    opened(await here.place(ALICE))
    await here.world.until(other.orders)
    assert one.pushes == []
    assert one.ended == [], "it closed by itself and is not told"


# When it ends


async def test_streams_end_when_opend_goes_and_new_ones_can_be_opened(here: Asking) -> None:
    one, other = await here.listen(DORA), await here.listen(CARL)
    here.world.sandbox.drop_connections()
    await here.world.until(lambda: one.ended and other.ended)
    assert "OpenD closed the connection" in one.ended[0]
    await here.world.until(lambda: here.world.app.house.up)
    again = await here.listen(DORA)
    await here.subscribe(DORA)
    opened(await here.place(ALICE))
    await here.world.until(again.orders)
    assert len(one.ended) == 1


async def test_the_streams_of_a_revoked_key_end_at_once_and_its_session_with_them(here: Asking) -> None:
    gone, stays = await here.listen(DORA), await here.listen(ALICE)
    reload(here, *(record for record in KEYS if record["id"] != "dora"))
    assert gone.ended
    assert "key_revoked" in gone.ended[0]
    assert stays.ended == []
    await here.world.until(lambda: here.world.sandbox.connections == 2)


async def test_a_stream_from_an_address_that_is_not_allowed_any_more_ends_alone(here: Asking) -> None:
    near, far = await here.listen(DORA), await here.listen(DORA, "10.9.9.9")
    reload(here, *({**record, "allowed_ips": ["127.0.0.1"]} if record["id"] == "dora" else record for record in KEYS))
    assert far.ended
    assert "ip_not_allowed" in far.ended[0]
    assert near.ended == []
    await here.subscribe(DORA)
    opened(await here.place(ALICE))
    await here.world.until(near.orders)
    assert far.pushes == []
    assert (await refused(here, DORA, "10.9.9.9")).code is Code.IP_NOT_ALLOWED


async def test_a_push_is_judged_by_the_key_as_it_is_before_anybody_said_that_it_changed(here: Asking) -> None:
    hers = await here.listen(DORA)
    await here.subscribe(DORA)
    here.desks.keys_changed = lambda: None  # type: ignore[method-assign]
    reload(here, *(record for record in KEYS if record["id"] != "dora"))
    opened(await here.place(ALICE))
    await soon(0.3)
    assert hers.pushes == []


async def test_a_key_that_expires_ends_its_streams_by_the_clock(here: Asking) -> None:
    hers = await here.listen(DORA)
    soon_over = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    reload(here, *({**record, "expires_at": soon_over} if record["id"] == "dora" else record for record in KEYS))
    assert hers.ended == []
    await here.world.until(lambda: hers.ended)
    assert "key_expired" in hers.ended[0]


async def test_when_the_sidecar_stops_every_stream_is_told(tmp_path: Path) -> None:
    async with asking(tmp_path) as here:
        hers = await here.listen(DORA)
    assert hers.ended == ["the sidecar is stopping"]


async def test_a_session_with_a_stream_is_not_closed_for_want_of_use(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=Upstream(connect_timeout=2.0, shared_idle=0.05)) as here:
        hers = await here.listen(DORA)
        await soon(0.1)
        here.desks.tick()
        await soon()
        assert hers.ended == []
        assert here.sessions == 1
        assert hers.stream is not None
        hers.stream.close()
        here.desks.tick()
        assert here.sessions == 1, "unused from now on, not from the last request"
        await soon(0.1)
        here.desks.tick()
        assert here.sessions == 0


# Who may have one


async def test_who_shows_no_good_key_gets_no_stream_and_no_session(here: Asking) -> None:
    assert (await refused(here, NOBODY)).code is Code.KEY_UNKNOWN
    assert here.sessions == 0


async def test_the_streams_of_one_key_are_limited_however_many_are_opened_at_once(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=Upstream(connect_timeout=2.0, max_connections_per_key=3)) as here:
        listeners = [Listener() for _ in range(8)]
        got = await asyncio.gather(
            *(here.desks.listen(here.caller(DORA), one.show, one.ended.append) for one in listeners)
        )
        assert sum(isinstance(one, Stream) for one in got) == 3
        assert {code_of(one) for one in got if isinstance(one, Refused)} == {Code.UPSTREAM_FULL}
        next(one for one in got if isinstance(one, Stream)).close()
        await here.listen(DORA)


async def test_a_key_that_is_revoked_while_its_session_opens_gets_no_stream(here: Asking) -> None:
    made = Listener()
    opening = asyncio.ensure_future(here.desks.listen(here.caller(DORA), made.show, made.ended.append))
    await asyncio.sleep(0)
    reload(here, *(record for record in KEYS if record["id"] != "dora"))
    got = await opening
    assert isinstance(got, Refused)
    assert got.code is Code.KEY_REVOKED
    here.desks.tick()
    assert here.sessions == 0


async def test_while_opend_is_away_a_stream_is_refused(here: Asking) -> None:
    await here.world.sandbox.stop()
    assert (await refused(here, DORA)).code is Code.UPSTREAM_UNAVAILABLE
    await here.world.sandbox.start()
    await here.listen(DORA)


async def test_one_who_leaves_while_the_session_opens_leaves_no_stream_behind(here: Asking) -> None:
    made = Listener()
    opening = asyncio.ensure_future(here.desks.listen(here.caller(DORA), made.show, made.ended.append))
    await asyncio.sleep(0)
    opening.cancel()
    await soon(0.1)
    assert not here.desks._desks["dora"].streams
    assert not here.desks._desks["dora"].busy
