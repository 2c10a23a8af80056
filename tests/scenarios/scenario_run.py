"""Runs one scenario through one door, and says everything that was seen of it in a form that doors can be compared in."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from dataclasses import dataclass, replace
from typing import Any

from scenarios.scenario_doors import DOORS, Answer, Client, ClientGone, Driver, protobuf_body
from scenarios.scenario_frames import Tcp
from scenarios.scenario_states import EVENTS, STATES, Run, waiting_for_the_disk
from scenarios.scenario_table import Ask, Scenario
from scenarios.scenario_world import INDIVIDUAL, NEIGHBOUR, Frame, Mark, World, in_its_thread, until

from sidecar.listeners.refusals import NATIVE
from sidecar.policy.decision import Code

NOT_A_KEY = "fc_" + "0f" * 32
STRANGERS = ("<missing>", "<invalid>")
GONE = "no answer"


@dataclass(frozen=True)
class Seen:
    """What one door showed. `records`, `counted` and `frames` hold nothing that must differ between doors."""

    answer: Answer | None
    """None: the client had gone."""
    message: str
    """What the answer says, orders named as in the table."""
    reply: dict[str, Any]
    """OpenD's s2c as the client reads it, in the names of REST."""
    records: list[dict[str, Any]]
    decisions: list[str]
    """The decision ids of the records."""
    counted: dict[tuple[str, ...], float]
    frames: list[Frame]
    asked: Ask
    refused_at_the_door: bool

    @property
    def outcome(self) -> str:
        if self.answer is None:
            return GONE
        if self.answer.code is not None:
            return self.answer.code
        return "allowed" if self.answer.response.retType == 0 else "refused by OpenD"


async def run(world: World, scenario: Scenario, key_id: str, door: str) -> Seen:
    driver = DOORS.drivers[door]()
    port = world.ports[driver.listener]
    secret = {"its key": world.secrets[key_id], "nothing": None, "a key that was never made": NOT_A_KEY}[scenario.shows]
    state = Run(world, key_id)
    async with contextlib.AsyncExitStack() as ends:
        orders = await _place_for_the_neighbour(world, scenario, ends)
        since = await world.mark()
        if scenario.before_it_connects is not None:
            await ends.enter_async_context(STATES[scenario.before_it_connects](state))
            since = await world.mark()
        client = await driver.connect(port, secret)
        ends.push_async_callback(client.close)
        asked = scenario.ask
        if client.refused is not None:
            answer: Answer | None = client.refused
        else:
            await _do_what_happened_before(client, scenario, orders)
            asked = scenario.ask.naming(orders)
            # a client with a bad key is let in by some doors, and told why at every request: that no was recorded already
            if scenario.before_it_connects is None and not _rejects(await _now(world, since, key_id)):
                since = await world.mark()
            if scenario.once_connected is not None:
                await ends.enter_async_context(STATES[scenario.once_connected](state))
                await world.settled()
            answer = await _ask(world, scenario, client, asked, key_id)
        if answer is not None and answer.decision_id is not None:
            await _until_recorded(world, since, key_id, answer.decision_id)
        elif answer is None or (answer.by_closing and scenario.meanwhile is not None):
            await until(lambda: _rejects(world.audit(since, (key_id,))), "a record of what was not sent")
        frames = world.received(since)
        refused_at_the_door = client.refused is not None
    await _mended(world)
    records = _records(world, since, key_id, driver)
    counted = world.counted(since, (key_id, *STRANGERS), driver.iface)
    names = {id_: name for name, id_ in orders.items()}
    return Seen(
        answer=answer,
        message="" if answer is None else _named(answer.message, names),
        reply={} if answer is None else _named(answer.tree, names),
        records=[_common(record, names) for record in records],
        decisions=[record.get("decision_id", "") for record in records],
        counted=counted,
        frames=[(proto_id, _named(c2s, names)) for proto_id, c2s in frames],
        asked=asked,
        refused_at_the_door=refused_at_the_door,
    )


async def rehearse(
    world: World, scenario: Scenario, key_id: str, door: str
) -> tuple[tuple[Any, Any], Answer, list[Frame]]:
    """A dry run of the scenario's request: what the key had used before and after, what was told, what reached OpenD."""
    driver = DOORS.drivers[door]()
    secret = {"its key": world.secrets[key_id], "nothing": None, "a key that was never made": NOT_A_KEY}[scenario.shows]
    async with contextlib.AsyncExitStack() as ends:
        orders = await _place_for_the_neighbour(world, scenario, ends)
        client = await driver.connect(world.ports[driver.listener], secret)
        ends.push_async_callback(client.close)
        await _do_what_happened_before(client, scenario, orders)
        if scenario.once_connected is not None:
            await ends.enter_async_context(STATES[scenario.once_connected](Run(world, key_id)))
        since = await world.mark()
        before = world.used(key_id)
        answer = await client.ask(scenario.ask.naming(orders).dry())
        names = {id_: name for name, id_ in orders.items()}
        return (
            (before, world.used(key_id)),
            replace(answer, message=_named(answer.message, names)),
            world.received(since),
        )


