"""A client's requests are judged in turns. Whatever happens between two of them: nothing is lost, and nothing told twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from faults_world import BOB, CARL, RawClient, World, about_account, change, order, running

from sidecar.listener_settings import WebSocketListener
from sidecar.relay.relay import Relay
from sidecar.settings import Upstream
from sidecar.wire import frame

MODIFY, ORDERS = 2205, 2201
MANY = 60
ROOM = Upstream(connect_timeout=2.0, changes=10_000)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """One request a turn; OpenD takes as many changes as are sent."""
    monkeypatch.setattr("sidecar.relay.relay.TURN", 0.0)
    async with running(tmp_path, upstream=ROOM, websocket=WebSocketListener(port=0), calm=False) as made:
        yield made


def relay_of(world: World) -> Relay:
    (client,) = world.app.doors.named[0][1].clients  # type: ignore[attr-defined]  # its TCP door
    return client._relay


async def at_the_market(client: RawClient) -> list[int]:
    """The ids of many orders of the client's."""
    answers = [await client.place(price=round(20 + number * 0.05, 2)) for number in range(MANY)]
    return [answer.response.s2c.orderID for answer in answers]


def cancels(client: RawClient, ids: list[int]) -> bytes:
    return b"".join(
        frame.build(MODIFY, 50_000 + at, change(client.conn_id, 50_000 + at, order_id=each).SerializeToString())
        for at, each in enumerate(ids)
    )


def refused_reads(count: int) -> bytes:
    body = about_account(ORDERS).SerializeToString()
    return b"".join(frame.build(ORDERS, serial, body) for serial in range(200, 200 + count))


def cancels_at_opend(world: World) -> int:
    return len(world.sandbox.received.of(MODIFY))


async def answers(client: RawClient, count: int) -> int:
    """How many came before the connection ended, or until there are `count`."""
    came = 0
    while came < count:
        try:
            await client.receive()
        except (OSError, Exception) as ended:  # `Closed`, or nothing more for five seconds
            assert type(ended).__name__ in ("Closed", "TimeoutError"), ended
            break
        came += 1
    return came


async def until(look: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not look():
            await asyncio.sleep(0)


@pytest.mark.parametrize("first", ["nothing", "an order"])
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_cancels_that_a_client_sent_before_it_left_are_all_carried_out(
    world: World, how: str, first: str
) -> None:
    client = await world.client(BOB)
    ids = await at_the_market(client)
    relay = relay_of(world)
    ahead = b"" if first == "nothing" else frame.build(2202, 40_000, client.order(price=19).SerializeToString())
    client.send_bytes(ahead + cancels(client, ids))
    await until(lambda: relay.deciding)
    client.writer.close() if how == "close" else client.writer.transport.abort()
    await until(lambda: cancels_at_opend(world) == MANY)
    await until(lambda: relay._session is None, 10)

    def recorded() -> set[str]:
        return {line["decision_id"] for line in world.audit() if line["endpoint"].startswith("modify_order")}

    await world.until(lambda: len(recorded()) == MANY)


async def test_so_are_those_of_a_websocket_client_that_says_goodbye(world: World) -> None:
    client = await world.client(BOB)
    ids = await at_the_market(client)
    door = f"ws://127.0.0.1:{world.app.doors.ports['websocket'][0]}/"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(door, headers={"Authorization": f"Bearer {BOB}"}) as socket,
    ):
        for at, each in enumerate(ids):
            cancel = change(1, 50_000 + at, order_id=each)
            await socket.send_bytes(frame.build(MODIFY, 50_000 + at, cancel.SerializeToString()))
    await until(lambda: cancels_at_opend(world) == MANY)


async def test_every_request_before_one_that_is_no_frame_is_answered(world: World) -> None:
    client = await world.client(CARL)
    client.send_bytes(refused_reads(500) + b"garbage garbage garbage garbage garbage garbage")
    assert await answers(client, 501) == 500
    assert await client.ended()


