"""The command audit report: what each key did in a day, summed up out of the audit. It judges nothing and writes nothing."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar.border import one_line
from sidecar.cli.audit_reading import Reading, Wanted, audit_file, day_of, files_of, moment, times, where
from sidecar.cli.audit_search import say_unreadable
from sidecar.cli.command import Command, WrongUsage, json_option
from sidecar.cli.decision_line import Record
from sidecar.errors import ConfigError
from sidecar.ledger.use import EXACT
from sidecar.policy.exact import plain

_WIDEST = 50
"""Characters of the longest bar."""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_ZERO = Decimal(0)
_NOT_NEW = ("modify", "disable", "delete")
"""Changes whose record has the worth of the whole order, which was counted when it was placed."""


@dataclass(slots=True)
class OfKey:
    """What one key did. An order counts where it was allowed and neither held back after all nor refused by OpenD."""

    orders: int = 0
    changes: int = 0
    cancels: int = 0
    failed: int = 0
    """Allowed, and OpenD refused it, or it failed there."""
    unvalued: int = 0
    """Orders whose value is not recorded: no limit of the key asked for it."""
    refused: Counter[str] = field(default_factory=Counter)
    value: dict[str, Decimal] = field(default_factory=dict)
    """By currency."""
    by_hour: dict[str, dict[int, Decimal]] = field(default_factory=lambda: defaultdict(dict))
    """By currency and hour of this machine's day."""

    def tree(self) -> dict[str, Any]:
        return {
            "orders": self.orders, "changes": self.changes, "cancels": self.cancels, "failed_at_opend": self.failed,
            "orders_without_value": self.unvalued,
            "value": {currency: plain(value) for currency, value in sorted(self.value.items())},
            "value_by_hour": {
                currency: {f"{hour:02}": plain(value) for hour, value in sorted(hours.items())}
                for currency, hours in sorted(self.by_hour.items())
            },
            "refused": dict(self.refused.most_common()),
        }  # fmt: skip


