"""Every scenario of the tables through every door: the same decision, the same record, the same counters, the same at OpenD.

A door that is not here fails a test, and so does a code that no scenario shows.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
import scenarios.scenario_grpc
import scenarios.scenario_mcp
import scenarios.scenario_rest
import scenarios.scenario_websocket
from live import Stage
from scenarios.scenario_doors import DOORS
from scenarios.scenario_run import GONE, Seen, expected_args_hash, native_forms, rehearse, run
from scenarios.scenario_table import ALLOWED, OPENDS_NO, Scenario, scenarios
from scenarios.scenario_world import World, key_name, keys_of, make_world

from sidecar import metrics, recorder, settings
from sidecar import writer as recorders_writer
from sidecar.policy.decision import Code
from sidecar.upstream import house

TABLE = list(scenarios())
READS = [number for number, scenario in enumerate(TABLE) if scenario.table == "reads"]
DRY_DOORS = ("rest", "grpc", "mcp")
"""Those that can be asked what would be decided."""
REHEARSED = [
    number
    for number, scenario in enumerate(TABLE)
    if scenario.ask.name in ("Trd_PlaceOrder", "Trd_PlaceComboOrder", "Trd_ModifyOrder")
    and scenario.ask.c2s.get("modifyOrderOp") != 2
    and not (scenario.meanwhile or scenario.before_it_connects or "idempotency_key" in scenario.ask.extras)
    and scenario.expect not in ("audit_unavailable", "ledger_unavailable")  # nothing is written of a dry run
]
FIRST = "tcp"
"""The door the others are compared with."""
NOT_IN_THE_TABLES: dict[Code, str] = {}
"""Codes that no scenario can show, and why."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One that records reads too."""
    yield from _running(tmp_path_factory, audit_reads=True)


@pytest.fixture(scope="module")
def quiet_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """As most are: reads are counted, not recorded, so that doors may pass them on unread."""
    yield from _running(tmp_path_factory, audit_reads=False)


def _running(folders: pytest.TempPathFactory, *, audit_reads: bool) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, Stage(folders.mktemp("matrix")) as stage:
        patch.setattr(recorder, "NOTE_DELAY", 0.001)  # many short waits for a record
        patch.setattr(recorders_writer, "RETRY_DELAY", 0.02)
        patch.setattr(house, "RETRY_FIRST", 0.02)
        yield make_world(
            stage, keys_of(TABLE, [*DOORS.drivers, *(f"dry-{door}" for door in DRY_DOORS)]), audit_reads=audit_reads
        )


@pytest.mark.parametrize("number", range(len(TABLE)), ids=[scenario.name for scenario in TABLE])
async def test_every_door_decides_records_counts_and_forwards_the_same(number: int, world: World) -> None:
    await through_every_door(number, world)


@pytest.mark.parametrize("number", READS, ids=[TABLE[number].name for number in READS])
async def test_reads_that_are_not_recorded_are_decided_and_counted_the_same(number: int, quiet_world: World) -> None:
    await through_every_door(number, quiet_world)


@pytest.mark.parametrize("number", REHEARSED, ids=[TABLE[number].name for number in REHEARSED])
async def test_a_dry_run_finds_what_the_request_itself_would_meet_and_uses_nothing(number: int, world: World) -> None:
    scenario = TABLE[number]
    told = {}
    for door in DRY_DOORS:
        expected = scenario.expected(door)
        if expected is None:
            continue
        key_id = key_name(number, f"dry-{door}")
        used, rehearsed, frames = await rehearse(world, scenario, key_id, door)
        assert (rehearsed.code or ALLOWED) == (ALLOWED if expected == OPENDS_NO else expected), (door, rehearsed)
        assert frames == [], f"{door}: nothing reaches OpenD"
        assert used[0] == used[1], f"{door}: no limit is nearer than before"
        told[door] = rehearsed.message if rehearsed.code else ALLOWED
    if "message" not in scenario.differs:
        assert len(set(told.values())) <= 1, told


async def through_every_door(number: int, world: World) -> None:
    scenario = TABLE[number]
    seen: dict[str, Seen] = {}
    for door in DOORS.drivers:
        expected = scenario.expected(door)
        if expected is None:
            continue
        shown = seen[door] = await run(world, scenario, key_name(number, door), door)
        _as_the_table_says(scenario, door, expected, shown)
    assert len(seen) >= 2, "a scenario is of use where doors can be compared"
    _same_through_all(scenario, seen)