async def test_when_opend_goes_between_two_turns_every_request_is_answered(world: World) -> None:
    client = await world.client(CARL)
    relay = relay_of(world)
    client.send_bytes(refused_reads(600))
    await until(lambda: relay._unjudged)
    assert relay._session is not None
    relay._session.fail("OpenD closed it")
    assert await answers(client, 601) == 600
    assert await client.ended()


async def test_when_opend_goes_while_cancels_are_carried_out_none_is_recorded_that_was_not_sent(world: World) -> None:
    client = await world.client(BOB)
    ids = await at_the_market(client)
    relay, before = relay_of(world), len(world.audit())
    client.send_bytes(frame.build(2202, 40_000, client.order(price=19).SerializeToString()) + cancels(client, ids))
    await until(lambda: cancels_at_opend(world) > 3)
    assert relay._session is not None
    relay._session.fail("OpenD closed it")
    assert await client.ended()
    await asyncio.sleep(0.3)
    lines = [line for line in world.audit()[before:] if line["endpoint"].startswith("modify_order")]
    told = Counter(line["decision_id"] for line in lines)
    without_outcome = [line for line in lines if line["outcome"] == "allow" and told[line["decision_id"]] == 1]
    assert without_outcome == []


async def test_an_error_of_ours_between_two_turns_closes_the_connection(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await world.client(CARL)
    relay = relay_of(world)
    real, calls = relay._take, Counter[str]()

    def breaks(chunk: bytes, head: Any) -> None:
        calls["take"] += 1
        if calls["take"] == 100:
            raise RuntimeError("a mistake")
        real(chunk, head)

    monkeypatch.setattr(Relay, "_take", lambda self, chunk, head: breaks(chunk, head))
    client.send_bytes(refused_reads(600))
    assert await answers(client, 600) == 99
    assert await client.ended()
    assert any("could not be judged" in line["event"] for line in world.operator_log)


async def test_requests_of_one_chunk_reach_opend_in_their_order_over_all_turns(world: World) -> None:
    client = await world.client(BOB)
    ids = await at_the_market(client)
    mixed = []
    for at, each in enumerate(ids):
        mixed.append(
            frame.build(
                2202,
                60_000 + 2 * at,
                order(conn_id=client.conn_id, packet_serial=9_000 + at, price=19).SerializeToString(),
            )
        )
        cancel = change(client.conn_id, 70_000 + at, order_id=each)
        mixed.append(frame.build(MODIFY, 60_001 + 2 * at, cancel.SerializeToString()))
    before = len(list(world.sandbox.received))
    client.send_bytes(b"".join(mixed))
    await until(lambda: cancels_at_opend(world) == MANY, 20)
    came = [one.proto_id for one in list(world.sandbox.received)[before:] if one.proto_id in (2202, MODIFY)]
    assert came == [2202, MODIFY] * MANY


async def test_cancels_behind_an_order_are_carried_out_though_the_client_left_and_all_else_is_answered(
    world: World,
) -> None:
    client = await world.client(BOB)
    ids = await at_the_market(client)
    relay = relay_of(world)
    world.sandbox.settings.delays[2202] = 0.5
    client.send(2202, client.order(price=18))  # its answer comes while the next is decided
    await world.until(lambda: len(world.sandbox.received.of(2202)) == MANY + 1)
    hold = asyncio.Event()
    real = relay._gate.decide

    async def slowly(asked: Any, obstacle: Any) -> Any:
        await hold.wait()
        return await real(asked, obstacle)

    relay._gate.decide = slowly  # type: ignore[method-assign]
    client.send_bytes(frame.build(2202, 40_000, client.order(price=19).SerializeToString()) + cancels(client, ids))
    await until(lambda: len(relay._waiting or ()) == MANY + 1)
    client.writer.transport.abort()
    await asyncio.sleep(1)
    hold.set()
    await until(lambda: cancels_at_opend(world) == MANY)
    await until(lambda: relay._session is None, 15)
    assert len(world.sandbox.received.of(2202)) == MANY + 1, "the order of a client that left is not sent"
