"""WebSocket connections over time: pushes, keys that go bad, an OpenD that goes away, clients that do not read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from live import eventually
from websocket_client import DISCONNECTED, Ended, FrameClient, JsClient, code_of, global_state, key_with_md5
from websocket_world import World

from sidecar.wire.messages import message_class

HK, OTHER = 1001001, 1001004
ORDER_PUSH, QUOTE_PUSH = 2208, 3005
STATE, PLACE, SUBSCRIBE, SUBSCRIBE_ACCOUNTS = 1002, 2202, 3001, 2008


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("streams")) as made:
        yield made


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One with little room for what a client does not read, and two connections a key."""
    folder = tmp_path_factory.mktemp("tight")
    with World(folder, max_connections_per_key=2, client_buffer=65536, client_stall=1.0) as made:
        yield made


async def enter(world: World, framing: str, key: str) -> FrameClient | JsClient:
    """A client past its login; `async with` it no more."""
    client: FrameClient | JsClient
    if framing == "frames":
        client = await world.frames(key).__aenter__()
        await client.introduce()
    else:
        client = await world.js().__aenter__()
        await client.login(key)
    return client


both = pytest.mark.parametrize("framing", ["frames", "js"])


def subscribe_accounts(*acc_ids: int) -> Any:
    request: Any = message_class("Trd_SubAccPush.Request")()
    request.c2s.accIDList.extend(acc_ids)
    return request


def subscribe_quotes(*, push_first: bool = False) -> Any:
    request: Any = message_class("Qot_Sub.Request")()
    one = request.c2s.securityList.add()
    one.market, one.code = 1, "00700"
    request.c2s.subTypeList.append(1)
    request.c2s.isSubOrUnSub = request.c2s.isRegOrUnRegPush = True
    request.c2s.isFirstPush = push_first
    return request


def pushed_orders(client: FrameClient | JsClient) -> set[tuple[int, str]]:
    """Account and order of the order pushes that came."""
    return {
        (int(one.s2c.header.accID), str(one.s2c.order.orderIDEx))
        for proto_id, one in client.pushes
        if proto_id == ORDER_PUSH
    }


# -- pushes ------------------------------------------------------------------------------------------------------------


@both
async def test_quotes_are_pushed_until_the_key_is_revoked_and_then_the_connection_ends(
    world: World, framing: str
) -> None:
    key = key_with_md5(world.keys, f"short-{framing}", "qot:read")
    world.car.wait_keys()
    client = await enter(world, framing, key)
    assert (await client.ask(SUBSCRIBE, subscribe_quotes())).retType == 0
    world.opend.set_price("HK.00700", "321.0")
    await client.drain(0.3)
    assert [proto_id for proto_id, _ in client.pushes][-1:] == [QUOTE_PUSH]
    world.keys.remove(f"short-{framing}")
    started = time.monotonic()
    end = await client.ended()
    assert time.monotonic() - started < 1.5
    assert (end.code, end.reason) == (1008, "[sidecar:key_revoked] the key is no longer valid")
    eventually(lambda: world.car.metric("sidecar_clients_cut_total", reason="key_revoked") >= 1)
    await client.__aexit__()


async def test_a_key_that_expires_ends_its_connection(world: World) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    key = key_with_md5(world.keys, "till-then", "qot:read", expires_at=soon.isoformat())
    world.car.wait_keys()
    client = await enter(world, "js", key)
    end = await client.ended()
    assert end.reason == "[sidecar:key_expired] the key has expired"
    assert datetime.now(UTC) - soon < timedelta(seconds=1.5)
    await client.__aexit__()


async def test_a_change_that_leaves_the_key_good_does_not_end_the_connection(world: World) -> None:
    key = key_with_md5(world.keys, "changed", "qot:read", "trade:simulate", max_order_value=100)
    world.car.wait_keys()
    client = await enter(world, "js", key)
    world.keys.change("changed", max_order_value=200)
    world.car.wait_keys()
    refused = await client.ask(PLACE, client.order_request())
    assert "over the limit of 200 HKD" in refused.retMsg
    await client.__aexit__()


