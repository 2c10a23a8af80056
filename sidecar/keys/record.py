"""One record of keys.json: raw object → Key and hashes, or every problem it has. Reads no file, compares no records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import ErrorDetails

from sidecar.border import CURRENCIES, closest, shown
from sidecar.intents.model import OrderType, Side
from sidecar.keys import fields
from sidecar.policy.key import TRADE_SCOPES, HoursWindow, Key, Scope

LIMIT_FIELDS = frozenset(
    {
        "allowed_markets", "allowed_symbols", "allowed_trd_sides", "allowed_acc_ids",
        "max_order_value", "max_daily_value", "max_orders_per_minute", "hours_window", "timezone", "allow_short",
        "allowed_order_types", "max_order_qty", "price_collar_pct", "duplicate_window_s", "extended_hours",
        "cap_currency", "max_open_orders", "max_position_value", "trading_hours", "cancel_on_disconnect",
    }
)  # fmt: skip
"""What may stand flat on the record or in its `limits` object."""

_NOT_YET = frozenset(
    {
        "enabled", "group", "max_requests_per_second", "require_signature", "public_key", "sealed_secret",
        "passphrase_hash",
    }
)  # fmt: skip
"""SECURITY: rules this version does not enforce. A record with one would promise a limit that is not there."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with what proves it: `hash`, `ws_hash` and each of `client_certs` are 32 bytes (SHA-256)."""

    key: Key
    hash: bytes = dataclasses.field(repr=False)
    ws_hash: bytes | None = dataclasses.field(repr=False)
    client_certs: frozenset[bytes] = frozenset()
    """Of the TLS client certificates that show this key as its secret does; public."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a record cannot be used. `field` is empty when the record as a whole is meant."""

    record: str
    field: str
    text: str

    def __str__(self) -> str:
        where = f"key {self.record}" if self.record else "the file"
        return f"{where}, field {shown(self.field)}: {self.text}" if self.field else f"{where}: {self.text}"


class JsonObject(dict[str, Any]):
    """A parsed JSON object that remembers which of its names were written more than once."""

    repeated: tuple[str, ...] = ()


def _is(read: Callable[[object], Any], written: Any = str) -> PlainValidator:
    """A value by `read`, which says what is wrong in prose; `written` is what the file has, for its JSON Schema."""
    return PlainValidator(read, json_schema_input_type=written)


def _absent_or(read: Callable[[object], Any], written: Any = str) -> PlainValidator:
    return _is(lambda value: None if value is None else read(value), written | None)


def _text(pattern: str) -> Any:
    return Annotated[str, Field(pattern=f"^{pattern}$")]


def _one_of(names: Iterable[str]) -> Any:
    return Annotated[str, Field(json_schema_extra={"enum": list(names)})]


def _list(one: Any, least: int = 1) -> Any:
    return Annotated[list[one], Field(min_length=least)]