def _as_the_table_says(scenario: Scenario, door: str, expected: str, seen: Seen) -> None:
    if expected == Code.CLIENT_GONE:
        assert seen.outcome == GONE, (door, seen.answer)
    else:
        assert seen.outcome == expected, (door, seen.answer)
    allowed = expected == ALLOWED
    refusal = expected in set(Code)
    if refusal:
        last = seen.records[-1]
        assert last["outcome"] == "reject", (door, seen.records)
        assert last["reason"] == expected, (door, seen.records)
    if refusal and seen.answer is not None:
        natives = native_forms(door, expected, begun=scenario.meanwhile is not None)
        assert not natives or seen.answer.native in natives, (door, seen.answer)
        assert not (seen.answer.by_closing and scenario.meanwhile), f"{door}: an order that was taken is answered"
        # the reason of a close frame has room for 123 bytes
        told = [seen.decisions[-1], *([None] if seen.answer.by_closing else [])]
        assert seen.answer.decision_id in told, f"{door}: the client was told the decision that is recorded"
        for text in scenario.says:
            assert text in seen.message, (door, seen.message)
    hashes = {record["args_hash"] for record in seen.records if "args_hash" in record}
    asked = [seen.asked, *([seen.asked.saying(scenario.forwarded)] if scenario.forwarded else [])]
    assert hashes <= {expected_args_hash(one) for one in asked}, f"{door}: the hash is that of what the client asked"
    if refusal:
        assert seen.frames == [], f"{door}: nothing reaches OpenD of what is refused"
    elif scenario.forwarded == {}:
        assert seen.frames == []
    else:
        forwarded = scenario.forwarded if scenario.forwarded is not None else scenario.ask.c2s
        assert [number for number, _ in seen.frames] == [scenario.ask.proto_id], (door, seen.frames)
        arrived = {name: value for name, value in seen.frames[0][1].items() if value != "<tag>"}
        assert arrived == forwarded, f"{door}: OpenD receives what was asked"
    told = json.dumps(seen.reply)
    assert [text for text in scenario.tells if text not in told] == [], f"{door} does not tell: {told[:2000]}"
    assert [text for text in scenario.hides if text in told] == [], f"{door} tells: {told[:2000]}"
    if allowed:
        assert seen.records == [] or seen.records[0]["outcome"] == "allow"


def _same_through_all(scenario: Scenario, seen: dict[str, Seen]) -> None:
    for expected in {scenario.expected(door) for door in seen}:
        alike = {door: shown for door, shown in seen.items() if scenario.expected(door) == expected}
        first = FIRST if FIRST in alike else next(iter(alike))
        for door, shown in alike.items():
            both = f"{first} and {door}"
            assert _compared(scenario, shown) == _compared(scenario, alike[first]), f"the audit differs: {both}"
            assert shown.counted == alike[first].counted, f"the counters differ: {both}"
            assert shown.frames == alike[first].frames, f"what reached OpenD differs: {both}"
            if scenario.reply == "same":
                assert shown.reply == alike[first].reply, f"the answers differ: {both}"


def _compared(scenario: Scenario, seen: Seen) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name not in scenario.differs} for record in seen.records]


# -- nothing is left out -----------------------------------------------------------------------------------------------


def test_every_listener_there_is_has_a_driver_here() -> None:
    listeners = {field.name for field in dataclasses.fields(settings.Listeners)} - {"admin"}
    assert {driver.listener for driver in DOORS.drivers.values()} == listeners
    assert {driver.iface for driver in DOORS.drivers.values()} == set(metrics.IFACES)


def test_every_code_is_shown_by_a_scenario_at_every_door_or_a_reason_is_given() -> None:
    shown = {(scenario.expected(door), door) for scenario in TABLE for door in DOORS.drivers}
    excused = {
        (scenario.expect, door): reason for scenario in TABLE for door, reason in scenario.doors.items() if reason
    }
    missing = [
        (code.value, door)
        for code in Code
        for door in DOORS.drivers
        if (code.value, door) not in shown and (code.value, door) not in excused and code not in NOT_IN_THE_TABLES
    ]
    assert missing == []


def test_the_tables_name_only_doors_and_codes_there_are() -> None:
    outcomes = {ALLOWED, "refused by OpenD", *Code}
    for scenario in TABLE:
        assert set(scenario.doors) <= set(DOORS.drivers), scenario.name
        assert {scenario.expected(door) for door in DOORS.drivers} - {None} <= outcomes, scenario.name


def test_exceptions_are_few() -> None:
    """Each is a place where doors need not agree: a new one wants a good reason."""
    excused = [(scenario.name, door) for scenario in TABLE for door in scenario.doors]
    assert len(excused) <= 24


def test_no_two_scenarios_have_one_name() -> None:
    names = [scenario.name for scenario in TABLE]
    assert len(set(names)) == len(names)
