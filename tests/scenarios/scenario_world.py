"""One sandbox and one sidecar for many scenarios, a key for each scenario and door, and what can be seen of a run."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from live import LiveApp, LiveSandbox, Stage
from prometheus_client import CollectorRegistry
from scenarios.scenario_table import Scenario

from sidecar.keys.machine import fingerprint, machine_id
from sidecar.keys.secret import hash_of, new_plaintext, ws_hash_of
from sidecar.sandbox.instruments import Currency

NEIGHBOUR = "neighbour"
"""A key that only places what others must not touch."""
COUNTERS = ("futu_auth_events_total", "futu_auth_limit_rejects_total", "sidecar_refusals_total")
INDIVIDUAL = ("timestamp", "iface", "endpoint", "address", "decision_id", "latency_us", "seq", "prev", "hash")
"""What is each record's own; `policy` is the keys file as it was, which changes while scenarios run."""
TAG = re.compile(r"#[0-9A-HJKMNP-TV-Z]{26}")
Frame = tuple[int, dict[str, Any]]


@dataclass
class Mark:
    """A moment: how much had reached OpenD and the audit by then, and what was counted."""

    frames: int
    lines: int
    counted: dict[tuple[str, ...], float]


@dataclass
class World:
    stage: Stage
    sandbox: LiveSandbox
    sidecar: LiveApp
    secrets: dict[str, str] = field(default_factory=dict)
    """By key id."""

    @property
    def ports(self) -> dict[str, int]:
        return {"tcp": self.sidecar.port, **self.sidecar.doors}

    # -- observing ------------------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Until nothing is on its way to the counters and the audit any more."""
        self.sidecar.do(lambda: None)  # a client may have its answer a moment before it is counted
        recorder = self.sidecar.app.recorder
        await until(lambda: recorder.records_waiting == 0 and not recorder._in_flight, "the audit to be written")

    async def mark(self) -> Mark:
        await self.settled()
        return Mark(len(self.sandbox.sandbox.received), len(self._lines()), self._counted())

    def _lines(self) -> list[bytes]:
        data = self.sidecar.audit_file.read_bytes()
        return data[: data.rfind(b"\n") + 1].splitlines()

    def audit(self, since: Mark, key_ids: tuple[str, ...]) -> list[dict[str, Any]]:
        records = [json.loads(line, parse_float=Decimal) for line in self._lines()[since.lines :]]
        return [record for record in records if record["key_id"] in key_ids]

    def counted(self, since: Mark, key_ids: tuple[str, ...], iface: str) -> dict[tuple[str, ...], float]:
        """What was added to the counters of these keys at one iface: (family, labels without iface and key) → how much."""
        found: dict[tuple[str, ...], float] = {}
        for labels, value in self._counted().items():
            family, of_iface, key_id, *others = labels
            added = value - since.counted.get(labels, 0.0)
            if added and key_id in key_ids:
                assert of_iface == iface, f"{labels} was counted for a request through {iface}"
                found[family, *others] = found.get((family, *others), 0.0) + added
        return found

    def _counted(self) -> dict[tuple[str, ...], float]:
        found = {}
        registry: CollectorRegistry = self.sidecar.app.metrics.registry
        for family in registry.restricted_registry(COUNTERS).collect():
            for sample in family.samples:
                if sample.name in COUNTERS:
                    other = sample.labels.get("outcome") or sample.labels.get("reason") or sample.labels["code"]
                    found[sample.name, sample.labels["iface"], sample.labels["key_id"], other] = sample.value
        return found

    def used(self, key_id: str) -> tuple[int, dict[str, Decimal]]:
        """Orders of the last minute and value of the day, as the limits count them."""
        usage = self.sidecar.do(self.sidecar.app.ledger.usage, key_id, time.time())
        return usage.orders_last_minute, dict(usage.daily_value)

    def received(self, since: Mark) -> list[Frame]:
        """What clients made reach OpenD: without connecting, heartbeats, the packetID, and the sidecar's own look-ups."""
        house = self.sidecar.app.house._session
        own = 0 if house is None else house.conn_id
        frames = []
        for record in list(self.sandbox.sandbox.received)[since.frames :]:
            if record.conn == own or record.proto_id in (1001, 1004):
                continue
            c2s = dict(record.c2s or {})
            c2s.pop("packetID", None)
            if TAG.fullmatch(c2s.get("remark", "")):
                c2s["remark"] = "<tag>"
            frames.append((record.proto_id, c2s))
        return frames


