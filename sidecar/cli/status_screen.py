"""The status cut to the rows of a terminal: what matters most is shown, what has no room is counted. It asks nobody."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from sidecar.cli.status_view import SHOWN, Tree, further, keys_table, nearest, refusal_lines, tables, urgent

_NAMES = 2
"""Rows of a table's names and the line below them."""
_LEAST = 3
"""Keys, and refusals, that have room before there is any for more."""
_BESIDE = 2
"""Lines of what goes on beside that come before the keys that have nothing to tell: OpenD's."""


def screen(told: Tree, console: Console, clock: str) -> RenderableType:
    """Never higher than the console. Whatever fits whole is shown whole."""
    height, width = console.height, console.width
    last = _one_row(Text(f"{clock}  Ctrl-C ends this", style="dim"))
    head = [*_styled(urgent(told), told), *map(Text, further(told))]
    whole = Group(*head, *tables(told, width), last)
    if _rows(whole, console) <= height:
        return whole
    return _cut(told, console, height - 1, clock)


def _cut(told: Tree, console: Console, room: int, clock: str) -> Group:
    """What is urgent, each line one row; then some of everything, more keys, more refusals, and what goes on beside."""
    width = console.width
    keys, refusals = nearest(told["headroom"]), told["refusals"][:SHOWN]
    first, beside = _styled(urgent(told), told), [Text(line) for line in further(told)]

    least_keys = _NAMES + min(_LEAST, len(keys)) if keys else 0
    least_refusals = 1 + min(_LEAST, len(refusals)) if refusals else 0
    head = first[: max(2, room - least_keys - least_refusals)]
    room -= len(head)
    least_beside = min(_BESIDE, len(beside), max(0, room - least_keys - least_refusals))
    shown_keys = _fitting(keys, room - least_refusals - least_beside, console)
    table = keys_table(sorted(keys[:shown_keys], key=lambda key: str(key["key"])), width, tight=True)
    room -= _rows(table, console) if shown_keys else 0
    shown_refusals = min(len(refusals), max(0, room - least_beside - 1))
    told_refusals = refusal_lines(refusals[:shown_refusals]) if shown_refusals else []
    room -= len(told_refusals)
    head += beside[: max(0, room)]

    missing = {
        "line": len(first) + len(beside) - len(head),
        "key": len(keys) - shown_keys,
        "refusal": len(refusals) - shown_refusals,
    }
    counted = ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in missing.items() if count)
    last = (
        f"{clock}  Ctrl-C ends this; no room for {counted}: see `status`" if counted else f"{clock}  Ctrl-C ends this"
    )
    rows: list[RenderableType] = [*map(_one_row, head)]
    rows += [table] if shown_keys else []
    rows += [_one_row(Text(line, style="bold" if not number else "")) for number, line in enumerate(told_refusals)]
    return Group(*rows, _one_row(Text(last, style="dim")))


def _one_row(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _fitting(keys: list[Tree], room: int, console: Console) -> int:
    """How many of them have room; one key can take several rows."""
    count = min(len(keys), max(0, room - _NAMES))
    while count and _rows(keys_table(keys[:count], console.width, tight=True), console) > room:
        count -= 1
    return count


def _styled(lines: list[str], told: Tree) -> list[Text]:
    style = {"HALTED": "bold red", "REDUCING": "bold yellow"}.get(told["trading"]["state"], "bold green")
    return [Text(line, style=style if number == 0 else "") for number, line in enumerate(lines)]


def _rows(shown: RenderableType, console: Console) -> int:
    return len(console.render_lines(shown, console.options.update(height=None), pad=False))
