"""REST, gRPC and MCP clients of one key over real sockets: one session with OpenD, and one memory of what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import scenarios.scenario_grpc
import scenarios.scenario_mcp
import scenarios.scenario_rest
from live import LiveSandbox, LiveSidecar, Stage, eventually
from rest_client import RestClient, order
from scenarios.scenario_doors import DOORS, Client
from scenarios.scenario_table import Ask

SHARED = ("rest", "grpc", "mcp")
TRADER = ("qot:read", "acc:read", "trade:simulate")
GLOBAL_STATE, PLACE_ORDER = 1002, 2202
STATE = Ask("GetGlobalState", {"userID": 0})
LOADED = (scenarios.scenario_grpc, scenarios.scenario_mcp, scenarios.scenario_rest)


def place(price: float = 300, **more: Any) -> Ask:
    header = {"trdEnv": 0, "accID": 1001001, "trdMarket": 1}
    c2s = {"header": header, "trdSide": 1, "orderType": 1, "code": "00700", "qty": 100, "price": price, "secMarket": 1}
    return Ask("Trd_PlaceOrder", {**c2s, **more})


@asynccontextmanager
async def clients(sidecar: LiveSidecar, key: str) -> AsyncIterator[dict[str, Client]]:
    made = {name: await DOORS.drivers[name]().connect(sidecar.doors[name], key) for name in SHARED}
    try:
        yield made
    finally:
        for client in made.values():
            await client.close()


async def test_clients_of_one_key_share_one_session_through_every_door(stage: Stage, sandbox: LiveSandbox) -> None:
    ours, theirs = stage.keys.add("ours", *TRADER), stage.keys.add("theirs", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    async with clients(sidecar, ours) as mine, clients(sidecar, theirs) as others:
        asked = [client.ask(STATE) for each in (mine, others) for client in each.values() for _ in range(5)]
        assert [answer.response.retType for answer in await asyncio.gather(*asked)] == [0] * 30
        await asyncio.gather(*(client.ask(place(301 + n)) for n, client in enumerate(mine.values())))
    assert len({record.conn for record in sandbox.received(GLOBAL_STATE)}) == 2
    placed = sandbox.received(PLACE_ORDER)
    assert len(placed) == 3
    assert len({record.conn for record in placed}) == 1
    assert {record.c2s["packetID"]["connID"] for record in placed} == {placed[0].conn}
    assert len({record.c2s["packetID"]["serialNo"] for record in placed}) == 3


async def test_an_order_under_one_idempotency_key_is_sent_once_through_every_door_and_over_a_crash(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_orders_per_minute=1)
    sidecar = stage.sidecar(sandbox.port)
    async with clients(sidecar, key) as mine:
        answers = await asyncio.gather(*(client.ask(place().once("t")) for client in mine.values() for _ in range(3)))
        assert {answer.code for answer in answers} == {None}
        assert len({answer.order_id for answer in answers}) == 1
        for client in mine.values():
            assert (await client.ask(place(301).once("t"))).code == "idempotency_conflict"
            assert (await client.ask(place(301).once("other"))).code == "rate"
    sidecar.kill()
    sidecar.start()
    async with clients(sidecar, key) as mine:
        for client in mine.values():
            assert (await client.ask(place().once("t"))).order_id == answers[0].order_id
    assert len(sandbox.orders()) == 1


def test_a_repeat_says_that_it_is_one_and_a_timeout_says_that_nobody_knows(stage: Stage) -> None:
    sandbox = stage.sandbox(tick_interval=0, order_latency=60.0)
    bot = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port, upstream={"request_timeout": 0.5})
    client = RestClient(sidecar.doors["rest"], bot)
    sandbox.delays[PLACE_ORDER] = 1.5
    first = client.post("/api/order", order(), **{"Idempotency-Key": "t"})
    assert first.status == 503
    assert b"look at the order list" in first.raw
    sidecar.wait_audit(outcome="success")
    late = client.post("/api/order", order(), **{"Idempotency-Key": "t"})
    assert late.headers["idempotency-replayed"] == "true"
    assert late.s2c["order_id"]
    assert len(sandbox.orders()) == 1


def test_a_client_that_hangs_up_in_time_has_not_ordered(stage: Stage, sandbox: LiveSandbox) -> None:
    """The order waits for a price; by then its client has gone."""
    bot = stage.keys.add("bot", *TRADER, max_order_value=50_000)
    sidecar = stage.sidecar(sandbox.port)
    sandbox.delays[3203] = 0.8
    client = RestClient(sidecar.doors["rest"], bot)
    with pytest.raises(TimeoutError):
        client.request("POST", "/api/order", order(side=2), timeout=0.3)
    sidecar.wait_audit(reason="client_gone")
    assert sandbox.orders() == []


def test_a_session_is_given_back_when_its_key_is_revoked(stage: Stage, sandbox: LiveSandbox) -> None:
    bot = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    client = RestClient(sidecar.doors["rest"], bot)
    assert client.get("/api/global-state").status == 200
    assert sandbox.do(lambda: sandbox.sandbox.connections) == 2
    stage.keys.remove("bot")
    eventually(lambda: sandbox.do(lambda: sandbox.sandbox.connections) == 1, 5)
    assert client.get("/api/global-state").status == 401
