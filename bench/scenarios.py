"""What is run, along which ways, and how one ratio is made of a round. Prints nothing."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import paths
from bench.disk import Disk
from bench.paths import Way

WAYS = ("direct", "haproxy", "sidecar")
IDLE_CONNECTIONS = 1000
BUSY = 0.15
"""Share of one core used by others from which on a run says little."""

Results = dict[str, dict[str, Any]]
"""What the load measured in one round, by way."""


@dataclass(frozen=True, slots=True)
class Round:
    results: Results
    fdatasync_us: float | None
    """Median microseconds of one append and fdatasync, measured around this round; None where it is not asked for."""


def throughput_of_haproxy(of: Round) -> float | None:
    """Sidecar's requests or pushes a second ÷ haproxy's."""
    ours, theirs = of.results.get("sidecar"), of.results.get("haproxy")
    return ours["per_second"] / theirs["per_second"] if ours and theirs else None


def added_latency_of_haproxy(of: Round) -> float | None:
    """(sidecar's median − direct's) ÷ (haproxy's median − direct's); None where haproxy added nothing to divide by.

    That happens when the scheduler put load and upstream on one core in one run and on two in the next, which makes
    more difference than a proxy does.
    """
    median = {way: result["latency_us"]["p50"] for way, result in of.results.items()}
    if len(median) < len(WAYS):
        return None
    added = median["haproxy"] - median["direct"]
    return float((median["sidecar"] - median["direct"]) / added) if added > 0 else None


def kib_of_an_idle_pair(of: Round) -> float | None:
    ours = of.results.get("sidecar")
    return ours["kib_per_connection"] if ours else None


def added_latency_in_syncs(of: Round) -> float | None:
    """(sidecar's median − direct's) ÷ one fdatasync."""
    ours, bare = of.results.get("sidecar"), of.results.get("direct")
    if not (ours and bare and of.fdatasync_us):
        return None
    return float((ours["latency_us"]["p50"] - bare["latency_us"]["p50"]) / of.fdatasync_us)


def throughput_in_syncs(of: Round, way: str = "sidecar") -> float | None:
    """Orders a second ÷ how often a second one fdatasync after another could be done."""
    ours = of.results.get(way)
    return float(ours["per_second"] * of.fdatasync_us / 1e6) if ours and of.fdatasync_us else None


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    load: dict[str, Any]
    judge: Callable[[Round], float | None]
    measure: str
    """What the ratio is, in the report's words."""
    target: float
    at_least: bool
    """Whether the target is a floor; else it is a ceiling."""
    ceiling: Callable[[Round], float | None] | None = None
    """What the ratio would be with no proxy at all; a target above it says more about the machine."""
    syncs: bool = False
    fresh_each_round: bool = False
    one_core: bool = False
    """Whether load, proxy and upstream are kept on one core: what is added is then their work, not the waking of
    another core, which costs more than the work and is spent or saved by the scheduler's mood."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the sidecar's configuration says besides its defaults."""

    def met(self, ratio: float) -> bool:
        return ratio >= self.target if self.at_least else ratio <= self.target


def room_for(connections: int) -> dict[str, Any]:
    """The settings under which one key may hold that many connections: the defaults suit an OpenD, which takes 128."""
    most = connections + 100
    return {"upstream": {"max_connections": most, "max_connections_per_key": most}}