@both
async def test_keys_of_two_accounts_see_their_own_orders_only(world: World, framing: str) -> None:
    scopes = ("acc:read", "trade:simulate")
    left_key = key_with_md5(world.keys, f"left-{framing}", *scopes, allowed_acc_ids=[HK])
    right_key = key_with_md5(world.keys, f"right-{framing}", *scopes, allowed_acc_ids=[OTHER])
    world.car.wait_keys()
    left, right = await enter(world, framing, left_key), await enter(world, framing, right_key)
    orders = {}
    for client in (left, right):
        assert (await client.ask(SUBSCRIBE_ACCOUNTS, subscribe_accounts(HK, OTHER))).retType == 0
    for client, acc_id in ((left, HK), (right, OTHER)):
        placed = await client.ask(PLACE, client.order_request(acc_id=acc_id))
        assert placed.retType == 0, placed.retMsg
        orders[client] = (acc_id, str(placed.s2c.orderIDEx))
    for client in (left, right):
        await client.drain(0.5)
        assert pushed_orders(client) == {orders[client]}
        await client.__aexit__()


@both
async def test_keys_that_do_not_read_accounts_see_their_own_orders_only(world: World, framing: str) -> None:
    keys = [key_with_md5(world.keys, f"blind-{side}-{framing}", "trade:simulate") for side in ("a", "b")]
    world.car.wait_keys()
    clients = [await enter(world, framing, key) for key in keys]
    own = {}
    for client in clients:
        assert (await client.ask(SUBSCRIBE_ACCOUNTS, subscribe_accounts(HK))).retType == 0
    for client in clients:
        placed = await client.ask(PLACE, client.order_request())
        assert placed.retType == 0, placed.retMsg
        own[client] = {(HK, str(placed.s2c.orderIDEx))}
    for client in clients:
        await client.drain(0.5)
        assert pushed_orders(client) == own[client]
        await client.__aexit__()


# -- requests in numbers -----------------------------------------------------------------------------------------------


@both
async def test_pipelined_orders_go_upstream_in_their_order_and_each_is_answered(world: World, framing: str) -> None:
    client = await enter(world, framing, world.bot)
    before = len(world.opend.everything())
    sent = []
    for number in range(20):
        sent.append(await client.send(PLACE, client.order_request(price=100 + number)))
        sent.append(await client.send(STATE, global_state()))
    for number in sent:
        assert (await client.answer(number)).retType == 0
    came = [one for one in world.opend.everything()[before:] if one.conn == client.conn_id]
    assert [one.proto_id for one in came] == [PLACE, STATE] * 20
    assert [one.c2s["price"] for one in came if one.proto_id == PLACE] == [100 + number for number in range(20)]
    await client.__aexit__()


@both
async def test_thousands_of_pipelined_requests_are_all_answered(world: World, framing: str) -> None:
    client = await enter(world, framing, world.reader)
    sent = [await client.send(STATE, global_state()) for _ in range(3000)]
    for number in sent:
        assert (await client.answer(number)).retType == 0
    await client.__aexit__()


# -- OpenD goes --------------------------------------------------------------------------------------------------------


