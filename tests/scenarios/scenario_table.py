"""Reads tests/scenarios/*.yaml, tables that people can read, into scenarios. Runs nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sidecar.wire.catalog import CATALOG, by_name

FOLDER = Path(__file__).parent
ALLOWED, OPENDS_NO = "allowed", "refused by OpenD"
_WORDS = frozenset(
    ["scenario", "key", "before", "before it connects", "once connected", "meanwhile", "request", "c2s", "with", "expect",
     "says", "forwarded", "doors", "differs", "shows", "reply",
     "tells", "hides"]
)  # fmt: skip
_STEP_WORDS = frozenset(["by", "request", "c2s", "with"])


@dataclass(frozen=True)
class Ask:
    """One request as OpenD names it. `c2s` has OpenD's field names; `extras` what cannot be said in a c2s:
    `unknown_field`, `garbage`, `padding` (bytes), `idempotency_key`."""

    name: str
    c2s: dict[str, Any]
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def proto_id(self) -> int:
        row = by_name(self.name)
        return int(self.name) if row is None else row.id

    @property
    def known(self) -> bool:
        return self.proto_id in CATALOG

    def naming(self, orders: Mapping[str, str]) -> Ask:
        """With `$mine` and the like replaced by the ids of orders placed before."""
        return self.saying(_replaced(self.c2s, orders))

    def saying(self, c2s: dict[str, Any]) -> Ask:
        return Ask(self.name, c2s, self.extras)

    def dry(self) -> Ask:
        """Only to be judged."""
        return Ask(self.name, self.c2s, {**self.extras, "dry_run": True})

    def once(self, token: str) -> Ask:
        """Under an idempotency key."""
        return Ask(self.name, self.c2s, {**self.extras, "idempotency_key": token})


@dataclass(frozen=True)
class Step:
    """What happened before: a request of the scenario's own key (`by` "") or of a key named otherwise; it is allowed."""

    by: str
    ask: Ask


@dataclass(frozen=True)
class Scenario:
    table: str
    """The file it is from, without `.yaml`."""
    name: str
    key: dict[str, Any]
    """The fields of its record in keys.json, without id and hashes."""
    shows: str
    """What the client shows: `its key`, `nothing`, or `a key that was never made`."""
    before: tuple[Step, ...]
    before_it_connects: str | None
    once_connected: str | None
    meanwhile: str | None
    """States and events, by their names in scenario_states."""
    ask: Ask
    expect: str
    """`allowed`, `refused by OpenD`, or a code."""
    says: tuple[str, ...]
    forwarded: dict[str, Any] | None
    """The c2s that OpenD receives where it is not the one asked; {} = nothing, although allowed."""
    reply: str | None
    """`same`: what the client is told must be the same at every door, to the last field."""
    tells: tuple[str, ...]
    hides: tuple[str, ...]
    """Texts that must be, and must not be, somewhere in the answer."""
    doors: Mapping[str, Any]
    """Door → why it cannot express this, or {expect, because}."""
    differs: Mapping[str, str]
    """Audit fields that cannot be the same through all doors, and why."""

    def expected(self, door: str) -> str | None:
        """What is expected at a door; None where it cannot express the scenario."""
        said = self.doors.get(door)
        if said is None:
            return self.expect
        return None if isinstance(said, str) else str(said["expect"])


def scenarios() -> Iterator[Scenario]:
    for path in sorted(FOLDER.glob("*.yaml")):
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        given = table.get("given", {})
        for said in table["scenarios"]:
            unknown = said.keys() - _WORDS
            assert not unknown, f"{path.name}, `{said['scenario']}`: unknown words {unknown}"
            yield _scenario(path.stem, given, said)


def _scenario(table: str, given: dict[str, Any], said: dict[str, Any]) -> Scenario:
    doors = said.get("doors", {})
    for door, exception in doors.items():
        assert isinstance(exception, str) or exception.keys() == {"expect", "because"}, (said["scenario"], door)
    return Scenario(
        table=table,
        name=said["scenario"],
        key=_merged(given.get("key", {}), said.get("key", {})),
        shows=said.get("shows", "its key"),
        before=tuple(_step(given, step) for step in said.get("before", ())),
        before_it_connects=said.get("before it connects"),
        once_connected=said.get("once connected"),
        meanwhile=said.get("meanwhile"),
        ask=_ask(given, said),
        expect=said["expect"],
        says=_texts(said.get("says", ())),
        forwarded=said.get("forwarded"),
        reply=said.get("reply"),
        tells=_texts(said.get("tells", ())),
        hides=_texts(said.get("hides", ())),
        doors=doors,
        differs=said.get("differs", {}),
    )


def _texts(said: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return (said,) if isinstance(said, str) else tuple(said)


def _step(given: dict[str, Any], said: dict[str, Any]) -> Step:
    unknown = said.keys() - _STEP_WORDS
    assert not unknown, f"unknown words in a step: {unknown}"
    return Step(said.get("by", ""), _ask(given, said))


def _ask(given: dict[str, Any], said: dict[str, Any]) -> Ask:
    """A request of its own name has the c2s of the table's `requests`, or none; what is said comes over it."""
    name = str(said.get("request", given["request"]))
    start = given.get("requests", {}).get(name, {})
    return Ask(name, _merged(start, said.get("c2s", {})), dict(said.get("with", {})))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Maps merge, all else is replaced, null takes out."""
    result = copy.deepcopy(dict(below))
    for name, value in above.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = _merged(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _replaced(part, names) for name, part in value.items()}
    if isinstance(value, list):
        return [_replaced(part, names) for part in value]
    return names.get(value, value) if isinstance(value, str) else value
