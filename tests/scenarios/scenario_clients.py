"""One client for each door, all with one key, and the requests they make. Expects nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import scenarios.scenario_grpc
import scenarios.scenario_mcp
import scenarios.scenario_rest
import scenarios.scenario_websocket  # noqa: F401 - they register their doors
from live import KeysFile, LiveApp, LiveSidecar
from scenarios.scenario_doors import DOORS, Client
from scenarios.scenario_table import Ask

from sidecar.keys.secret import ws_hash_of

PAPER_HK, PAPER_US = 1001001, 1001002
Clients = dict[str, Client]
"""By door."""


def add_key(keys: KeysFile, key_id: str, *scopes: str, **limits: Any) -> str:
    """A key that is good at every door; its secret."""
    secret = keys.add(key_id, *scopes, **limits)
    keys.change(key_id, ws_hash=ws_hash_of(secret))
    return secret


@contextlib.asynccontextmanager
async def at_every_door(sidecar: LiveSidecar | LiveApp, key: str) -> AsyncIterator[Clients]:
    """Connected with one key through every door; none may be refused."""
    ports = {"tcp": sidecar.port, **sidecar.doors}
    async with contextlib.AsyncExitStack() as ends:
        clients: Clients = {}
        for name, driver in DOORS.drivers.items():
            client = await driver().connect(ports[driver.listener], key)
            ends.push_async_callback(client.close)
            assert client.refused is None, (name, client.refused)
            clients[name] = client
        yield clients


def order(*, price: float = 4.0, qty: float = 100.0, acc_id: int = PAPER_HK, **c2s: Any) -> Ask:
    """A paper order for Tencent, or for Apple where the account is the US one; at 4 it rests."""
    american = acc_id == PAPER_US
    market = 2 if american else 1
    return Ask(
        "Trd_PlaceOrder",
        {
            "header": {"trdEnv": 0, "accID": acc_id, "trdMarket": market},
            "trdSide": 1, "orderType": 1, "code": "AAPL" if american else "00700", "qty": qty, "price": price,
            "secMarket": market, **c2s,
        },
    )  # fmt: skip


def account_pushes(*acc_ids: int) -> Ask:
    return Ask("Trd_SubAccPush", {"accIDList": list(acc_ids)})


def quote_pushes(code: str = "00700") -> Ask:
    """Subscribe to the basic quote, and to its pushes."""
    return Ask(
        "Qot_Sub",
        {
            "securityList": [{"market": 1, "code": code}],
            "subTypeList": [1],
            "isSubOrUnSub": True,
            "isRegOrUnRegPush": True,
        },
    )


async def all_of(*asking: Any) -> list[Any]:
    return list(await asyncio.gather(*asking))
