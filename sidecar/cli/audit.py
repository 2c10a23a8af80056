"""The command group `audit`, and in it `verify`, which says what is wrong with an audit and where. Writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from sidecar.audit.chain import Head
from sidecar.audit.files import rotated_files
from sidecar.audit.verify import Report
from sidecar.audit.verify import verify as verify_files
from sidecar.cli.audit_reading import files_of
from sidecar.cli.audit_report import report
from sidecar.cli.audit_search import search, tail
from sidecar.cli.command import Command, json_option, settings_from
from sidecar.errors import ConfigError
from sidecar.ledger.sqlite import read_audit_head

MOST_SHOWN = 50
_WORTH_A_BAR = 20 * 1024 * 1024


@click.group("audit")
def audit() -> None:
    """Look at the audit: what was decided, and whether it is whole.

    Each takes the audit FILE, by default that of the settings. `opend-sidecar audit search --help` says more of its own.
    """


for command in (tail, search, report):
    audit.add_command(command)


@audit.command(
    "verify",
    cls=Command,
    short_help="Check that no record was changed, removed or added.",
    exits={0: "every record is as it was written", 1: "something is wrong, or the audit could not be read"},
    examples="""
opend-sidecar audit verify
opend-sidecar audit verify /backup/audit.jsonl --state-dir /backup/state
opend-sidecar audit verify --json | jq .whole
""",
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file, which names audit and state directory.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where the ledger is.")
@json_option()
def verify(file: Path | None, config: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Check every record of the audit FILE and of the rotated files beside it.

    Finds records that were changed, removed, moved or added, and says where. The end of the audit is compared with what
    the ledger in the state directory knows, which also finds last records that were cut off. FILE and --state-dir are
    by default those of the settings; a FILE that is not the settings' own needs a --state-dir to be compared with.

    Somebody who can rewrite both the audit and the ledger can forge them so that nothing is found: ship the audit to
    another machine if you need to exclude that.
    """
    settings = settings_from(config, {"state_dir": state_dir})
    own = settings.audit_file.expanduser().resolve()
    file = own if file is None else file.expanduser().resolve()
    if state_dir is None and file == own:
        state_dir = settings.state_dir
    # The ledger first: the files may go on growing while they are read, and must only ever be ahead of it.
    stored = None if state_dir is None else read_audit_head(state_dir.expanduser())
    files = files_of(file)
    known = None if stored is None else Head(stored[0], stored[1])
    report = _read(files, known, stored is not None and stored[2])
    if report.damage and rotated_files(file) != files[:-1]:  # it was rotated while we read
        files = files_of(file)
        report = _read(files, known, stored is not None and stored[2])
    if as_json:
        click.echo(json.dumps(_tree(report, files, ledger_known=known is not None), indent=2))
    else:
        _say(report, files, known, state_dir)
    if report.damage:
        raise SystemExit(1)


def _read(files: list[Path], known: Head | None, closed: bool) -> Report:
    total = sum(path.stat().st_size for path in files)
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    try:
        with Progress(*columns, console=console, transient=True, disable=total < _WORTH_A_BAR) as bar:
            task = bar.add_task("reading", total=total)
            return verify_files(files, known, closed, lambda size: bar.advance(task, size))
    except OSError as error:
        raise ConfigError(f"the audit cannot be read: {error}") from error


def _tree(report: Report, files: list[Path], *, ledger_known: bool) -> dict[str, Any]:
    """`compared_with_ledger`: without, last records that were cut off are not noticed."""
    return {
        "whole": not report.damage,
        "records": report.lines,
        "first_seq": report.first,
        "last_seq": None if report.last is None else report.last.seq,
        "files": [str(path) for path in files],
        "compared_with_ledger": ledger_known,
        "damage": [
            {"file": str(one.path), "line": one.line, "seq": one.seq, "what": one.what} for one in report.damage
        ],
    }


def _say(report: Report, files: list[Path], known: Head | None, state_dir: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    many = f"{len(files)} files" if len(files) > 1 else f"`{files[0].name}`"
    last = "nothing" if report.last is None else f"seq {report.first} to {report.last.seq}"
    console.print(f"{report.lines} records in {many}, {last}")
    if report.first is not None and report.first > 1:
        console.print(f"! seq 1 to {report.first - 1} are not here: older files were moved or deleted", markup=False)
    if state_dir is None:
        console.print("! without --state-dir, last records that were cut off are not noticed", markup=False)
    elif known is None:
        console.print(f"! `{state_dir}` holds no ledger: last records that were cut off are not noticed", markup=False)
    for damage in report.damage[:MOST_SHOWN]:
        seq = "" if damage.seq is None else f", seq {damage.seq}"
        console.print(f"✗ {damage.path.name} line {damage.line}{seq}: {damage.what}", markup=False, style="red")
    if len(report.damage) > MOST_SHOWN:
        console.print(f"✗ and {len(report.damage) - MOST_SHOWN} more", style="red")
    if not report.damage:
        console.print("✓ the chain is whole", style="green")
