"""The commands audit tail and audit search: records as lines for people, or as they are. They judge nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from rich.console import Console

from sidecar.audit.record import to_json
from sidecar.cli.audit_reading import Reading, Wanted, audit_file, files_of, filters, moment, times, where
from sidecar.cli.command import Command, json_option
from sidecar.cli.decision_line import Following, Record, line_of
from sidecar.errors import ConfigError

LOOK_EVERY = 0.2
"""Seconds between two looks for new records."""


@click.command(
    "tail",
    cls=Command,
    short_help="Show the last records, and with -f what comes.",
    exits={0: "they are shown, be it none"},
    examples="""
opend-sidecar audit tail -f
opend-sidecar audit tail -n 5 --outcome reject
opend-sidecar audit tail -f --json | jq -r 'select(.reason) | .reason'
""",
)
@where
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="So many of the last records."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new ones as they come; Ctrl-C ends it.")
@filters
@json_option("The records as they are, one a line.")
def tail(
    file: Path | None, config: Path | None, lines: int, follow: bool, as_json: bool, **asked: str | None
) -> None:  # fmt: skip
    """Show the last records of the audit, and with -f what comes.

    FILE is by default that of the settings. Only the current file is looked at; `audit search` reads the rotated ones too.
    """
    path, wanted = audit_file(file, config), Wanted(**asked)
    following, show = Following(path), _Shown(as_json=as_json, dated=False)
    try:
        if path.is_dir():
            raise ConfigError(f"`{path}` is a folder; give the path of the audit file in it")
        if not path.exists() and not follow:
            raise ConfigError(f"there is no audit at `{path}`; give its path")
        for record in following.last(lines, wanted.in_line):
            show(record)
        while follow:
            for record in following.new():
                if wanted.has(record):
                    show(record)
            sys.stdout.flush()
            time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        pass
    except OSError as error:
        raise ConfigError(f"the audit `{path}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    finally:
        following.close()


@click.command(
    "search",
    cls=Command,
    short_help="Find records, in the rotated files too.",
    exits={0: "there are such records", 1: "there is none, or the audit could not be read"},
    examples="""
opend-sidecar audit search --key bot --code order_value --since 09:30
opend-sidecar audit search --order 6666
opend-sidecar audit search --decision 01M7ZJQBFH1G9ZHDRSQK2QVDJP
""",
)
@where
@filters
@times
@json_option("The records as they are, one a line.")
def search(
    file: Path | None, config: Path | None, since: str | None, until: str | None, as_json: bool, **asked: str | None
) -> None:  # fmt: skip
    """Find records, in FILE and in the rotated files beside it, oldest first. All that is asked for must hold.

    --decision takes what a bot shows who was refused, or the remark of an order, with its # or without.
    """
    wanted = Wanted(**asked, since=moment("--since", since), until=moment("--until", until))
    reading, show = Reading(files_of(audit_file(file, config)), wanted), _Shown(as_json=as_json, dated=True)
    found = False
    for record in reading:
        show(record)
        found = True
    say_unreadable(reading)
    if not found:
        click.echo("no record is like that", err=True)
        raise SystemExit(1)


def say_unreadable(reading: Reading) -> None:
    if reading.unreadable:
        what = "1 line is no record" if reading.unreadable == 1 else f"{reading.unreadable} lines are no records"
        click.echo(f"{what}; `audit verify` says where", err=True)


class _Shown:
    """How records are shown: as lines for people, or as they are."""

    def __init__(self, *, as_json: bool, dated: bool) -> None:
        self._as_json = as_json
        self._dated = dated
        # into a pipe nothing is cut to the width of a screen
        self._console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False, soft_wrap=True)

    def __call__(self, record: Record) -> None:
        if self._as_json:
            click.echo(to_json(dict(record)))
        else:
            self._console.print(line_of(record, dated=self._dated))
