"""Which settings can change while the sidecar runs, and how two sets of settings differ. Reads no file and changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import time
from decimal import Decimal
from typing import Any

from sidecar.border import one_line
from sidecar.settings import Breakers, Settings

CHANGEABLE: dict[str, tuple[str, ...]] = {
    "keys": ("stale_keys_max",),
    "audit": ("min_free", "reads"),
    "policy": ("price_buffer_pct", "fx", "tag_orders"),
    "breakers": tuple(field.name for field in dataclasses.fields(Breakers)),
    "log": ("level",),
    "": ("drain",),
}
"""Section → its settings that can change while the sidecar runs; "" are those of no section. All others need a restart: ports and
addresses, what is behind connections that stand, the day's limits of the ledger."""


@dataclass(frozen=True, slots=True)
class Change:
    """One setting by its dotted name (`policy.fx.rates`, `listeners.tcp[0].port`), and its two values as the file writes them."""

    setting: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.before} → {self.after}"

    def tree(self) -> dict[str, str]:
        return {"setting": self.setting, "from": self.before, "to": self.after}


def changeable(name: str) -> bool:
    """Whether the setting of a dotted name can change while the sidecar runs."""
    section, dot, below = name.partition(".")
    names = CHANGEABLE.get(section if dot else "", ())
    return (below.partition(".")[0] if dot else section) in names


def taken_over(running: Settings, wanted: Settings) -> Settings:
    """`running` with what can change taken from `wanted`."""
    found = running
    for section, names in CHANGEABLE.items():
        if not section:
            found = dataclasses.replace(found, **{name: getattr(wanted, name) for name in names})
            continue
        new = {name: getattr(getattr(wanted, section), name) for name in names}
        found = dataclasses.replace(found, **{section: dataclasses.replace(getattr(found, section), **new)})
    return found


def changes(before: Settings, after: Settings) -> tuple[Change, ...]:
    """Every setting that is not the same, in the order of the file."""
    return tuple(_changes(before, after, ""))


def _changes(before: Any, after: Any, name: str) -> Iterator[Change]:
    if before == after:
        return
    if dataclasses.is_dataclass(before) and type(before) is type(after):
        for field in dataclasses.fields(before):
            inside = f"{name}.{field.name}" if name else field.name
            yield from _changes(getattr(before, field.name), getattr(after, field.name), inside)
    elif _listed(before) and _listed(after) and len(before) == len(after):
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _changes(old, new, f"{name}[{place}]")
    else:
        door = any(dataclasses.is_dataclass(one) or _listed(one) for one in (before, after))
        yield Change(name, _told(before, door=door), _told(after, door=door))


def _listed(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(dataclasses.is_dataclass(one) for one in value)


def _told(value: object, *, door: bool) -> str:
    """As the settings file writes it. A listener is only open or `off`."""
    match value:
        case () | None if door:
            return "off"
        case tuple() if _listed(value):
            return f"{len(value)} open"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Decimal():
            return format(value, "f")
        case time():
            return f"{value:%H:%M}"
        case tuple():
            pairs = value and all(isinstance(one, tuple) for one in value)
            inside = [": ".join(_told(part, door=False) for part in one) if pairs else str(one) for one in value]
            return one_line(f"{{{', '.join(inside)}}}" if pairs else f"[{', '.join(inside)}]", 200)
        case _ if dataclasses.is_dataclass(value):
            return "open"
        case _:
            return one_line(str(value), 200)
