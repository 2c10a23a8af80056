"""`status`: what is halted, what the keys have left, who is connected, what was refused last; once, or over and over. Changes nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from sidecar.cli.command import NOT_DONE, Command, json_option
from sidecar.cli.owner import NoAnswer, ask
from sidecar.cli.status_screen import screen
from sidecar.cli.status_view import NARROWEST, Tree, lines, tables
from sidecar.cli.trading import folder_of, from_disk, where

EVERY = 1.0
"""Seconds between two looks with --watch."""


@click.command(
    "status",
    cls=Command,
    exits={0: "a sidecar answered, whatever it said", 1: "none answered; what the next one starts with is shown"},
    examples="""
opend-sidecar status
opend-sidecar status --watch
opend-sidecar status --json | jq '.headroom[] | {key, open_orders}'
""",
)
@click.option("--watch", is_flag=True, help="Look again every second, until ended with Ctrl-C.")
@json_option("The status as JSON, for programs; with --watch one line a second.")
@where
def status(watch: bool, as_json: bool, config: Path | None, state_dir: Path | None) -> None:
    """Show what is halted, and what each key has left.

    And whether the sidecar and OpenD are well, who is connected, and what was refused last. With --watch it fills the terminal:
    what is urgent comes first, and what has no room is counted.
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
        click.echo("\n".join(lines(told)))
        terminal = Console()
        console = terminal if terminal.is_terminal else Console(width=NARROWEST)
        for table in tables(told, console.width):
            console.print(table)
    if told["pid"] is None:
        raise SystemExit(NOT_DONE)


def _watch(folder: Path, *, as_json: bool) -> None:
    console = Console(quiet=as_json)
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal, transient=True) as live:
            while True:
                told = _now(folder)
                if as_json:
                    click.echo(json.dumps(told))
                else:
                    live.update(screen(told, console, time.strftime("%H:%M:%S")), refresh=True)
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
