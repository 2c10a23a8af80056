"""What can be the matter with a sidecar, by the names the tables use: provoked inside a running one, and mended again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from raw_client import PAPER_HK
from scenarios.scenario_doors import Client
from scenarios.scenario_frames import Tcp
from scenarios.scenario_world import World, in_its_thread, until

from sidecar.errors import RecordError
from sidecar.policy.trading import Standing, TradingState
from sidecar.sandbox.sessions import MarketState


@dataclass(frozen=True)
class Run:
    """One scenario at one door."""

    world: World
    key_id: str
    client: Client | None = None


State = Callable[[Run], contextlib.AbstractAsyncContextManager[None]]
STATES: dict[str, State] = {}
Event = Callable[[Run], Awaitable[None]]
EVENTS: dict[str, Event] = {}


def _state(name: str) -> Callable[[Callable[[Run], AsyncIterator[None]]], None]:
    def note(make: Callable[[Run], AsyncIterator[None]]) -> None:
        STATES[name] = contextlib.asynccontextmanager(make)

    return note


def _event(name: str) -> Callable[[Event], Event]:
    def note(act: Event) -> Event:
        EVENTS[name] = act
        return act

    return note


@contextlib.asynccontextmanager
async def replaced(world: World, owner: Any, name: str, value: Any) -> AsyncIterator[Any]:
    """An attribute of a part of the sidecar, in the sidecar's own thread."""
    before = getattr(owner, name)
    world.sidecar.do(setattr, owner, name, value)
    try:
        yield before
    finally:
        world.sidecar.do(setattr, owner, name, before)


@_state("keys.json has been unreadable for too long")
async def _stale(run: Run) -> AsyncIterator[None]:
    async with replaced(run.world, run.world.sidecar.app.keys, "broken_since", time.monotonic() - 1e6):
        yield


def _halted(
    run: Run, key_id: str | None, state: TradingState = TradingState.HALTED, breaker: str = ""
) -> Callable[[], None]:
    """Halts, at a fixed time so that every door is told the same; what ends it."""
    states = run.world.sidecar.app.states
    since = datetime(2026, 1, 5, 10, 41, tzinfo=UTC)
    run.world.sidecar.do(states._put, Standing(state, key_id, since, "fat finger", "the owner", breaker))
    return lambda: run.world.sidecar.do(states._put, Standing(key_id=key_id))


@_state("trading is halted")
async def _all_halted(run: Run) -> AsyncIterator[None]:
    resume = _halted(run, None)
    try:
        yield
    finally:
        resume()


@_state("its key is halted")
async def _key_halted(run: Run) -> AsyncIterator[None]:
    resume = _halted(run, run.key_id)
    try:
        yield
    finally:
        resume()


@_state("a breaker has halted its key")
async def _tripped(run: Run) -> AsyncIterator[None]:
    resume = _halted(run, run.key_id, breaker="refusals_in_a_row")
    try:
        yield
    finally:
        resume()


@_state("its key may only shrink positions")
async def _reducing(run: Run) -> AsyncIterator[None]:
    resume = _halted(run, run.key_id, TradingState.REDUCING)
    try:
        yield
    finally:
        resume()


@_state("another key is halted")
async def _other_halted(run: Run) -> AsyncIterator[None]:
    resume = _halted(run, "somebody-else")
    try:
        yield
    finally:
        resume()


@_event("its key is halted")
async def _is_halted(run: Run) -> None:
    _halted(run, run.key_id)


@_state("what is left of the account's changes is kept for cancels")
async def _changes_used_up(run: Run) -> AsyncIterator[None]:
    budget = run.world.sidecar.app.changes
    sent = {PAPER_HK: deque([(time.monotonic(), "")] * (budget.limit.most - budget.limit.kept))}
    async with replaced(run.world, budget, "_sent", sent):
        yield


@_state("the sidecar cancels every order of the account")
async def _clearing(run: Run) -> AsyncIterator[None]:
    changes = run.world.sidecar.app.changes
    async with replaced(run.world, changes, "_sent", {}):  # as if no scenario had changed an order lately
        with changes.reserved(PAPER_HK, None):
            yield


@_state("the clock has jumped")
async def _clock(run: Run) -> AsyncIterator[None]:
    async with replaced(run.world, run.world.sidecar.app.ledger, "clock_ok", lambda now: False):
        yield