async def _ask(world: World, scenario: Scenario, client: Client, asked: Ask, key_id: str) -> Answer | None:
    if scenario.meanwhile is None:
        return await client.ask(asked)
    event = EVENTS[scenario.meanwhile]
    async with waiting_for_the_disk(world) as (held, release):
        asking = asyncio.get_running_loop().create_task(client.ask(asked))
        waiting = asyncio.get_running_loop().create_task(held.wait())
        await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=8)
        waiting.cancel()
        assert held.is_set(), f"the order did not come as far as the disk: {asking}"
        await event(Run(world, key_id, client))
        release()
        try:
            return await asking
        except (ClientGone, asyncio.CancelledError):
            return None


async def _place_for_the_neighbour(world: World, scenario: Scenario, ends: contextlib.AsyncExitStack) -> dict[str, str]:
    """The orders that are another key's: `$theirs`."""
    orders: dict[str, str] = {}
    steps = [step for step in scenario.before if step.by]
    if steps:
        neighbour = await Tcp().connect(world.ports["tcp"], world.secrets[NEIGHBOUR])
        ends.push_async_callback(neighbour.close)
        for step in steps:
            answer = await neighbour.ask(step.ask)
            assert answer.code is None, answer.message
            orders[f"${step.by}"] = answer.order_id
    return orders


async def _do_what_happened_before(client: Client, scenario: Scenario, orders: dict[str, str]) -> None:
    for step in scenario.before:
        if not step.by:
            answer = await client.ask(step.ask.naming(orders))
            assert answer.code is None, f"what happened before was refused: {answer.message}"
            if answer.order_id:
                orders["$mine"] = answer.order_id


async def _mended(world: World) -> None:
    """As it was before: OpenD there, everything written."""
    if not world.sidecar.app.house.up:
        await in_its_thread(world.sandbox.start)
        await until(lambda: world.sidecar.app.house.up, "OpenD to be back")
    await world.settled()


async def _until_recorded(world: World, since: Mark, key_id: str, decision_id: str) -> None:
    def recorded() -> bool:
        lines = world.audit(since, (key_id, *STRANGERS))
        return any(record.get("decision_id") == decision_id for record in lines)

    if world.sidecar.app.recorder.audit_ok:
        await until(recorded, f"a record of decision {decision_id}")


async def _now(world: World, since: Mark, key_id: str) -> list[dict[str, Any]]:
    await world.settled()
    return world.audit(since, (key_id, *STRANGERS))


def _rejects(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["outcome"] == "reject"]


def _records(world: World, since: Mark, key_id: str, driver: Driver) -> list[dict[str, Any]]:
    lines = world.audit(since, (key_id, *STRANGERS))
    return [line for line in lines if line["iface"] == driver.iface]


def _common(record: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A record without what is its own. Orders are named as in the table; ids given by OpenD are `<given>`."""
    kept = {name: value for name, value in record.items() if name not in (*INDIVIDUAL, "policy")}
    if not kept["key_id"].startswith("<"):
        kept["key_id"] = "<its own>"
    if kept["outcome"] in ("success", "failure", "unknown"):
        for name in ("order_id", "order_id_ex"):
            if kept.get(name) not in (None, *names):
                kept[name] = "<given>"
    if "message" in kept:
        kept["message"] = at_any_moment(kept["message"])
    if names:
        kept.pop("args_hash", None)  # the request names an order that is each door's own; it is checked by itself
    return {name: _named(value, names) for name, value in kept.items()}


def at_any_moment(message: str) -> str:
    """Without how much others trade just now: what earlier scenarios left at the market ends while later ones run."""
    return re.sub(r"\d+(?= being (bought|sold))", "<so many>", message)


def _named(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _named(part, names) for name, part in value.items()}
    if isinstance(value, list):
        return [_named(part, names) for part in value]
    if isinstance(value, str):
        for id_, name in names.items():
            value = value.replace(id_, name)
    return value


def native_forms(door: str, code: str, *, begun: bool) -> tuple[Any, ...]:
    """What a refusal may be called in the words of the door's own protocol; none where it has none.

    `begun`: the key was good when the request came.
    """
    native = NATIVE[Code(code)]
    if door == "rest":
        return (native.http,)
    if door == "grpc":
        return (native.grpc,)
    if door != "mcp":
        return ()
    # key and size are HTTP's business there, and what is no JSON; the rest is the tool's answer
    if native.http == 413 or (native.http == 401 and not begun):
        return (native.http,)
    return (200, 400) if native.http == 400 else (200,)


def expected_args_hash(asked: Ask) -> str:
    """Over the request as protobuf as its client made it, but for the packetID, which is empty."""
    return hashlib.sha256(protobuf_body(asked, packet=(0, 0))).hexdigest()[:16]
