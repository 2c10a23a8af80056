"""The status as lines and tables for people, most urgent first. Asks nobody, and prints nothing."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sidecar.border import one_line
from sidecar.cli.cancel_progress import run_lines
from sidecar.cli.trading import standing_line
from sidecar.policy.exact import plain

NARROWEST = 100
"""Columns of the tables where there is no terminal to say how many it has."""
_BAR = 6
_LONGEST = 400
"""Characters of a text of somebody else's."""
SHOWN = 8
"""Refusals that are shown; `--json` has more, and the audit all."""
_LOCK = {
    "unknown": "whether OpenD is unlocked is not known",
    "locked": "OpenD is LOCKED",
    "unlocked": "OpenD is unlocked",
}

Tree = dict[str, Any]


def lines(told: Tree) -> list[str]:
    """All there is to say but for the tables."""
    return [*urgent(told), *further(told)]


def urgent(told: Tree) -> list[str]:
    """What is halted, what is being cancelled, whether orders would pass and if not why not; the first line is all trading."""
    found = [f"trading    {standing_line(told['trading'])}"]
    found += [f"           {standing_line(one)}" for one in told["keys"]]
    if not told["saved"]:
        found.append(f"           NOT ON DISK, a restart would not know this: {told['save_problem']}")
    for run in told["cancelling"]:
        found += [f"           {line}" for line in run_lines(run)]
    found.append(f"ready      {'yes' if told['ready'] else 'no'}")
    found += [f"           {one['component']}: {one['message']}" for one in told["problems"]]
    return [one_line(line, _LONGEST) for line in found]


def further(told: Tree) -> list[str]:
    """What goes on beside; the earlier, the more it tells."""
    lines: list[str] = []
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


def tables(told: Tree, width: int) -> Iterator[Table]:
    if told["headroom"]:
        yield keys_table(told["headroom"], width)
    if told["refusals"]:
        yield refusals_table(told["refusals"][:SHOWN])


def nearest(keys: list[Tree]) -> list[Tree]:
    """The keys of which most is to be seen first: halted, then by how much of a limit is used, then by connections."""
    return sorted(keys, key=lambda key: (key["state"] == "ACTIVE", -_share(key), -key["connections"]))


def _share(key: Tree) -> Decimal:
    """Of the limit it is nearest to; 1: nothing is left."""
    pairs = [(one["used"], one["limit"]) for one in (key["orders_per_minute"], key["open_orders"])]
    pairs += [(value, key["daily_value"]["limit"]) for value in key["daily_value"]["used"].values()]
    shares = [Decimal(used) / Decimal(limit) for used, limit in pairs if limit is not None and Decimal(limit) > 0]
    return max(shares, default=Decimal(0))


def keys_table(keys: list[Tree], width: int, *, tight: bool = False) -> Table:
    """Without its bars it fits a terminal of 80 columns: numbers tell as much, and the ids stay whole. `tight`: no empty rows."""
    bars = width >= NARROWEST
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=not tight)
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


def refusals_table(refusals: list[Tree]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("REFUSED", no_wrap=True)
    made.add_column("KEY", overflow="fold")
    made.add_column("CODE", no_wrap=True)
    made.add_column("WHY", overflow="fold", ratio=1)
    for one in refusals:
        made.add_row(_at(one), _cell(one["key"]), one["code"], _cell(one["message"] or ""))
    return made


def refusal_lines(refusals: list[Tree]) -> list[str]:
    """As the table has them, one row each, under a first line with the names; for where there is no room for a table."""
    rows = [("REFUSED", "KEY", "CODE", "WHY")]
    rows += [(_at(one), str(one["key"]), str(one["code"]), one["message"] or "") for one in refusals]
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ("   ".join([*map(str.ljust, row[:3], wide), row[3]]) for row in rows)
    return [one_line(line, _LONGEST) for line in lines]


def _at(refusal: Tree) -> str:
    return str(refusal["at"][11:19]) + (f" ({refusal['times']}×)" if refusal["times"] > 1 else "")


def _cell(text: str) -> Text:
    return Text(one_line(text, _LONGEST))


def _when(moment: str) -> str:
    return moment.replace("T", " ").replace("+00:00", " UTC")
