"""One key, orders through all doors at once: one rate and one daily value for all of them together, over a crash too."""

from __future__ import annotations

import asyncio
import collections
from dataclasses import dataclass
from typing import Any

import pytest
from live import PLACE_ORDER, LiveSandbox, Stage, eventually
from scenarios.scenario_clients import add_key, at_every_door, order
from scenarios.scenario_doors import Answer

FITS = 13
ROUNDS = 5
"""Orders through each door."""
WORTH = 400
"""HKD of one order."""


@dataclass(frozen=True)
class Cap:
    limits: dict[str, Any]
    code: str
    headroom: str


CAPS = {
    "rate": Cap({"max_orders_per_minute": FITS}, "rate", "max_orders_per_minute"),
    # not one cent short of another order
    "daily_value": Cap({"max_daily_value": WORTH * (FITS + 1) - 0.01}, "daily_value", "max_daily_value"),
}


def outcomes(answers: list[Answer]) -> collections.Counter[str]:
    return collections.Counter(
        answer.code or ("allowed" if answer.response.retType == 0 else "no") for answer in answers
    )


@pytest.mark.parametrize("cap", CAPS.values(), ids=CAPS)
async def test_orders_through_all_doors_at_once_use_one_cap_and_a_crash_forgets_none(
    cap: Cap, stage: Stage, sandbox: LiveSandbox
) -> None:
    key = add_key(stage.keys, "bot", "trade:simulate", **cap.limits)
    sidecar = await asyncio.to_thread(stage.sidecar, sandbox.port)

    async with at_every_door(sidecar, key) as clients:
        asking = [clients[door].ask(order()) for _ in range(ROUNDS) for door in clients]
        answers = await asyncio.gather(*asking)

    assert outcomes(answers) == {"allowed": FITS, cap.code: len(asking) - FITS}
    assert len(sandbox.orders()) == FITS
    left = cap.limits[cap.headroom] - FITS * (1 if cap.code == "rate" else WORTH)
    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit=cap.headroom) == pytest.approx(left)

    sidecar.kill()
    await asyncio.to_thread(sidecar.start)

    async with at_every_door(sidecar, key) as clients:
        again = await asyncio.gather(*(client.ask(order()) for client in clients.values()))
    assert outcomes(again) == {cap.code: len(clients)}
    assert len(sandbox.orders()) == FITS


async def test_orders_on_their_way_from_all_doors_when_it_crashes_are_used(stage: Stage, sandbox: LiveSandbox) -> None:
    """What became of them is unknown, so no later order may take their place."""
    cap = CAPS["daily_value"]
    key = add_key(stage.keys, "bot", "trade:simulate", **cap.limits)
    sidecar = await asyncio.to_thread(stage.sidecar, sandbox.port)
    sandbox.delays[PLACE_ORDER] = 30
    async with at_every_door(sidecar, key) as clients:
        asking = asyncio.gather(
            *(clients[door].ask(order()) for _ in range(ROUNDS) for door in clients), return_exceptions=True
        )
        await asyncio.to_thread(eventually, lambda: len(sandbox.orders()) == FITS, 10, "the orders that fit")
        sidecar.kill()
        unanswered = [answer for answer in await asking if not isinstance(answer, Answer)]
    assert len(unanswered) >= FITS
    sandbox.delays.clear()
    await asyncio.to_thread(sidecar.start)

    async with at_every_door(sidecar, key) as clients:
        again = await asyncio.gather(*(client.ask(order()) for client in clients.values()))
    assert outcomes(again) == {cap.code: len(clients)}
    assert len(sandbox.orders()) == FITS


@pytest.mark.parametrize("cap", CAPS.values(), ids=CAPS)
async def test_orders_from_door_to_door_one_after_the_other_use_one_cap(
    cap: Cap, stage: Stage, sandbox: LiveSandbox
) -> None:
    key = add_key(stage.keys, "bot", "trade:simulate", **cap.limits)
    sidecar = await asyncio.to_thread(stage.app, sandbox.port)
    async with at_every_door(sidecar, key) as clients:
        doors = list(clients.values())
        answers = [await doors[number % len(doors)].ask(order()) for number in range(FITS + 2 * len(doors))]
    assert [answer.code for answer in answers] == [None] * FITS + [cap.code] * (2 * len(doors))
    assert len(sandbox.orders()) == FITS


async def test_what_opend_refuses_through_one_door_is_given_back_to_the_others(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = add_key(stage.keys, "bot", "trade:simulate", max_daily_value=WORTH * 2)
    sidecar = await asyncio.to_thread(stage.app, sandbox.port)
    async with at_every_door(sidecar, key) as clients:
        for client in clients.values():
            odd_lot = await client.ask(order(qty=101))
            assert odd_lot.code is None
            assert odd_lot.response.retType != 0, odd_lot
        doors = list(clients.values())
        answers = await asyncio.gather(*(client.ask(order()) for client in doors))
    assert outcomes(answers) == {"allowed": 2, "daily_value": len(doors) - 2}


async def test_one_idempotency_key_is_one_order_through_all_doors_that_know_it(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = add_key(stage.keys, "bot", "trade:simulate")
    sidecar = await asyncio.to_thread(stage.app, sandbox.port)
    once = order().once("the-same")
    async with at_every_door(sidecar, key) as clients:
        asking = [clients[door].ask(once) for _ in range(3) for door in ("rest", "grpc", "mcp")]
        answers = await asyncio.gather(*asking)
    assert len(sandbox.orders()) == 1
    assert {answer.code for answer in answers} == {None}
    assert len({answer.order_id for answer in answers}) == 1, "each was told of the one order"
