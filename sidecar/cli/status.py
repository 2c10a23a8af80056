"""`status`: what is halted, what the keys have left, who is connected, what was refused last; once, or over and over. Changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sidecar.border import one_line
from sidecar.cli.cancel_progress import run_lines
from sidecar.cli.owner import NoAnswer, ask
from sidecar.cli.trading import folder_of, from_disk, standing_line, where
from sidecar.policy.exact import plain

EVERY = 1.0
"""Seconds between two looks with --watch."""
NARROWEST = 100
"""Columns of the tables where there is no terminal to say how many it has."""
_BAR = 6
_LONGEST = 400
"""Characters of a text of somebody else's."""
_SHOWN = 8
"""Refusals that are shown; `--json` has more, and the audit all."""
_LOCK = {
    "unknown": "whether OpenD is unlocked is not known",
    "locked": "OpenD is LOCKED",
    "unlocked": "OpenD is unlocked",
}

Tree = dict[str, Any]


@click.command("status")
@click.option("--watch", is_flag=True, help="Look again every second, until ended with Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs; with --watch one line a second.")
@where
def status(watch: bool, as_json: bool, config: Path | None, state_dir: Path | None) -> None:
    """Show what is halted, what each key has left, and whether the sidecar and OpenD are well.

    \b
    Exit codes:
      0  a sidecar answered, whatever it said
      1  none answered; what the next one starts with is shown
    """
    _, folder = folder_of(config, state_dir)
    if watch:
        _watch(folder, as_json=as_json)
        return
    told = ask(folder, "GET", "/api/admin/status")
    if told is None:
        told = from_disk(folder)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo("\n".join(_lines(told)))
        terminal = Console()
        console = terminal if terminal.is_terminal else Console(width=NARROWEST)
        for table in _tables(told, console.width):
            console.print(table)
    if told["pid"] is None:
        raise SystemExit(1)


def _watch(folder: Path, *, as_json: bool) -> None:
    console = Console(quiet=as_json)
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal, transient=True) as live:
            while True:
                told = _now(folder)
                if as_json:
                    click.echo(json.dumps(told))
                else:
                    live.update(_screen(told, console.width), refresh=True)
                time.sleep(EVERY)
    except KeyboardInterrupt:
        return


def _now(folder: Path) -> Tree:
    """A sidecar that does not answer at this moment may at the next one."""
    try:
        told = ask(folder, "GET", "/api/admin/status")
    except NoAnswer as error:
        told = from_disk(folder)
        told["problems"] = [{"component": "sidecar", "message": str(error)}]
    return from_disk(folder) if told is None else told


def _screen(told: Tree, width: int) -> RenderableType:
    style = {"HALTED": "bold red", "REDUCING": "bold yellow"}.get(told["trading"]["state"], "bold green")
    first, *others = _lines(told)
    clock = Text(time.strftime("%H:%M:%S  Ctrl-C ends this"), style="dim")
    return Group(Text(first, style=style), *map(Text, others), *_tables(told, width), clock)


# -- lines -----------------------------------------------------------------------------------------------------------


def _lines(told: Tree) -> list[str]:
    lines = [f"trading    {standing_line(told['trading'])}"]
    lines += [f"           {standing_line(one)}" for one in told["keys"]]
    if not told["saved"]:
        lines.append(f"           NOT ON DISK, a restart would not know this: {told['save_problem']}")
    for run in told["cancelling"]:
        lines += [f"           {line}" for line in run_lines(run)]
    lines.append(f"ready      {'yes' if told['ready'] else 'no'}")
    lines += [f"           {one['component']}: {one['message']}" for one in told["problems"]]
    upstream = told["upstream"]
    if upstream is not None:
        lines.append(f"OpenD      {upstream['address']}, {'connected' if upstream['up'] else 'not connected'}")
        lines.append(f"           real trading: {_LOCK.get(upstream['lock'], upstream['lock'])}")
        lines.append(f"           {upstream['connections']} of {upstream['max_connections']} connections to it")
    if told["clients"]:
        lines.append("clients    " + ", ".join(f"{iface} {count}" for iface, count in told["clients"].items()))
    if told["breakers"]:
        lines.append("breakers   " + "; ".join(_breakers(told["breakers"])))
    if told["records"] is not None:
        lines.append(f"records    {_records(told['records'])}")
    if told["revision"] is not None:
        lines.append(f"keys       revision {told['revision'][:12]}")
    if told["pid"] is not None:
        lines.append(f"process    {told['pid']}, version {told['version']}, since {_when(told['began'])}")
    return [one_line(line, _LONGEST) for line in lines]


