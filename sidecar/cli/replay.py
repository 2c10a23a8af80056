"""The command replay: which orders of an audit other keys would have decided otherwise, as a table. It changes nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar.border import one_line
from sidecar.cli.audit_reading import Reading, audit_file, files_of
from sidecar.cli.audit_search import say_unreadable
from sidecar.cli.command import Command, json_option, settings_from
from sidecar.errors import ConfigError
from sidecar.intents.model import PlaceCombo, PlaceOrder
from sidecar.keys.file import load
from sidecar.keys.machine import default_zone, machine_id
from sidecar.ledger.clock import day_starts
from sidecar.policy.exact import plain
from sidecar.replaying.recorded import Recorded
from sidecar.replaying.replay import Difference, Outcome, Replay
from sidecar.terms import terms_of

DIFFERENT = 1
"""The exit code where something would have been decided otherwise."""
MOST_SHOWN = 50


@click.command(
    "replay",
    cls=Command,
    short_help="Say what other keys would have decided differently.",
    exits={0: "nothing differs; what cannot be told is no difference", 1: "something differs, or it could not be made"},
    examples="""
opend-sidecar replay --keys new-keys.json
opend-sidecar replay audit.2026-03-01.jsonl audit.jsonl --keys new-keys.json
opend-sidecar replay --keys new-keys.json --json | jq .differences
""",
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[AUDIT]...")
@click.option(
    "--keys", "keys_file", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The other keys.json."
)
@click.option(
    "--assume-limit",
    is_flag=True,
    help="Count orders without a recorded value as quantity × limit, in their market's currency.",
)
@click.option("--all", "everything", is_flag=True, help=f"Show every difference, not the first {MOST_SHOWN}.")
@json_option("The result as JSON, for programs; every difference is in it.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings: the audit, where a day begins, rates of exchange."
)
def replay(
    files: tuple[Path, ...], keys_file: Path, assume_limit: bool, everything: bool, as_json: bool, config: Path | None
) -> None:  # fmt: skip
    """Go through an audit and say what the keys in another keys.json would have decided differently.

    Try new limits on the orders of yesterday before they hold.

    Every order, change and cancel of AUDIT and of the rotated files beside it (several AUDITs: of just those files, in that
    order) is decided anew by the same rules, with what was used counted as it goes: what the new keys refuse uses
    nothing, what they let through counts as if OpenD had taken it.

    Records do not say everything: no quotes, no holdings, no market sessions, no fills. Where a decision hangs on one of them it
    is counted as not to be told, with the reason, and never guessed. Halts, and what OpenD or the disk refused, stay as they were.
    """
    settings = settings_from(config, {})
    policy, zone = settings.policy, default_zone(settings.keys.timezone)
    keys = {one.key.id: one.key for one in load(keys_file.expanduser(), zone).records}
    reading = Reading(_read_from(files, config))
    outcome = Replay(
        keys, day_starts(policy.day_rolls_at, policy.day_zone), terms_of(policy), _machine(), at_limit=assume_limit
    ).run(reading)
    say_unreadable(reading)
    if as_json:
        click.echo(json.dumps(tree_of(outcome), indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
        _show(outcome, None if everything else MOST_SHOWN, console)
    if outcome.differences:
        raise SystemExit(DIFFERENT)


def _read_from(files: tuple[Path, ...], config: Path | None) -> list[Path]:
    if len(files) <= 1:
        return files_of(audit_file(files[0] if files else None, config))
    for file in files:
        if file.is_dir():
            raise ConfigError(f"`{file}` is a folder; give the paths of audit files")
        if not file.exists():
            raise ConfigError(f"there is no audit at `{file}`; give its path")
    return list(files)


def _machine() -> str | None:
    try:
        return machine_id()
    except ConfigError:
        return None


# -- words -----------------------------------------------------------------------------------------------------------


def tree_of(outcome: Outcome) -> dict[str, Any]:
    return {
        "decisions": outcome.decisions,
        "from_the_start": outcome.from_the_start,
        "differences": [
            {
                "at": one.recorded.at.isoformat(), "key": one.recorded.key_id, "decision": one.recorded.decision,
                "order": _subject(one.recorded), "was": one.was, "now": one.now, "message": one.text or None,
            }
            for one in outcome.differences.values()
        ],
        "keys": {
            key_id: {
                "same": tally.same, "refused_for_another_reason": tally.another_reason, "now_refused": tally.now_refused,
                "now_allowed": tally.now_allowed, "cannot_be_told": tally.untold,
            }
            for key_id, tally in sorted(outcome.keys.items())
        },
        "cannot_be_told": dict(outcome.untold.most_common()),
    }  # fmt: skip


def _show(outcome: Outcome, most: int | None, console: Console) -> None:
    if outcome.differences:
        console.print(_differences(list(outcome.differences.values())[:most]))
    if most is not None and len(outcome.differences) > most:
        console.print(Text(f"and {len(outcome.differences) - most} more; --all shows them"))
    console.print(_tallies(outcome))
    for why, count in outcome.untold.most_common():
        console.print(Text(f"? {count} cannot be told, {one_line(why, 200)}", "yellow"))
    if not outcome.from_the_start:
        console.print(Text("! what was used before the first record is not known", "yellow"))
    if not outcome.differences:
        console.print(Text(f"✓ no difference in {outcome.decisions} decisions", "green"))


def _differences(differences: list[Difference]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("TIME", "KEY", "ORDER", "WAS", "NOW", "WHY"):
        table.add_column(column, overflow="fold")
    for one in differences:
        at = f"{one.recorded.at.astimezone():%Y-%m-%d %H:%M:%S}"
        colour = "green" if one.now == "allowed" else "red"
        told = [Text(one_line(text, 200)) for text in (at, one.recorded.key_id, _subject(one.recorded), one.was)]
        table.add_row(*told, Text(one.now, colour), Text(one_line(one.text, 300)))
    return table


def _tallies(outcome: Outcome) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("KEY", "THE SAME", "NOW REFUSED", "NOW ALLOWED", "CANNOT BE TOLD"):
        table.add_column(column, justify="left" if column == "KEY" else "right")
    for key_id, tally in sorted(outcome.keys.items()):
        counts = (tally.same, tally.now_refused, tally.now_allowed, tally.untold)
        table.add_row(Text(one_line(key_id)), *(Text(str(count)) for count in counts))
    return table


def _subject(one: Recorded) -> str:
    """The order in few words: `BUY 100 HK.00700 at 350`, `cancel 6666`."""
    order, named = one.order, one.ids[1] or str(one.ids[0] or "")
    if order is None:
        return f"cancel {named or 'every order'}"
    at = "" if order.price is None else f" at {plain(order.price)}"
    if isinstance(order, PlaceCombo):
        what = f"{plain(order.qty)} × {order.symbol}{at}"
    else:
        what = f"{order.side} {plain(order.qty)} {order.security.symbol}{at}"
    return what if isinstance(one.intent, PlaceOrder | PlaceCombo) else f"change {named} to {what}"
