"""What `explain` says of every order of the tables is what the sidecar then decides of it, word for word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from live import Stage
from scenarios.scenario_frames import Tcp
from scenarios.scenario_run import _do_what_happened_before, _mended, _place_for_the_neighbour, at_any_moment
from scenarios.scenario_states import STATES, Run
from scenarios.scenario_table import ALLOWED, OPENDS_NO, Scenario, scenarios
from scenarios.scenario_world import World, key_name, keys_of, make_world

from sidecar import recorder
from sidecar import writer as recorders_writer
from sidecar.upstream import house

DOOR = "explained"
ORDERS = ("Trd_PlaceOrder", "Trd_PlaceComboOrder", "Trd_ModifyOrder")
NOT_TOLD = {
    "audit_unavailable": "known only once a record cannot be written",
    "ledger_unavailable": "known only once a reservation cannot be written",
    "upstream_full": "of connections, not of the order; what is left of an account's changes is told",
    "key_revoked": "there is no such key to explain anything of",
    "key_missing": "no key, no explanation",
    "key_unknown": "no key, no explanation",
}
TABLE = list(scenarios())


def _is_told(scenario: Scenario) -> bool:
    if scenario.ask.name not in ORDERS or scenario.meanwhile or scenario.ask.extras:
        return False
    return scenario.expect not in NOT_TOLD or "account" in (scenario.once_connected or "")


TOLD = [number for number, scenario in enumerate(TABLE) if _is_told(scenario)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, Stage(tmp_path_factory.mktemp("explained")) as stage:
        patch.setattr(recorder, "NOTE_DELAY", 0.001)
        patch.setattr(recorders_writer, "RETRY_DELAY", 0.02)
        patch.setattr(house, "RETRY_FIRST", 0.02)
        yield make_world(stage, keys_of(TABLE, [DOOR]))


@pytest.mark.parametrize("number", TOLD, ids=[TABLE[number].name for number in TOLD])
async def test_what_is_explained_is_what_is_decided(number: int, world: World) -> None:
    scenario, key_id = TABLE[number], key_name(number, DOOR)
    expected = scenario.expected("tcp")
    async with contextlib.AsyncExitStack() as ends:
        orders = await _place_for_the_neighbour(world, scenario, ends)
        if scenario.before_it_connects is not None:
            await ends.enter_async_context(STATES[scenario.before_it_connects](Run(world, key_id)))
        client = await Tcp().connect(world.ports["tcp"], world.secrets[key_id])
        ends.push_async_callback(client.close)
        if client.refused is None:
            await _do_what_happened_before(client, scenario, orders)
        if scenario.once_connected is not None:
            await ends.enter_async_context(STATES[scenario.once_connected](Run(world, key_id)))
        await world.settled()
        asked, since, used = scenario.ask.naming(orders), await world.mark(), world.used(key_id)
        told = await explained(
            world, {"key": key_id, "request": asked.name, "body": {"c2s": asked.c2s}, "from": "127.0.0.1"}
        )
        await world.settled()
        assert world.audit(since, (key_id,)) == [], "nothing is recorded"
        assert world.counted(since, (key_id,), "tcp") == {}, "nothing is counted"
        assert world.received(since) == [], "nothing is sent"
        assert world.used(key_id) == used, "nothing is used"
        answer = client.refused or await client.ask(asked)
    await _mended(world)
    assert (told["code"] or ALLOWED) == (ALLOWED if expected == OPENDS_NO else expected), told
    assert (told["code"] or ALLOWED) == (answer.code or ALLOWED), (told, answer)
    of_the_header = client.refused is not None or expected == "scope"  # said before the request is read
    if answer.code is not None and "message" not in scenario.differs and not of_the_header:
        assert at_any_moment(told["message"]) in at_any_moment(answer.message), (told, answer)
    assert told["allowed"] is all(check["passed"] for check in told["checks"])


def test_nearly_every_order_of_the_tables_is_explained() -> None:
    left_out = [one for number, one in enumerate(TABLE) if one.ask.name in ORDERS and number not in TOLD]
    assert len(TOLD) > 130
    assert all(one.meanwhile or one.ask.extras or one.expect in NOT_TOLD for one in left_out)


async def explained(world: World, tree: dict[str, Any]) -> dict[str, Any]:
    app = world.sidecar.app
    return await asyncio.wrap_future(
        asyncio.run_coroutine_threadsafe(app.explaining.explain(tree), world.sidecar._loop)
    )
