"""The command line of the bench: `python -m bench` measures, `python -m bench profile SCENARIO` profiles."""

from __future__ import annotations

import contextlib
import io
import pstats
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.panel import Panel

from bench import paths, report, scenarios
from bench.disk import Disk, DiskError
from bench.paths import BenchError
from bench.scenarios import BY_NAME, SCENARIOS, WAYS, Outcome, Plan

RESULTS = Path(__file__).parent / "results"
CPU_OF_A_QUIET_THREAD = 0.05
"""Seconds in its own functions below which a thread is not worth a table."""


@click.group(invoke_without_command=True)
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1), help="Interleaved rounds of a scenario."
)
@click.option("--seconds", default=1.0, show_default=True, type=click.FloatRange(0.1, 30), help="Length of one load.")
@click.option("--only", multiple=True, type=click.Choice(list(BY_NAME)), help="Run this scenario; may be repeated.")
@click.option("--ways", default=",".join(WAYS), show_default=True, help="Which ways to compare.")
@click.option("--haproxy-threads", default=1, show_default=True, type=click.IntRange(1), help="haproxy's nbthread.")
@click.option(
    "--work-dir",
    default=RESULTS,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where ledger and audit live during a run: the disk that is judged.  [default: bench/results]",
)
@click.option(
    "--retries",
    default=0,
    show_default=True,
    type=click.IntRange(0, 50),
    help="Repeat a run this often while others use the machine; the calmest counts.",
)
@click.option("--sync-ms", type=click.FloatRange(0.1, 100), help="Make every sync take this much longer (needs cc).")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Where the JSON goes.  [default: bench/results]"
)
@click.option("--check", is_flag=True, help="Exit with 1 when a target is missed or a scenario could not be judged.")
@click.pass_context
def bench(
    context: click.Context,
    rounds: int,
    seconds: float,
    only: tuple[str, ...],
    ways: str,
    haproxy_threads: int,
    work_dir: Path,
    retries: int,
    sync_ms: float | None,
    json_path: Path | None,
    check: bool,
) -> None:
    """Compare no proxy, haproxy and the sidecar under the same load."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    console = Console(width=None if sys.stdout.isatty() else 150)
    chosen = tuple(dict.fromkeys(way.strip() for way in ways.split(",")))
    unknown = [way for way in chosen if way not in WAYS]
    if unknown:
        raise click.UsageError(f"there is no way `{unknown[0]}`; the ways are {', '.join(WAYS)}")
    work_dir.mkdir(parents=True, exist_ok=True)
    paths.raise_open_files()
    try:
        disk = Disk(work_dir) if sync_ms is None else Disk.slowed(work_dir, sync_ms)
    except DiskError as error:
        raise click.ClickException(str(error)) from None
    plan = Plan(rounds, seconds, chosen, haproxy_threads, retries, disk)
    if context.invoked_subcommand is not None:
        context.obj = plan
        return
    if "haproxy" in plan.ways and paths.haproxy_program() is None:
        console.print(Panel("haproxy is not installed: nothing below is compared with it\n`apt install haproxy`",
                            style="bold red", title="skipped"))  # fmt: skip
        plan = Plan(rounds, seconds, tuple(way for way in chosen if way != "haproxy"), haproxy_threads, retries, disk)
    surroundings = report.environment(plan)
    report.conditions(console, surroundings)
    outcomes: list[Outcome] = []
    failures: list[str] = []
    for scenario in SCENARIOS:
        if only and scenario.name not in only:
            continue
        try:
            outcomes.append(scenarios.run(scenario, plan, lambda line: click.echo(line, err=True)))
        except (BenchError, DiskError) as error:
            failures.append(f"{scenario.title}: {error}")
            click.echo(failures[-1], err=True)
    console.print(report.results_table(outcomes))
    console.print(report.cpu_table(outcomes))
    for line in report.disturbed(outcomes):
        console.print(f"not a quiet machine: {line}", style="bold yellow", highlight=False)
    target = json_path or RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    report.write_json(target, outcomes, surroundings)
    console.print(f"all rounds: {target}", highlight=False, soft_wrap=True)
    for failure in failures:
        console.print(Panel(failure, style="bold red", title="failed"))
    missed = [one for one in outcomes if one.skipped or not one.scenario.met(one.median)]
    if failures or (check and missed):
        raise SystemExit(1)


@bench.command()
@click.argument("scenario", type=click.Choice(list(BY_NAME)))
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.1, 60), help="Length of the load.")
@click.option("--top", default=30, show_default=True, help="How many functions to print.")
@click.option("--sort", default="tottime", show_default=True, type=click.Choice(["tottime", "cumulative", "calls"]))
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep the .prof files in this folder.")
@click.pass_obj
def profile(plan: Plan, scenario: str, seconds: float, top: int, sort: str, keep: Path | None) -> None:
    """Run one scenario with the sidecar under cProfile and print its top functions."""
    chosen = BY_NAME[scenario]
    try:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="work-", dir=plan.disk.folder)))
            found = keep or folder / "profiles"
            found.mkdir(parents=True, exist_ok=True)
            launcher = ("bench.profiled", str(found))
            with (
                paths.upstream() as up,
                paths.sidecar(*up, folder, chosen.settings, plan.disk.environment(), launcher) as way,
            ):
                result = paths.run_load(way, chosen.load | {"seconds": seconds}, patience=seconds + 120)
            show(found, top, sort)
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    if "per_second" in result:
        click.echo(f"under the profiler: {result['per_second']:.0f} a second, {result['count']} in the measured window")


def show(folder: Path, top: int, sort: str) -> None:
    """Print the main thread's profile, then that of every other thread that did something."""
    files = sorted(folder.glob("*.prof"), key=lambda file: (file.name != "main.prof", file.name))
    if not files:
        raise BenchError("the sidecar left no profile; it was ended before it could write one")
    for file in files:
        out = io.StringIO()
        stats = pstats.Stats(str(file), stream=out)
        if file.name != "main.prof" and stats.total_tt < CPU_OF_A_QUIET_THREAD:  # type: ignore[attr-defined]
            continue
        stats.sort_stats(sort).print_stats(top if file.name == "main.prof" else max(10, top // 2))
        click.echo(f"── thread {file.stem}")
        click.echo(out.getvalue().strip() + "\n")


if __name__ == "__main__":
    bench(prog_name="python -m bench")