_HEX = _text(r"(sha256:)?[0-9a-fA-F]{64}")
_MOMENT = _text(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_HOURS = _text(r"([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)")
_AMOUNT = Annotated[float, Field(gt=0)]
_ACCOUNT = Annotated[int, Field(gt=0, lt=2**64)]
_GRACE = bool | Annotated[int, Field(ge=15, le=3600)]
_COUNT = Annotated[int, Field(gt=0, le=100_000)]


class _Record(BaseModel):
    """The border: every field a record may have. null means absent."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    id: Annotated[str, _is(fields.key_id, Annotated[str, Field(min_length=1, max_length=64)])]
    hash: Annotated[bytes, _is(fields.digest, _HEX)]
    scopes: Annotated[frozenset[Scope], _is(fields.scopes, _list(_one_of(Scope)))]
    ws_hash: Annotated[bytes | None, _absent_or(fields.digest, _HEX)] = None
    client_certs: Annotated[frozenset[bytes] | None, _absent_or(fields.certificates, _list(str))] = None
    created_at: Annotated[datetime | None, _absent_or(fields.moment, _MOMENT)] = None
    expires_at: Annotated[datetime | None, _absent_or(fields.moment, _MOMENT)] = None
    note: Annotated[str | None, _absent_or(fields.note, Annotated[str, Field(max_length=1000)])] = None
    allowed_markets: Annotated[frozenset[str] | None, _absent_or(fields.markets, _list(_one_of(fields.MARKETS)))] = None
    allowed_symbols: Annotated[frozenset[str] | None, _absent_or(fields.symbols, _list(str))] = None
    allowed_trd_sides: Annotated[frozenset[Side] | None, _absent_or(fields.sides, _list(_one_of(Side)))] = None
    allowed_acc_ids: Annotated[frozenset[int] | None, _absent_or(fields.acc_ids, _list(_ACCOUNT))] = None
    allowed_order_types: Annotated[
        frozenset[OrderType] | None, _absent_or(fields.order_types, _list(_one_of(OrderType.__members__)))
    ] = None
    max_order_value: Annotated[Decimal | None, _absent_or(fields.cap, _AMOUNT)] = None
    max_daily_value: Annotated[Decimal | None, _absent_or(fields.cap, _AMOUNT)] = None
    max_position_value: Annotated[Decimal | None, _absent_or(fields.cap, _AMOUNT)] = None
    cap_currency: Annotated[str | None, _absent_or(fields.currency, _one_of(CURRENCIES))] = None
    max_orders_per_minute: Annotated[int | None, _absent_or(fields.count, _COUNT)] = None
    max_open_orders: Annotated[int | None, _absent_or(fields.count, _COUNT)] = None
    max_order_qty: Annotated[Decimal | None, _absent_or(fields.quantity, _AMOUNT)] = None
    price_collar_pct: Annotated[Decimal | None, _absent_or(fields.percent, Annotated[float, Field(gt=0, le=100)])] = (
        None
    )
    duplicate_window_s: Annotated[
        int | None, _absent_or(fields.repeat_window, Annotated[int, Field(gt=0, le=86_400)])
    ] = None
    trading_hours: Annotated[bool | None, _absent_or(fields.yes_or_no, bool)] = None
    extended_hours: Annotated[bool | None, _absent_or(fields.yes_or_no, bool)] = None
    allow_short: Annotated[bool | None, _absent_or(fields.yes_or_no, bool)] = None
    cancel_on_disconnect: Annotated[int | None, _absent_or(fields.grace, _GRACE)] = None
    hours_window: Annotated[tuple[HoursWindow, ...] | None, _absent_or(fields.hours, _HOURS | _list(_HOURS))] = None
    timezone: Annotated[ZoneInfo | None, _absent_or(fields.zone_named)] = None
    allowed_machines: Annotated[frozenset[str] | None, _absent_or(fields.machines, _list(str, 0))] = None
    allowed_ips: Annotated[tuple[str, ...] | None, _absent_or(fields.addresses, _list(str))] = None


KNOWN_FIELDS = frozenset(_Record.model_fields) | {"limits"}


def record_schema() -> dict[str, Any]:
    """The JSON Schema of a record's own fields, without `limits`."""
    return _Record.model_json_schema()


def read_record(
    raw: object, place: int, default_zone: tzinfo | None
) -> tuple[StoredKey | None, list[Problem], list[str]]:
    """One entry of `keys` (`place` counts from 1) → (the key or None, all its problems, warnings). Never raises."""
    if not isinstance(raw, dict):
        return (
            None,
            [Problem(f"number {place}", "", f'{shown(raw)} is not an object; write {{"id": ..., "hash": ...}}')],
            [],
        )
    name = shown(raw["id"]) if isinstance(raw.get("id"), str) else f"number {place}"
    flat, problems = _flattened(raw, name)
    record: _Record | None = None
    try:
        record = _Record.model_validate(flat)
    except ValidationError as error:
        problems += [_problem(name, one) for one in error.errors(include_url=False, include_input=False)]
    problems += _zone_problem(flat, name, default_zone)
    if record is not None:
        problems += _disconnect_problem(record, name)
    if record is None or problems:
        return None, problems, []
    return _stored(record, default_zone), [], _warnings(record, name, default_zone)


def _flattened(raw: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[Problem]]:
    """Both layouts → one. INVARIANT: no field is taken from two places."""
    problems = [_repeated(name, field) for field in getattr(raw, "repeated", ())]
    flat = {field: value for field, value in raw.items() if field != "limits"}
    limits = raw.get("limits")
    if limits is None:
        return flat, problems
    if not isinstance(limits, dict):
        return flat, [
            *problems,
            Problem(name, "limits", f'{shown(limits)} is not an object; write {{"max_order_value": ...}}'),
        ]
    problems += [_repeated(name, f"limits.{field}") for field in getattr(limits, "repeated", ())]
    for field, value in limits.items():
        if field in raw:
            problems.append(Problem(name, field, "stands both on the record and in `limits`; keep one of them"))
        elif field in LIMIT_FIELDS:
            flat[field] = value
        elif field in KNOWN_FIELDS:
            problems.append(
                Problem(name, f"limits.{field}", "does not belong into `limits`; move it to the record itself")
            )
        else:
            problems.append(Problem(name, f"limits.{field}", _unknown(field, LIMIT_FIELDS)))
    return flat, problems


def _repeated(name: str, field: str) -> Problem:
    return Problem(name, field, "is written more than once in one object; keep one of them")


def _unknown(field: str, known: frozenset[str]) -> str:
    if field == "allowed_card_nums":
        return "is not supported; use allowed_acc_ids (the account numbers OpenD lists)"
    if field in _NOT_YET:
        return "is a rule this version does not enforce yet; remove it (it would promise what is not checked)"
    return f"unknown field{closest(field, known) or '; remove it'}"


def _problem(name: str, error: ErrorDetails) -> Problem:
    field = str(error["loc"][0]) if error["loc"] else ""
    match error["type"]:
        case "missing":
            return Problem(
                name, field, "is missing; every record needs `id`, `hash` and `scopes` (make records with `gen-key`)"
            )
        case "extra_forbidden":
            return Problem(name, field, _unknown(field, KNOWN_FIELDS))
        case "value_error":
            return Problem(name, field, str(error["ctx"]["error"]))
        case _:
            return Problem(name, field, error["msg"])


def _zone_problem(flat: Mapping[str, Any], name: str, default_zone: tzinfo | None) -> list[Problem]:
    if flat.get("hours_window") is None or flat.get("timezone") is not None or default_zone is not None:
        return []
    text = 'hours in which zone? add "timezone": "Asia/Hong_Kong" to the record, or set keys.timezone in the settings'
    return [Problem(name, "hours_window", f"{text} (this machine has neither TZ nor /etc/localtime)")]


def _disconnect_problem(record: _Record, name: str) -> list[Problem]:
    if record.cancel_on_disconnect is None or not TRADE_SCOPES.isdisjoint(record.scopes):
        return []
    text = "cancels the key's own orders, and a key without a trade scope has none; remove it"
    return [Problem(name, "cancel_on_disconnect", text)]


def _stored(record: _Record, default_zone: tzinfo | None) -> StoredKey:
    key = Key(
        id=record.id,
        scopes=record.scopes,
        created_at=record.created_at,
        expires_at=record.expires_at,
        note=record.note,
        allowed_markets=record.allowed_markets,
        allowed_symbols=record.allowed_symbols,
        allowed_trd_sides=record.allowed_trd_sides,
        allowed_acc_ids=record.allowed_acc_ids,
        max_order_value=record.max_order_value,
        max_daily_value=record.max_daily_value,
        max_position_value=record.max_position_value,
        cap_currency=record.cap_currency,
        max_orders_per_minute=record.max_orders_per_minute,
        max_open_orders=record.max_open_orders,
        allowed_order_types=record.allowed_order_types,
        max_order_qty=record.max_order_qty,
        price_collar_pct=record.price_collar_pct,
        duplicate_window_s=record.duplicate_window_s,
        trading_hours=record.trading_hours,
        extended_hours=record.extended_hours,
        allow_short=record.allow_short,
        cancel_on_disconnect=record.cancel_on_disconnect,
        hours_window=record.hours_window,
        zone=None if record.hours_window is None else record.timezone or default_zone,
        allowed_machines=record.allowed_machines,
        allowed_ips=record.allowed_ips,
    )
    return StoredKey(key, record.hash, record.ws_hash, record.client_certs or frozenset())


def _warnings(record: _Record, name: str, default_zone: tzinfo | None) -> list[str]:
    found: list[str] = []
    if record.hours_window is not None and record.timezone is None:
        found.append(
            f"key {name} has hours_window but no timezone; its hours are read in {default_zone}, the zone of this host"
        )
    never = sorted(one for one in record.allowed_machines or () if not fields.is_fingerprint(one))
    if never:
        listed = ", ".join(f"`{one}`" for one in never)
        found.append(
            f"key {name} allows {listed}, which no machine can have (they are 64 hex digits; see `machine-id`)"
        )
    return found
