"""The table a person reads and the JSON a program reads, of the same outcomes. Runs nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import paths
from bench.scenarios import BUSY, WAYS, Outcome, Plan


def _rate(per_second: float) -> str:
    return f"{per_second / 1000:.1f}k/s" if per_second >= 1000 else f"{per_second:.0f}/s"


def _time(microseconds: float) -> str:
    return f"{microseconds / 1000:.2f} ms" if microseconds >= 1000 else f"{microseconds:.0f} µs"


def _middle(outcome: Outcome, way: str, *keys: str) -> float | None:
    """Median over the rounds of one number of one way."""
    found: list[float] = []
    for one in outcome.rounds:
        value: Any = one.results.get(way)
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            found.append(value)
    return statistics.median(found) if found else None


def _cell(outcome: Outcome, way: str) -> str:
    if outcome.scenario.load["kind"] == "idle":
        kib = _middle(outcome, way, "kib_per_connection")
        return "–" if kib is None or way == "direct" else f"{kib:.1f} KiB"
    rate = _middle(outcome, way, "per_second")
    if rate is None:
        return "–"
    megabytes = _middle(outcome, way, "mb_per_second")
    if megabytes is not None:
        return f"{_rate(rate)}\n{megabytes:.0f} MB/s"
    half, most = (_middle(outcome, way, "latency_us", name) for name in ("p50", "p99"))
    return f"{_rate(rate)}\n{_time(half or 0)} · {_time(most or 0)}"


def _verdict(outcome: Outcome) -> Text:
    if outcome.skipped:
        return Text("skipped", style="bold yellow")
    met = outcome.scenario.met(outcome.median)
    return Text("✓" if met else "✗", style="bold green" if met else "bold red")


def _ratio(outcome: Outcome) -> str:
    if outcome.skipped:
        return outcome.skipped
    digits = 2 if outcome.median < 10 else 1
    span = f"{min(outcome.ratios):.{digits}f}–{max(outcome.ratios):.{digits}f}"
    lost = len(outcome.rounds) - len(outcome.ratios)
    noted = f"\n{lost} of {len(outcome.rounds)} rounds gave no ratio" if lost else ""
    return f"{outcome.median:.{digits}f} ({span})\n{outcome.scenario.measure}{noted}"


def results_table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="side by side: median of the rounds; below a rate, latency p50 · p99", show_lines=True)
    table.add_column("scenario")
    for way in WAYS:
        table.add_column(way, justify="right", no_wrap=True)
    table.add_column("ratio: median (min–max)", justify="right")
    table.add_column("target", justify="right", no_wrap=True)
    table.add_column("", justify="center", no_wrap=True)
    for outcome in outcomes:
        scenario = outcome.scenario
        title = scenario.title
        ceiling = outcome.ceiling
        if ceiling is not None and not outcome.skipped and not scenario.met(ceiling):
            title += f"\n(no proxy at all reaches {ceiling:.1f} here)"
        syncs = [one.fdatasync_us for one in outcome.rounds if one.fdatasync_us]
        if syncs:
            title += f"\none fdatasync {_time(statistics.median(syncs))}"
        cells = [_cell(outcome, way) for way in WAYS]
        target = f"{'≥' if scenario.at_least else '≤'} {scenario.target:g}"
        table.add_row(title, *cells, _ratio(outcome), target, _verdict(outcome))
    return table


def disturbed(outcomes: Sequence[Outcome]) -> list[str]:
    """The scenarios during which other processes took a noticeable share of a core."""
    found = []
    for outcome in outcomes:
        others = [_middle(outcome, way, "others_share") or 0.0 for way in WAYS]
        if max(others) > BUSY:
            found.append(f"{outcome.scenario.title}: others used {max(others):.0%} of a core")
    return found


def cpu_table(outcomes: Sequence[Outcome]) -> Table:
    """Which process was busy, in shares of one core, and what one request cost it."""
    table = Table(title="where the CPU went: share of one core, and µs a request, push or order")
    table.add_column("scenario")
    table.add_column("way")
    for name in ("load", "proxy", "upstream"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("others", justify="right", no_wrap=True)
    for outcome in outcomes:
        for way in WAYS:
            shares = {name: _middle(outcome, way, "cpu_share", name) for name in ("load", "proxy", "upstream")}
            if shares["load"] is None:
                continue
            cells = []
            for name, share in shares.items():
                each = _middle(outcome, way, "cpu_us_each", name)
                cells.append("–" if share is None or each is None else f"{share:4.0%} {each:7.2f} µs")
            others = _middle(outcome, way, "others_share")
            table.add_row(outcome.scenario.title, way, *cells, f"{others or 0:.0%}")
    return table


def environment(plan: Plan) -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "load_average_at_start": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "haproxy": paths.haproxy_version(),
        "haproxy_threads": plan.haproxy_threads,
        "packages": {name: importlib.metadata.version(name) for name in ("uvloop", "protobuf", "futu-api")},
        "sync_slowed_ms": plan.disk.slowed_ms,
        "retries_of_a_disturbed_run": plan.retries,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "ways": list(plan.ways),
    }


def conditions(console: Console, surroundings: dict[str, Any]) -> None:
    """What a reader must know before believing a number."""
    cores = surroundings["cores"]
    if surroundings["sync_slowed_ms"]:
        console.print(
            f"every sync of the sidecar and of the probe is made to take {surroundings['sync_slowed_ms']:g} ms longer "
            "than the disk's own: this is not this disk",
            style="bold yellow",
            highlight=False,
        )
    console.print(
        f"load, proxy and upstream share {cores} cores and the loopback interface: with a proxy in between, three "
        f"processes compete for them, so a ratio says how the proxies compare here, not what either can do alone.\n"
        f"the sidecar runs with policy, audit and ledger on; haproxy runs in TCP mode with "
        f"{surroundings['haproxy_threads']} thread(s); load and upstream are the same lean processes for every way.\n"
        f"{surroundings['rounds']} rounds of {surroundings['seconds']:g} s a way, interleaved; the order of the ways "
        f"rotates. python {surroundings['python']}, {surroundings['haproxy'] or 'no haproxy'}, "
        f"load average at start {surroundings['load_average_at_start']:.2f}",
        highlight=False,
    )


def as_json(outcomes: Sequence[Outcome], surroundings: dict[str, Any]) -> dict[str, Any]:
    return {
        "environment": surroundings,
        "scenarios": [
            {
                "name": outcome.scenario.name,
                "measure": outcome.scenario.measure,
                "target": outcome.scenario.target,
                "target_is": "at least" if outcome.scenario.at_least else "at most",
                "median": outcome.median if outcome.ratios else None,
                "min": min(outcome.ratios, default=None),
                "max": max(outcome.ratios, default=None),
                "met": outcome.scenario.met(outcome.median) if outcome.ratios else None,
                "skipped": outcome.skipped,
                "rounds": [{"fdatasync_us": one.fdatasync_us, **one.results} for one in outcome.rounds],
            }
            for outcome in outcomes
        ],
    }


def write_json(path: Path, outcomes: Sequence[Outcome], surroundings: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(outcomes, surroundings), indent=1) + "\n")
