"""Two keys at every streaming door at once: each is pushed what is its own, and nothing of the other's, until it is revoked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from live import LiveApp, LiveSandbox, Stage
from scenarios.scenario_clients import PAPER_HK, PAPER_US, account_pushes, add_key, at_every_door, order, quote_pushes
from scenarios.scenario_streams import FILL, ORDER, QUOTE, STREAMING, Ear, Listening, listening

TENCENT, HSBC = "00700", "00005"
HELD = 2.0
"""Seconds for which a push waits that may turn out to be the key's own."""


@pytest.fixture
def sandbox(stage: Stage) -> LiveSandbox:
    """With enough on offer for every order that a test means to be filled at once."""
    made = stage.sandbox(tick_interval=0, relaxed_paper=True)
    made.set_price("HK.00700", "480", 1_000_000)
    made.set_price("US.AAPL", "200", 1_000_000)
    return made


async def running(stage: Stage, sandbox: LiveSandbox) -> LiveApp:
    return await asyncio.to_thread(stage.app, sandbox.port)


async def until(holds: Callable[[], Any], what: str, timeout: float = 8.0) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.01)


async def subscribe(one: Listening, *doors: str, ask: Any) -> None:
    for door in doors:
        answer = await one.clients[door].ask(ask)
        assert answer.code is None, (door, answer)
        assert answer.response.retType == 0, (door, answer)


async def placed(one: Listening, door: str, **terms: Any) -> str:
    answer = await one.clients[door].ask(order(**terms))
    assert answer.code is None, (door, answer)
    assert answer.response.retType == 0, (door, answer)
    return answer.order_id


# -- orders and fills --------------------------------------------------------------------------------------------------


