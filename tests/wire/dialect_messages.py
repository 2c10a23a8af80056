"""Random messages of any definition, and the same message as JSON in any of the spellings that are read."""

from __future__ import annotations

import random
import struct
from typing import Any

from sidecar.wire.catalog import CATALOG, Direction, Row
from sidecar.wire.dialect.enums import enum_of, short_names
from sidecar.wire.dialect.names import PACKET_ID, SECURITY, flat_header, is_list, is_required, names
from sidecar.wire.messages import message_class
from sidecar.wire.symbols import PREFIXES

REQUESTS: list[Row] = [row for row in CATALOG.values() if row.direction is Direction.REQUEST and row.request]
RESPONSES: list[str] = [row.response for row in CATALOG.values() if row.response]
_LETTERS = "aZ09 _-/\\\"'\t\né漢🙂"  # no dot: it could make a symbol of a code
_PREFIX_OF = {markets.qot: prefix for prefix, markets in PREFIXES.items()}


def scalar(field: Any, rng: random.Random) -> Any:
    if field.enum_type is not None:
        return rng.choice(list(field.enum_type.values)).number
    kind = field.cpp_type
    if kind in (field.CPPTYPE_INT32, field.CPPTYPE_INT64, field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        bits = 32 if kind in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
        signed = kind in (field.CPPTYPE_INT32, field.CPPTYPE_INT64)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return rng.choice([0, 1, 2, 11, low, high, rng.randint(low, high)])
    if kind == field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == field.CPPTYPE_DOUBLE:
        return rng.choice([0.0, -0.0, 0.1, 1e-300, -1.7e308, 320.5, 100.0, rng.uniform(-1e6, 1e6)])
    if kind == field.CPPTYPE_FLOAT:
        return struct.unpack("<f", struct.pack("<f", rng.choice([0.0, 0.1, 3.4e38, 1e-40, rng.uniform(-1e6, 1e6)])))[0]
    text = "".join(rng.choice(_LETTERS) for _ in range(rng.randint(0, 6)))
    return text.encode() if field.type == field.TYPE_BYTES else text


def some(descriptor: Any, rng: random.Random) -> dict[str, Any]:
    """What the constructor of a message takes, all that is required set and some of the rest; without a packetID."""
    fields: dict[str, Any] = {}
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.full_name == PACKET_ID:
            continue
        if not is_required(field) and rng.random() < 0.5:
            continue

        def one(field: Any = field) -> Any:
            return some(field.message_type, rng) if field.message_type is not None else scalar(field, rng)

        fields[field.name] = [one() for _ in range(rng.randint(0, 3))] if is_list(field) else one()
    return fields


def random_message(name: str, seed: int) -> Any:
    cls: Any = message_class(name)
    return cls(**some(cls.DESCRIPTOR, random.Random(seed)))


def respelled(tree: dict[str, Any], descriptor: Any, rng: random.Random) -> dict[str, Any]:
    """The same fields as `write` gave them, each under one of its spellings, values in one of their forms."""
    spelled: dict[str, Any] = {}
    for name in names(descriptor):
        if name.snake not in tree:
            if rng.random() < 0.1:
                spelled[rng.choice(name.spellings)] = None
            continue
        value = tree[name.snake]
        respell = [_respelled_value(name.field, part, rng) for part in (value if is_list(name.field) else [value])]
        spelled[rng.choice(name.spellings)] = respell if is_list(name.field) else respell[0]
    return spelled


def _respelled_value(field: Any, value: Any, rng: random.Random) -> Any:
    if field.message_type is not None:
        if field.message_type.full_name == SECURITY and value["code"] and rng.random() < 0.5:
            prefix = _PREFIX_OF.get(value["market"])
            if prefix is not None:
                return f"{prefix}.{value['code']}"
        return respelled(value, field.message_type, rng)
    enum = enum_of(field)
    if enum is not None:
        options: list[Any] = [value, str(value)]
        options += [name for number in (value,) for name in _cased(enum, number, rng)]
        return rng.choice(options)
    if isinstance(value, str) and field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
        return rng.choice([value, int(value)])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return rng.choice([value, repr(value)])
    return value


def _cased(enum: Any, number: int, rng: random.Random) -> list[str]:
    found = [name for name, its in short_names(enum).items() if its == number]
    found += [value.name for value in enum.values if value.number == number]
    return found + [name.upper() for name in found] + [name.lower() for name in found]


def unwrapped(body: dict[str, Any], descriptor: Any, rng: random.Random) -> dict[str, Any]:
    """The same body with or without its `c2s`, with the header's fields in it or beside it."""
    if "c2s" not in descriptor.fields_by_name:
        return body
    c2s = body["c2s"]
    inner = descriptor.fields_by_name["c2s"].message_type
    header = c2s.get("header")
    flat = {spelling for name in flat_header(inner) for spelling in name.spellings}
    if isinstance(header, dict) and flat and not flat & set(c2s) and rng.random() < 0.7:
        beside = [name for name in header if rng.random() < 0.5] if rng.random() < 0.5 else list(header)
        own = {spelling for name in names(inner) for spelling in name.spellings}
        left = {name: value for name, value in header.items() if name not in beside}
        if not (left and own & set(beside)):
            c2s = {name: value for name, value in c2s.items() if name != "header"}
            c2s |= {name: header[name] for name in beside}
            if left:
                c2s["header"] = left
    return c2s if rng.random() < 0.5 else {"c2s": c2s}
