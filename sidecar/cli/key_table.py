"""Keys as a table for people, in few words, and as a tree for programs. Shows no hash; decides nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sidecar.intents.model import OrderType
from sidecar.keys.record import StoredKey
from sidecar.policy.exact import plain
from sidecar.policy.key import HoursWindow, Key


def table(keys: Iterable[Key], now: datetime, certificates: Mapping[str, int] | None = None) -> Table:
    """One row a key. `now` is aware; expired keys say so. `certificates`: how many client certificates are a key, by its id."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("ID", "SCOPES", "LIMITS", "BOUND", "EXPIRES", "NOTE"):
        made.add_column(column, overflow="fold")
    for key in keys:
        scopes = ",".join(sorted(scope.value for scope in key.scopes))
        where = bound(key, (certificates or {}).get(key.id, 0))
        cells = key.id, scopes, limits(key), where, _expires(key, now), key.note or ""
        made.add_row(*map(_cell, cells))
    return made


def tree(stored: StoredKey, now: datetime | None = None) -> dict[str, Any]:
    """The record as keys.json has it, without its hashes; what is not limited is left out. Amounts are text, so that nothing is
    rounded. With `now` it says `expired` and `frozen` too."""
    key, told = stored.key, dict[str, Any]()
    for each in dataclasses.fields(Key):
        value = getattr(key, each.name)
        if value is not None:
            told["timezone" if each.name == "zone" else each.name] = _plain(value)
    if key.hours_window is None:
        told.pop("timezone", None)
    if stored.client_certs:
        told["client_certs"] = sorted(one.hex() for one in stored.client_certs)
    if now is not None:
        told["expired"] = key.expires_at is not None and now >= key.expires_at
        told["frozen"] = key.frozen
    return told


def _plain(value: object) -> Any:
    match value:
        case OrderType():
            return value.name
        case bool() | int():
            return value
        case Decimal():
            return plain(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case HoursWindow():
            return _window(value)
        case frozenset():
            return sorted(map(_plain, value))
        case tuple():
            return [_plain(one) for one in value]
        case _:
            return str(value)


def limits(key: Key) -> str:
    """The limits of a key in short: `rate=3/m,sell,ord=50k`; `-` when it has none."""
    parts: list[str] = []
    if key.max_orders_per_minute is not None:
        parts.append(f"rate={key.max_orders_per_minute}/m")
    if key.allowed_trd_sides is not None:
        parts.append("+".join(sorted(side.value.lower() for side in key.allowed_trd_sides)))
    if key.allowed_order_types is not None:
        parts.append(f"type={_few(one.name.lower() for one in key.allowed_order_types)}")
    if key.max_order_value is not None:
        parts.append(f"ord={_short(key.max_order_value)}")
    if key.max_daily_value is not None:
        parts.append(f"day={_short(key.max_daily_value)}")
    if key.max_position_value is not None:
        parts.append(f"pos={_short(key.max_position_value)}")
    if key.cap_currency is not None:
        parts.append(f"in={key.cap_currency}")
    if key.max_open_orders is not None:
        parts.append(f"open={key.max_open_orders}")
    if key.max_order_qty is not None:
        parts.append(f"qty={_short(key.max_order_qty)}")
    if key.price_collar_pct is not None:
        parts.append(f"collar={key.price_collar_pct:f}%")
    if key.duplicate_window_s is not None:
        parts.append(f"dup={key.duplicate_window_s}s")
    if key.trading_hours:
        parts.append("trading-hours")
    if key.extended_hours is False:
        parts.append("regular-hours")
    if key.allow_short is not None:
        parts.append("short" if key.allow_short else "no-short")
    if key.cancel_on_disconnect is not None:
        parts.append(f"gone={key.cancel_on_disconnect}s")
    if key.allowed_markets is not None:
        parts.append(f"mkt={'+'.join(sorted(key.allowed_markets))}")
    if key.allowed_symbols is not None:
        parts.append(f"sym={_few(key.allowed_symbols)}")
    if key.allowed_acc_ids is not None:
        parts.append(f"acc={_few(map(str, key.allowed_acc_ids))}")
    if key.hours_window is not None:
        parts.append(f"hours={'+'.join(map(_window, key.hours_window))} {key.zone}")
    if key.allowed_ips is not None:
        parts.append(f"ip={_few(key.allowed_ips)}")
    return ",".join(parts) or "-"


def bound(key: Key, certificates: int = 0) -> str:
    """`*` for any machine, `FROZEN`, or how many machines; and how many client certificates show the key."""
    machines = "FROZEN" if key.frozen else f"{len(key.allowed_machines or ())} machine(s)"
    if key.allowed_machines is None:
        machines = "*"
    return f"{machines}, {certificates} certificate(s)" if certificates else machines


def _expires(key: Key, now: datetime) -> str:
    if key.expires_at is None:
        return "never"
    at = key.expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
    return f"{at} EXPIRED" if now >= key.expires_at else at


def _short(amount: Decimal) -> str:
    """`50k`, `2M`, or the whole number where shortening would round."""
    for size, unit in ((Decimal(10**6), "M"), (Decimal(10**3), "k")):
        if amount % size == 0:
            return f"{amount / size:f}{unit}"
    return f"{amount:f}"


def _few(values: Iterable[str]) -> str:
    listed = sorted(values)
    return "+".join(listed) if len(listed) <= 3 else f"{len(listed)} listed"


def _window(window: HoursWindow) -> str:
    end = "24:00" if window.end == time(0) else f"{window.end:%H:%M}"
    return f"{window.start:%H:%M}-{end}"


def _cell(text: str) -> Text:
    # SECURITY: a note is free text; escape sequences in it must not reach the terminal.
    return Text("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))