@_state("the audit cannot be written")
async def _no_audit(run: Run) -> AsyncIterator[None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise RecordError("audit_unavailable", "the audit cannot be written: no space left on device")

    recorder = run.world.sidecar.app.recorder
    async with replaced(run.world, recorder._log, "append", refuse):
        yield
    await until(lambda: recorder.audit_ok, "the audit to be written again")


@_state("the ledger cannot be written")
async def _no_ledger(run: Run) -> AsyncIterator[None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise RecordError("ledger_unavailable", "the ledger cannot be written: disk I/O error")

    recorder = run.world.sidecar.app.recorder
    async with replaced(run.world, recorder._store, "commit", refuse):
        yield
    await until(lambda: recorder.ledger_ok, "the ledger to be written again")


@_state("the market is in its lunch break")
async def _lunch(run: Run) -> AsyncIterator[None]:
    sandbox, states = run.world.sandbox, run.world.sidecar.app.look_ups.market_states
    sandbox.set_market_state("HK", MarketState.REST)
    run.world.sidecar.do(states.forget)
    try:
        yield
    finally:
        sandbox.set_market_state("HK", None)
        run.world.sidecar.do(states.forget)


@_state("OpenD does not say what is held")
async def _no_holdings(run: Run) -> AsyncIterator[None]:
    async def nothing(account: Any, security: Any) -> None:
        return None

    async with replaced(run.world, run.world.sidecar.app.look_ups.positions, "get", nothing):
        yield


@_state("OpenD is away")
async def _away(run: Run) -> AsyncIterator[None]:
    house = run.world.sidecar.app.house
    await in_its_thread(run.world.sandbox.stop)
    await until(lambda: not house.up, "the sidecar to notice")
    try:
        yield
    finally:
        await in_its_thread(run.world.sandbox.start)
        await until(lambda: house.up, "OpenD to be back")


@_state("its key holds all the connections it may")
async def _full(run: Run) -> AsyncIterator[None]:
    world = run.world
    other = await Tcp().connect(world.ports["tcp"], world.secrets[run.key_id])
    async with replaced(world, world.sidecar.app.pool, "_max_per_key", 1):
        yield
    await other.close()


@_state("it has just cancelled 120 times")
async def _cancelled(run: Run) -> AsyncIterator[None]:
    def cancel() -> None:
        for _ in range(120):
            run.world.sidecar.app.ledger.note_cancel(run.key_id, time.time())

    run.world.sidecar.do(cancel)
    yield


@_state("its key has been frozen")
async def _was_frozen(run: Run) -> AsyncIterator[None]:
    await _frozen(run)
    yield


@_state("its key has been removed")
async def _was_removed(run: Run) -> AsyncIterator[None]:
    await _removed(run)
    yield


@_event("its key is removed from keys.json")
async def _removed(run: Run) -> None:
    keys, sidecar = run.world.stage.keys, run.world.sidecar
    keys.remove(run.key_id)
    sidecar.do(sidecar.app.rereading.reload)


@_event("its key is frozen")
async def _frozen(run: Run) -> None:
    keys, sidecar = run.world.stage.keys, run.world.sidecar
    keys.change(run.key_id, allowed_machines=[])
    sidecar.do(sidecar.app.rereading.reload)


@_event("its client hangs up")
async def _hangs_up(run: Run) -> None:
    assert run.client is not None
    await run.client.leave()
    await asyncio.sleep(0.25)  # for the sidecar to hear of it; not every door counts its clients


@_event("OpenD goes away")
async def _goes(run: Run) -> None:
    await in_its_thread(run.world.sandbox.stop)
    await until(lambda: not run.world.sidecar.app.house.up, "the sidecar to notice")


@contextlib.asynccontextmanager
async def waiting_for_the_disk(world: World) -> AsyncIterator[tuple[asyncio.Event, Callable[[], None]]]:
    """Orders of this sidecar are held back once they are on disk: an event that one is, and what lets them go on."""
    loop, held = asyncio.get_running_loop(), asyncio.Event()
    go = False
    recorder = world.sidecar.app.recorder
    commit = recorder.commit

    async def slowly(record: Any) -> None:
        await commit(record)
        loop.call_soon_threadsafe(held.set)
        while not go:
            await asyncio.sleep(0.003)

    def release() -> None:
        nonlocal go
        go = True

    async with replaced(world, recorder, "commit", slowly):
        try:
            yield held, release
        finally:
            release()