SCENARIOS = (
    Scenario(
        "reads-64x1",
        "reads, 64 connections × 1",
        {"kind": "reads", "connections": 64, "depth": 1},
        throughput_of_haproxy,
        "sidecar ÷ haproxy, requests/s",
        0.45,
        at_least=True,
        settings=room_for(64),
    ),
    Scenario(
        "reads-1x1",
        "read, 1 connection × 1",
        {"kind": "reads", "connections": 1, "depth": 1},
        added_latency_of_haproxy,
        "added latency, sidecar ÷ haproxy",
        2.0,
        at_least=False,
    ),
    Scenario(
        "reads-1x1-one-core",
        "read, 1 connection × 1, all on one core",
        {"kind": "reads", "connections": 1, "depth": 1},
        added_latency_of_haproxy,
        "added latency, sidecar ÷ haproxy",
        2.0,
        at_least=False,
        one_core=True,
    ),
    Scenario(
        "reads-8x16",
        "reads, 8 connections × 16 pipelined",
        {"kind": "reads", "connections": 8, "depth": 16},
        throughput_of_haproxy,
        "sidecar ÷ haproxy, requests/s",
        0.12,
        at_least=True,
    ),
    Scenario(
        "pushes",
        "1 KB quote pushes, 8 clients",
        {"kind": "pushes", "connections": 8, "depth": 0},
        throughput_of_haproxy,
        "sidecar ÷ haproxy, pushes/s",
        0.95,
        at_least=True,
    ),
    Scenario(
        "idle",
        f"{IDLE_CONNECTIONS} idle connections",
        {"kind": "idle", "connections": IDLE_CONNECTIONS, "depth": 0},
        kib_of_an_idle_pair,
        "sidecar, KiB per connection pair",
        16.0,
        at_least=False,
        fresh_each_round=True,
        settings={
            "upstream": {"max_connections": IDLE_CONNECTIONS + 100, "max_connections_per_key": IDLE_CONNECTIONS + 100}
        },
    ),
    Scenario(
        "orders-1",
        "orders, 1 at a time",
        {"kind": "orders", "connections": 1, "depth": 1},
        added_latency_in_syncs,
        "added latency ÷ one fdatasync",
        4.0,
        at_least=False,
        syncs=True,
    ),
    Scenario(
        "orders-64",
        "orders, 64 at once",
        {"kind": "orders", "connections": 64, "depth": 1},
        throughput_in_syncs,
        "orders/s ÷ fdatasyncs/s",
        15.0,
        at_least=True,
        ceiling=lambda of: throughput_in_syncs(of, "direct"),
        syncs=True,
        settings=room_for(64),
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@dataclass(frozen=True, slots=True)
class Outcome:
    scenario: Scenario
    rounds: tuple[Round, ...]
    ratios: tuple[float, ...]
    skipped: str | None
    """Why there is no ratio; None when there is one."""

    @property
    def ceiling(self) -> float | None:
        found = [self.scenario.ceiling(one) for one in self.rounds] if self.scenario.ceiling else []
        known = [ratio for ratio in found if ratio is not None]
        return statistics.median(known) if known else None

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int
    seconds: float
    ways: tuple[str, ...]
    haproxy_threads: int
    retries: int
    """How often a run is repeated when others used the machine meanwhile; the calmest one counts."""
    disk: Disk
    """Where keys, ledger and audit of the runs live: the disk that is judged."""


@contextlib.contextmanager
def open_ways(scenario: Scenario, plan: Plan) -> Iterator[list[Way]]:
    """Upstream and every way to it, up and answering."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="work-", dir=plan.disk.folder)))
        up = stack.enter_context(paths.upstream())
        ways: list[Way] = []
        if "direct" in plan.ways:
            ways.append(stack.enter_context(paths.direct(*up)))
        if "haproxy" in plan.ways:
            ways.append(stack.enter_context(paths.haproxy(*up, folder, plan.haproxy_threads)))
        if "sidecar" in plan.ways:
            ways.append(stack.enter_context(paths.sidecar(*up, folder, scenario.settings, plan.disk.environment())))
        yield ways


def one_round(scenario: Scenario, plan: Plan, ways: Sequence[Way]) -> Round:
    load = scenario.load | {"seconds": plan.seconds, "core": None}
    if scenario.one_core:
        load["core"] = core = min(os.sched_getaffinity(0))
        paths.keep_on(core, {pid for way in ways for pid in way.pids.values()})
    syncs = plan.disk.fdatasync_us() if scenario.syncs else []
    results = {way.name: calmest(way, load, plan) for way in ways}
    if scenario.syncs:
        syncs += plan.disk.fdatasync_us()
    return Round(results, statistics.median(syncs) if syncs else None)


def calmest(way: Way, load: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """One run; repeated, where the plan says so, until others left the machine alone. How fast it was has no say."""
    best: dict[str, Any] = {}
    for _ in range(plan.retries + 1):
        result = paths.run_load(way, load, patience=plan.seconds + 60)
        if not best or result["others_share"] < best["others_share"]:
            best = result
        if best.get("others_share", 0.0) <= BUSY:
            break
    return best


def rotated(ways: Sequence[Way], by: int) -> list[Way]:
    """Each round begins with another way, so that no way always runs first."""
    by %= len(ways)
    return [*ways[by:], *ways[:by]]


def run(scenario: Scenario, plan: Plan, tell: Callable[[str], None]) -> Outcome:
    """Every round of one scenario. Raises BenchError (bench.paths) when a part did not do what it should."""
    rounds: list[Round] = []
    if scenario.fresh_each_round:
        for number in range(plan.rounds):
            tell(f"{scenario.title}: round {number + 1} of {plan.rounds}")
            with open_ways(scenario, plan) as ways:
                rounds.append(one_round(scenario, plan, rotated(ways, number)))
    else:
        with open_ways(scenario, plan) as ways:
            for number in range(plan.rounds):
                tell(f"{scenario.title}: round {number + 1} of {plan.rounds}")
                rounds.append(one_round(scenario, plan, rotated(ways, number)))
    in_memory = plan.disk.memory_filesystem()
    if scenario.syncs and in_memory:
        return Outcome(scenario, tuple(rounds), (), f"the ledger is on {in_memory}, where a sync costs nothing")
    ratios = [ratio for ratio in map(scenario.judge, rounds) if ratio is not None]
    missing = " and ".join(way for way in WAYS if way not in plan.ways)
    why = None
    if 2 * len(ratios) < len(rounds):
        why = f"without {missing}" if missing else f"{len(rounds) - len(ratios)} of {len(rounds)} rounds gave no ratio"
    return Outcome(scenario, tuple(rounds), tuple(ratios), why)