def make_world(stage: Stage, wanted: dict[str, dict[str, Any]], *, audit_reads: bool = False, **settings: Any) -> World:
    """`wanted`: key id → the fields of its record. All keys are written before the sidecar starts."""
    secrets = {}
    for key_id, record in {**wanted, NEIGHBOUR: {"scopes": ["trade:simulate", "trade:real"]}}.items():
        secrets[key_id] = secret = new_plaintext()
        record = {**record, "id": key_id, "hash": hash_of(secret), "ws_hash": ws_hash_of(secret)}
        if record.get("hours_window") in HOURS:
            record.update(hours_window=hours(HOURS[record["hours_window"]]), timezone="UTC")
        if record.get("allowed_machines") == "this":
            record["allowed_machines"] = [fingerprint(key_id, machine_id())]
        stage.keys.records.append(record)
    stage.keys.write()
    sandbox = stage.sandbox(tick_interval=0, relaxed_paper=True, unlocked=True, max_connections=2000, order_latency=0.0)
    sandbox.do(_enrich, sandbox)
    sidecar = stage.app(
        sandbox.port,
        **{
            "upstream": {"max_connections": 1500, "shared_idle": 0.5, "changes": 10_000, "changes_kept": 25},
            "audit": {"file": str(stage.folder / "audit.jsonl"), "reads": audit_reads},
            "limits": {"request_body": "64 KiB"},
            "policy": {"fx": {"as_of": datetime.now(UTC).date().isoformat(), "base": "HKD", "rates": {"USD": 7.78}}},
            **settings,
        },
    )
    sidecar.audit_file = stage.folder / "audit.jsonl"
    sidecar.do(setattr, sidecar.app.recorder, "_flood", _Unsummed())
    return World(stage, sandbox, sidecar, secrets)


class _Unsummed:
    """In place of the flood control: every refusal has a line of its own, also of strangers from one address."""

    next_due = None

    def admit(self, record: object, now: float) -> bool:
        return True

    def due(self, now: float) -> list[Any]:
        return []

    def drain(self) -> list[Any]:
        return []


def _enrich(sandbox: LiveSandbox) -> None:
    """Enough cash for all orders of all scenarios, which rest until the end, and enough on offer for those that do not;
    enough of one holding for all sales of it.
    """
    account, fund = sandbox.sandbox.accounts[1001001], sandbox.sandbox.market.listing.find_symbol("HK.02800")
    assert fund is not None
    account.positions[fund].quantity = Decimal(10**7)
    sandbox.sandbox.set_price("HK.00700", "480", 10_000_000)
    for account in sandbox.sandbox.accounts.values():
        for currency in (Currency.HKD, Currency.USD):
            account.pay(currency, Decimal(10**10), "for the scenarios", 0.0)


HOURS = {"now": -1, "over": 3}
"""What tables say of hours: a window of two hours that began, or begins, so many hours from now."""


def hours(begin: int) -> str:
    start = datetime.now(UTC) + timedelta(hours=begin)
    return f"{start:%H:%M}-{start + timedelta(hours=2):%H:%M}"


async def until(holds: Callable[[], Any], what: str, timeout: float = 8.0) -> None:
    deadline = asyncio.get_running_loop().time() + timeout
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.003)


async def in_its_thread(action: Callable[..., Any], *arguments: Any) -> Any:
    """Something that blocks, away from the tests' loop."""
    return await asyncio.to_thread(action, *arguments)


def key_name(number: int, door: str) -> str:
    return f"s{number:03d}-{door}"


def keys_of(table: list[Scenario], doors: list[str]) -> dict[str, dict[str, Any]]:
    """A key for each scenario and door, so that no cap is shared."""
    return {key_name(number, door): scenario.key for number, scenario in enumerate(table) for door in doors}


__all__ = ["Mark", "World", "in_its_thread", "key_name", "keys_of", "make_world", "until"]