def _breakers(breakers: dict[str, str | None]) -> Iterator[str]:
    for name, limit in breakers.items():
        yield f"{name} {'off' if limit is None else limit}"


def _records(records: Tree) -> str:
    failing = [name for name, ok in (("audit", records["audit_ok"]), ("ledger", records["ledger_ok"])) if not ok]
    state = f"{' and '.join(failing)} CANNOT BE WRITTEN" if failing else "audit and ledger are written"
    return f"{state}, {records['waiting']} waiting"


# -- tables ----------------------------------------------------------------------------------------------------------


def _tables(told: Tree, width: int) -> Iterator[Table]:
    if told["headroom"]:
        yield _keys(told["headroom"], bars=width >= NARROWEST)
    if told["refusals"]:
        yield _refusals(told["refusals"][:_SHOWN])


def _keys(keys: list[Tree], *, bars: bool) -> Table:
    """Without its bars it fits a terminal of 80 columns: numbers tell as much, and the ids stay whole."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("KEY", overflow="fold", ratio=1)
    for column in ("STATE", "CONN", "ORDERS/MIN", "OPEN ORDERS", "VALUE OF THE DAY"):
        made.add_column(column, no_wrap=True)
    for key in keys:
        state = key["unusable"] or key["state"]
        made.add_row(
            _cell(key["key"]), Text(state, style="" if state == "ACTIVE" else "red"), str(key["connections"]),
            _used(key["orders_per_minute"], bars), _used(key["open_orders"], bars), _day(key, bars),
        )  # fmt: skip
    return made


def _used(one: Tree, bars: bool) -> Text:
    if one["limit"] is None:
        return Text(str(one["used"]))
    return _of(Decimal(one["used"]), Decimal(one["limit"]), bars)


def _day(key: Tree, bars: bool) -> Text:
    day = key["daily_value"]
    limit = day["limit"]
    if limit is None:
        return Text(", ".join(f"{plain(Decimal(value))} {currency}" for currency, value in day["used"].items()) or "-")
    shown = Text()
    for currency, value in day["used"].items() or ((key["cap_currency"] or "", "0"),):
        shown.append("\n" if shown else "")
        shown.append_text(_of(Decimal(value), Decimal(limit), bars)).append(f" {currency}".rstrip())
    return shown


def _of(used: Decimal, limit: Decimal, bars: bool) -> Text:
    """`━━──── 2 of 5`; without a bar the numbers have its colour, once it warns."""
    share = min(Decimal(1), used / limit) if limit else Decimal(1)
    style = "red" if share >= 1 else "yellow" if share >= Decimal("0.8") else "green"
    numbers = f"{plain(used)} of {plain(limit)}"
    if not bars:
        return Text().append(numbers, style="" if style == "green" else style)
    full = int(share * _BAR)
    return Text().append("━" * full, style=style).append("─" * (_BAR - full), style="dim").append(f" {numbers}")


def _refusals(refusals: list[Tree]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("REFUSED", no_wrap=True)
    made.add_column("KEY", overflow="fold")
    made.add_column("CODE", no_wrap=True)
    made.add_column("WHY", overflow="fold", ratio=1)
    for one in refusals:
        times = f" ({one['times']}×)" if one["times"] > 1 else ""
        made.add_row(one["at"][11:19] + times, _cell(one["key"]), one["code"], _cell(one["message"] or ""))
    return made


def _cell(text: str) -> Text:
    return Text(one_line(text, _LONGEST))


def _when(moment: str) -> str:
    return moment.replace("T", " ").replace("+00:00", " UTC")