@click.command(
    "report",
    cls=Command,
    short_help="Sum up what each key did in a day.",
    exits={
        0: "there are records, and they are summed up",
        1: "there is no record of that time, or it could not be read",
    },
    examples="""
opend-sidecar audit report
opend-sidecar audit report --day 2026-03-02 --key bot
opend-sidecar audit report --since 7d --json | jq .keys.bot.value
""",
)
@where
@click.option("--day", metavar="DATE", help="A day, e.g. 2026-11-21.  [default: that of the last record]")
@times
@click.option("--key", metavar="ID", help="Of this key only.")
@json_option()
def report(
    file: Path | None, config: Path | None, day: str | None, since: str | None, until: str | None, key: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Sum up what each key did: orders and their value, cancels, refusals by reason, and the value hour by hour.

    Value is what orders were worth when they were allowed, as far as a limit of their key asked for it; orders that
    OpenD refused, or that were held back after all, are not in it. Days and hours are by this machine's clock. FILE and
    the rotated files beside it are read.
    """
    if day is not None and (since or until):
        raise WrongUsage("say --day, or --since and --until")
    start, end = moment("--since", since), moment("--until", until)
    if day is not None:
        start, end = day_of("--day", day)
    files = files_of(audit_file(file, config))
    if start is None and end is None:
        start, end = day_of("--day", _last_day(files))
    reading = Reading(files, Wanted(key=key, since=start, until=end))
    keys = summed(reading)
    say_unreadable(reading)
    if as_json:
        click.echo(
            json.dumps({"since": start, "until": end, "keys": {one: keys[one].tree() for one in keys}}, indent=2)
        )
    elif keys:
        _show(keys, start, end, Console(width=None if sys.stdout.isatty() else 120, highlight=False))
    if not keys:
        click.echo(f"there is no record from {start or 'the beginning'} to {end or 'now'}", err=True)
        raise SystemExit(1)


def summed(records: Iterable[Record]) -> dict[str, OfKey]:
    """By key id. Records of the sidecar's own (halts, the audit itself) are left out."""
    keys: defaultdict[str, OfKey] = defaultdict(OfKey)
    allowed: dict[str, Record] = {}
    ended: dict[str, str] = {}
    for record in records:
        decision = record.get("decision_id", "")
        if record["key_id"] == "<none>":
            continue
        if record["outcome"] == "allow":
            if _is_order(record) and "message" not in record:  # one with a message is a repeat: nothing was sent
                allowed[decision] = record
        elif record["outcome"] == "reject":
            keys[record["key_id"]].refused[record.get("reason", "?")] += int(record.get("count", 1))
            ended[decision] = "held back"
        elif record["outcome"] == "failure" and _is_order(record):
            ended.setdefault(decision, "failed")
    for decision, record in allowed.items():
        _count(keys[record["key_id"]], record, ended.get(decision))
    return dict(sorted(keys.items()))


def _is_order(record: Record) -> bool:
    return "op" in record or "symbol" in record


def _count(of: OfKey, record: Record, end: str | None) -> None:
    if end == "held back":
        return
    if end == "failed":
        of.failed += 1
        return
    op = record.get("op", "")
    if op.startswith("cancel"):
        of.cancels += 1
    elif op:
        of.changes += 1
    else:
        of.orders += 1
    if op.startswith("cancel") or op in _NOT_NEW:
        return
    if "value" not in record:
        of.unvalued += 1
        return
    value, currency = Decimal(record["value"]), str(record.get("currency", "?"))
    of.value[currency] = EXACT.add(of.value.get(currency, _ZERO), value)
    hour, hours = datetime.fromisoformat(record["timestamp"]).astimezone().hour, of.by_hour[currency]
    hours[hour] = EXACT.add(hours.get(hour, _ZERO), value)


def _last_day(files: list[Path]) -> str:
    """The day of the last record, by this machine's clock."""
    last = ""
    for record in Reading(files[-1:]):
        last = record["timestamp"]
    if not last:
        raise ConfigError(f"there is no record in `{files[-1]}`; say which --day")
    return datetime.fromisoformat(last).astimezone().date().isoformat()


# -- words -----------------------------------------------------------------------------------------------------------


def _show(keys: dict[str, OfKey], start: str | None, end: str | None, console: Console) -> None:
    console.print(Text(f"from {_shown_time(start) or 'the beginning'} to {_shown_time(end) or 'now'}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("KEY", "ORDERS", "CHANGES", "CANCELS", "FAILED", "VALUE", "REFUSED"):
        table.add_column(column, overflow="fold", justify="left" if column in ("KEY", "VALUE", "REFUSED") else "right")
    for key_id, of in keys.items():
        value = "\n".join(f"{plain(amount)} {currency}" for currency, amount in sorted(of.value.items()))
        if of.unvalued:
            value = f"{value}\n{of.unvalued} not valued".strip()
        refused = "\n".join(f"{count} {one_line(reason)}" for reason, count in of.refused.most_common())
        cells = (
            one_line(key_id),
            str(of.orders),
            str(of.changes),
            str(of.cancels),
            str(of.failed),
            value or "-",
            refused or "-",
        )
        table.add_row(*map(Text, cells))
    console.print(table)
    for currency in sorted({currency for of in keys.values() for currency in of.value}):
        _chart(currency, keys, console)


def _chart(currency: str, keys: dict[str, OfKey], console: Console) -> None:
    """The value of all keys shown, hour by hour, from the first to the last that has any."""
    hours: dict[int, Decimal] = {}
    for of in keys.values():
        for hour, value in of.by_hour.get(currency, {}).items():
            hours[hour] = EXACT.add(hours.get(hour, _ZERO), value)
    most = max(hours.values(), default=_ZERO)
    console.print(Text(f"value by hour, {currency}", "bold"))
    for hour in range(min(hours), max(hours) + 1):
        value = hours.get(hour, _ZERO)
        line = Text(f"  {hour:02}:00 ")
        line.append(bar(value, most), "cyan")
        line.append(f" {plain(value)}" if value else "")
        console.print(line)


def bar(value: Decimal, most: Decimal) -> str:
    """As long as the value is of the most; what there is, is seen."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, int(value * _WIDEST * 8 / most))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _shown_time(at: str | None) -> str:
    return "" if at is None else f"{datetime.fromisoformat(at).astimezone():%Y-%m-%d %H:%M}"
