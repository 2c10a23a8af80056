"""Keys that ask for quotes without pause, met by the official SDK: the prices by which orders are judged are still there."""

from __future__ import annotations

import asyncio
import collections
import re

import pytest
from live import Stage
from rest_client import RestClient
from scenarios.scenario_clients import add_key, at_every_door, quote_pushes
from scenarios.scenario_table import Ask

SNAPSHOT = 3203
HSBC = {"market": 1, "code": "00005"}


def test_a_flood_of_snapshots_leaves_the_quotes_that_value_caps_need(stage: Stage) -> None:
    sandbox = stage.sandbox(limits=True)
    flood = stage.keys.add("flood", "qot:read")
    other = stage.keys.add("other", "qot:read")
    trader = stage.keys.add("trader", "acc:read", "trade:simulate", max_order_value=100_000)
    sidecar = stage.sidecar(sandbox.port)
    reader, bot = stage.sdk(sidecar.port, flood), stage.sdk(sidecar.port, trader)
    reader.open("quote", "quote")
    bot.open("trade", "trade")
    sandbox.set_price("HK.00700", "480")

    calls = [{"context": "quote", "method": "get_market_snapshot", "args": [["HK.00005"]], "kwargs": {}}] * 90
    answers = reader.together(calls)

    assert [answer.ok for answer in answers].count(True) == 40
    refused = {answer.code() for answer in answers if not answer.ok}
    assert refused == {"upstream_full"}
    text = next(answer.data for answer in answers if not answer.ok)
    assert re.search(r"20 of them are kept for judging orders, and the rest is used up; try again in \d+ s", text)
    assert len(sandbox.received(SNAPSHOT)) == 40

    told = RestClient(sidecar.doors["rest"], other).request("POST", "/api/snapshot", {"c2s": {"security_list": [HSBC]}})
    assert told.status == 503
    assert "upstream_full" in told.raw.decode()
    assert int(told.headers["retry-after"]) > 1

    placed = bot.place("HK.00700", 1, 100, order_type="MARKET")
    assert placed.ok, placed.data
    over = bot.place("HK.00700", 1, 400, order_type="MARKET")
    assert over.code() == "order_value"
    assert reader.call("quote", "get_global_state").ok


@pytest.mark.parametrize("audit", [{}, {"reads": True}], ids=["passed on", "each recorded"])
async def test_all_doors_and_keys_share_the_rest_and_other_quotes_go_on(stage: Stage, audit: dict[str, bool]) -> None:
    sandbox = await asyncio.to_thread(stage.sandbox, limits=True)
    keys = [add_key(stage.keys, name, "qot:read") for name in ("one", "two")]
    sidecar = await asyncio.to_thread(stage.app, sandbox.port, upstream={"snapshots_kept": 54}, audit=audit)
    snapshot = Ask("Qot_GetSecuritySnapshot", {"securityList": [HSBC]})
    async with at_every_door(sidecar, keys[0]) as one, at_every_door(sidecar, keys[1]) as two:
        clients = [*one.values(), *two.values()]
        answers = await asyncio.gather(*(client.ask(snapshot) for client in clients))
        others = await asyncio.gather(*(client.ask(quote_pushes()) for client in one.values()))
    assert collections.Counter(answer.code for answer in answers) == {None: 6, "upstream_full": len(clients) - 6}
    assert len(sandbox.received(SNAPSHOT)) == 6
    assert [answer.code for answer in others] == [None] * len(one)
    told = await asyncio.to_thread(sidecar.wait_audit, reason="upstream_full")
    assert told["outcome"] == "reject"
    assert told["key_id"] in ("one", "two")