async def test_while_opend_is_away_nobody_is_let_in_and_each_is_told_in_its_way(tmp_path: Path) -> None:
    with World(tmp_path) as here:
        busy = await enter(here, "js", here.bot)
        frames = await enter(here, "frames", here.bot)
        here.opend.delays[STATE] = 30.0
        pending = {client: await client.send(STATE, global_state()) for client in (busy, frames)}
        await asyncio.sleep(0.1)
        here.opend.stop()
        for client in (busy, frames):
            end = await client.ended()
            assert end.code == 1012
            assert code_of(await client.answer(pending[client])) == "upstream_unavailable", (
                "what is pending is answered"
            )
            await client.__aexit__()
        assert [proto_id for proto_id, _ in busy.pushes] == [DISCONNECTED]

        async with here.js() as client:
            with pytest.raises(Ended, match="1013") as away:
                await client.login(here.bot)
            assert "upstream_unavailable" in away.value.reason
            assert not client.errors, "a login that is refused would be the SDK's last"
        async with here.frames(here.bot) as client:
            assert code_of(await client.introduce()) == "upstream_unavailable"
            assert (await client.ended()).code == 1013
        async with here.frames(here.bot) as client:
            assert code_of(await client.ask(STATE, global_state())) == "upstream_unavailable"
            assert (await client.ended()).code == 1013
        here.car.wait_audit(iface="ws", key_id="bot", reason="upstream_unavailable")

        here.opend.delays.clear()
        here.opend.start()
        eventually(lambda: here.car.get("/readyz")[0] == 200)
        client = await enter(here, "js", here.bot)
        assert (await client.ask(STATE, global_state())).retType == 0
        await client.__aexit__()
        # -- and when the sidecar itself goes
        last = await enter(here, "frames", here.bot)
        ending = asyncio.get_running_loop().run_in_executor(None, here.car.stop)
        end = await last.ended(10)
        assert (end.code, end.reason) == (1001, "the sidecar is stopping")
        await last.__aexit__()
        assert await ending == 0
        assert "Traceback" not in here.car.log_text()


async def test_who_hangs_up_frees_its_place_at_opend(world: World) -> None:
    before = world.car.metric("sidecar_upstream_connections")
    clients = [await enter(world, framing, world.reader) for framing in ("js", "frames", "js")]
    assert world.car.metric("sidecar_upstream_connections") == before + 3
    clients[0].socket._response.connection.transport.abort()  # type: ignore[union-attr]  # as if its machine had died
    for client in clients:
        await client.__aexit__()
    eventually(lambda: world.car.metric("sidecar_upstream_connections") == before)
    eventually(lambda: world.car.metric("sidecar_client_connections", iface="ws") == 0)


async def test_more_connections_than_a_key_may_have_are_told_to_come_later(tight: World) -> None:
    clients = [await enter(tight, framing, tight.bot) for framing in ("js", "frames")]
    async with tight.js() as third:
        with pytest.raises(Ended, match="1013") as full:
            await third.login(tight.bot)
        assert "upstream_full" in full.value.reason
    for client in clients:
        assert (await client.ask(STATE, global_state())).retType == 0
        await client.__aexit__()


# -- clients that do not read ------------------------------------------------------------------------------------------


@both
async def test_a_client_that_falls_behind_and_catches_up_loses_nothing(tight: World, framing: str) -> None:
    """Its requests bring far more than an eighth of what may wait for it."""
    client = await enter(tight, framing, tight.bot)
    for _ in range(3):
        sent = [await client.send(STATE, global_state()) for _ in range(1500)]
        await asyncio.sleep(0.3)
        for number in sent:
            assert (await client.answer(number)).retType == 0
    await client.__aexit__()


async def test_a_client_that_does_not_read_is_cut_and_the_others_are_not(tight: World) -> None:
    other = await enter(tight, "frames", tight.bot)
    slow = await enter(tight, "frames", tight.bot)
    slow.socket._response.connection.protocol.pause_reading()  # type: ignore[union-attr]  # of the client's own library
    snapshot: Any = message_class("Qot_GetStaticInfo.Request")()
    snapshot.c2s.market, snapshot.c2s.secType = 1, 3

    async def flood() -> None:
        while not slow.socket.closed:
            await slow.send(3202, snapshot)

    flooding = asyncio.ensure_future(flood())
    async with asyncio.timeout(20):
        while not tight.car.metric("sidecar_clients_cut_total", reason="slow_client"):
            assert (await other.ask(STATE, global_state())).retType == 0
            await asyncio.sleep(0.1)
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    assert (await other.ask(STATE, global_state())).retType == 0
    eventually(lambda: tight.car.metric("sidecar_client_connections", iface="ws") == 1)
    for client in (slow, other):
        await client.__aexit__()