async def test_keys_for_different_accounts_are_pushed_the_orders_and_fills_of_their_own(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    hongkong = add_key(stage.keys, "hongkong", "acc:read", allowed_acc_ids=[PAPER_HK])
    american = add_key(stage.keys, "american", "acc:read", allowed_acc_ids=[PAPER_US])
    trader = add_key(stage.keys, "trader", "trade:simulate")
    sidecar = await running(stage, sandbox)
    async with (
        listening(sidecar, hongkong) as left,
        listening(sidecar, american) as right,
        at_every_door(sidecar, trader) as trading,
    ):
        for one in (left, right):
            # both ask for both, as the official SDK does with every account it was told of
            await subscribe(one, *STREAMING, ask=account_pushes(PAPER_HK, PAPER_US))
        bought: dict[int, set[str]] = {PAPER_HK: set(), PAPER_US: set()}
        for door, client in trading.items():
            for acc_id, price in ((PAPER_HK, 600.0), (PAPER_US, 300.0)):
                answer = await client.ask(order(acc_id=acc_id, price=price, qty=100.0))
                assert answer.response.retType == 0, (door, answer)
                bought[acc_id].add(answer.order_id)
        for one, acc_id in ((left, PAPER_HK), (right, PAPER_US)):
            for ear in one.ears.values():
                await until(
                    lambda ear=ear, acc_id=acc_id: ear.filled() >= bought[acc_id],
                    f"the fills of {acc_id} at {ear.door}: {bought}",
                )
        await asyncio.sleep(0.3)

    for one, acc_id in ((left, PAPER_HK), (right, PAPER_US)):
        for ear in one.ears.values():
            assert ear.accounts() == {acc_id}, ear.door
            assert ear.orders() == ear.filled() == bought[acc_id], ear.door


async def test_keys_that_do_not_read_the_account_are_pushed_their_own_orders_whichever_door_placed_them(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    keys = {name: add_key(stage.keys, name, "trade:simulate") for name in ("left", "right")}
    sidecar = await running(stage, sandbox)
    async with listening(sidecar, keys["left"]) as left, listening(sidecar, keys["right"]) as right:
        for one in (left, right):
            await subscribe(one, *STREAMING, ask=account_pushes(PAPER_HK))
        own: dict[str, set[str]] = {"left": set(), "right": set()}
        filled: dict[str, set[str]] = {"left": set(), "right": set()}
        for door in left.clients:
            for name, one in (("left", left), ("right", right)):
                own[name].add(await placed(one, door, price=4.0))
                bought = await placed(one, door, price=600.0)
                own[name].add(bought)
                filled[name].add(bought)
        for name, one in (("left", left), ("right", right)):
            for ear in one.ears.values():
                await until(
                    lambda ear=ear, name=name: ear.orders() >= own[name] and ear.filled() >= filled[name],
                    f"the pushes of {name} at {ear.door}",
                )
        await asyncio.sleep(HELD + 0.3)

    for name, one in (("left", left), ("right", right)):
        for ear in one.ears.values():
            assert ear.orders() == own[name], (name, ear.door)
            assert ear.filled() == filled[name], (name, ear.door)


async def test_a_key_that_subscribed_through_one_door_is_pushed_nothing_at_connections_that_did_not(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    """TCP and WebSocket clients have a subscription each; REST and gRPC share one for each key."""
    key = add_key(stage.keys, "bot", "acc:read", "trade:simulate")
    sidecar = await running(stage, sandbox)
    async with listening(sidecar, key) as bot:
        await subscribe(bot, "rest", ask=account_pushes(PAPER_HK))
        bought = await placed(bot, "mcp", price=600.0)
        for door in ("rest", "grpc"):
            await until(lambda door=door: bot.ears[door].filled() == {bought}, f"the fill at {door}")
        await asyncio.sleep(0.3)
    assert {door: len(ear.of(ORDER, FILL)) for door, ear in bot.ears.items() if door not in ("rest", "grpc")} == {
        "tcp": 0, "ws-frames": 0, "ws-js": 0,
    }  # fmt: skip


# -- quotes ------------------------------------------------------------------------------------------------------------


async def test_quotes_subscribed_over_rest_are_seen_by_that_keys_streams_alone(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    keys = {name: add_key(stage.keys, name, "qot:read") for name in ("left", "right")}
    sidecar = await running(stage, sandbox)
    async with listening(sidecar, keys["left"]) as left, listening(sidecar, keys["right"]) as right:
        await subscribe(left, "rest", ask=quote_pushes(TENCENT))
        await subscribe(right, "grpc", ask=quote_pushes(HSBC))
        await subscribe(right, "tcp", "ws-js", ask=quote_pushes(HSBC))
        for number in range(5):
            await asyncio.to_thread(sandbox.set_price, "HK.00700", f"{480 + number}")
            await asyncio.to_thread(sandbox.set_price, "HK.00005", f"{60 + number}")
        for one, doors in ((left, ("rest", "grpc")), (right, ("rest", "grpc", "tcp", "ws-js"))):
            for door in doors:
                await until(lambda one=one, door=door: len(one.ears[door].of(QUOTE)) >= 5, f"quotes at {door}")
        await asyncio.sleep(0.3)

    nothing: set[str] = set()
    assert {door: ear.quoted() for door, ear in left.ears.items()} == {
        "tcp": nothing, "ws-frames": nothing, "ws-js": nothing, "rest": {TENCENT}, "grpc": {TENCENT},
    }  # fmt: skip
    assert {door: ear.quoted() for door, ear in right.ears.items()} == {
        "tcp": {HSBC}, "ws-frames": nothing, "ws-js": {HSBC}, "rest": {HSBC}, "grpc": {HSBC},
    }  # fmt: skip


# -- the end of a key --------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def prices_moving(sandbox: LiveSandbox) -> AsyncIterator[None]:
    """Tencent changes its price every 20 ms."""

    async def move() -> None:
        number = 0
        while True:
            number += 1
            await asyncio.to_thread(sandbox.set_price, "HK.00700", f"{480 + number % 10}")
            await asyncio.sleep(0.02)

    moving = asyncio.get_running_loop().create_task(move())
    try:
        yield
    finally:
        moving.cancel()


def last_quote(ear: Ear) -> float:
    return max((at for proto_id, _, at in ear.pushes if proto_id == QUOTE), default=0.0)


ENDS: dict[str, tuple[Callable[[Stage], None], str]] = {
    "revoked": (lambda stage: stage.keys.remove("left"), "key_revoked"),
    "frozen": (lambda stage: stage.keys.change("left", allowed_machines=[]), "key_frozen"),
    "bound to another address": (lambda stage: stage.keys.change("left", allowed_ips=["10.0.0.0/8"]), "ip_not_allowed"),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_key_that_goes_bad_is_pushed_nothing_within_a_second_and_the_other_key_goes_on(
    end: str, stage: Stage, sandbox: LiveSandbox
) -> None:
    keys = {name: add_key(stage.keys, name, "qot:read") for name in ("left", "right")}
    sidecar = await running(stage, sandbox)
    async with listening(sidecar, keys["left"]) as left, listening(sidecar, keys["right"]) as right:
        for one in (left, right):
            await subscribe(one, "tcp", "ws-frames", "ws-js", "rest", ask=quote_pushes())
        async with prices_moving(sandbox):
            for one in (left, right):
                for ear in one.ears.values():
                    await until(lambda ear=ear: ear.of(QUOTE), f"quotes at {ear.door}")
            act, code = ENDS[end]
            act(stage)
            revoked = time.monotonic()
            await asyncio.sleep(1.6)

            for ear in left.ears.values():
                assert last_quote(ear) - revoked < 1.0, f"{ear.door} was still pushed after a second"
                if ear.door != "tcp":
                    assert ear.ended_at is not None, f"the stream of {ear.door} did not end"
                    assert ear.ended_at - revoked < 1.0, ear.door
                    assert f"[sidecar:{code}]" in ear.reason, (ear.door, ear.reason)
            for ear in right.ears.values():
                assert ear.ended_at is None, (ear.door, ear.reason)
                assert time.monotonic() - last_quote(ear) < 0.5, f"{ear.door} of the other key goes on"


async def test_a_key_that_loses_a_scope_keeps_its_streams_and_is_pushed_nothing_of_it(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = add_key(stage.keys, "bot", "qot:read", "acc:read", "trade:simulate")
    sidecar = await running(stage, sandbox)
    async with listening(sidecar, key) as bot:
        await subscribe(bot, "tcp", "ws-frames", "ws-js", "rest", ask=quote_pushes())
        await subscribe(bot, "tcp", "ws-frames", "ws-js", "rest", ask=account_pushes(PAPER_HK))
        async with prices_moving(sandbox):
            for ear in bot.ears.values():
                await until(lambda ear=ear: ear.of(QUOTE), f"quotes at {ear.door}")
            stage.keys.change("bot", scopes=["acc:read", "trade:simulate"])
            narrowed = time.monotonic()
            await asyncio.sleep(1.3)
            bought = await placed(bot, "rest", price=600.0)
            for ear in bot.ears.values():
                await until(lambda ear=ear: ear.filled() == {bought}, f"the fill at {ear.door}")
                assert last_quote(ear) - narrowed < 1.0, ear.door
                assert ear.ended_at is None, (ear.door, ear.reason)


async def test_a_key_that_expires_is_pushed_nothing_within_a_second(stage: Stage, sandbox: LiveSandbox) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
    key = add_key(stage.keys, "bot", "qot:read", expires_at=expires.isoformat())
    sidecar = await running(stage, sandbox)
    async with listening(sidecar, key) as bot:
        await subscribe(bot, "tcp", "ws-frames", "ws-js", "rest", ask=quote_pushes())
        async with prices_moving(sandbox):
            for ear in bot.ears.values():
                await until(lambda ear=ear: ear.of(QUOTE), f"quotes at {ear.door}")
            until_then = expires.timestamp() - time.time()
            assert until_then > 0.2, "the machine is too slow for this test"
            expired = time.monotonic() + until_then
            await asyncio.sleep(until_then + 1.5)
            for ear in bot.ears.values():
                assert last_quote(ear) < expired + 0.2, f"{ear.door}: each push is judged by the clock"
                if ear.door != "tcp":
                    assert ear.ended_at is not None, ear.door
                    assert ear.ended_at < expired + 1.2, f"{ear.door}: every second it is looked at"
