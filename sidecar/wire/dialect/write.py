"""Messages to the JSON dialect of REST and MCP: snake_case, 64-bit integers as texts. Writes what is set, judges nothing."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from sidecar.wire.dialect.names import is_list, snake

_WIDE = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_ENVELOPE = ("retType", "retMsg", "errCode", "s2c")


def write(message: Message) -> dict[str, Any]:
    """The fields that are set, by their names in snake_case; empty lists are left out. Ready for orjson.

    64-bit integers are texts: beyond 2^53 numbers lose digits in JavaScript. Enums are numbers, bytes base64, and
    doubles that JSON has no word for (NaN, infinities) null. OpenD's default values are not filled in.
    """
    descriptor: Any = message.DESCRIPTOR
    return _writer(descriptor)(message)


def envelope(response: Message) -> dict[str, Any]:
    """A response as REST answers it: `ret_type` (0: done), `ret_msg` and `err_code` or null, `s2c` or null.

    The responses of 3801-3803 have no s2c: what they say beyond the first three fields stands in its place.
    """
    tree = write(response)
    inner = tree.pop("s2c", None)
    reply: Any = response  # generated messages are only known at run time; every response has a retType
    return {
        "ret_type": tree.pop("ret_type", reply.retType),
        "ret_msg": tree.pop("ret_msg", None),
        "err_code": tree.pop("err_code", None),
        "s2c": tree or None if inner is None else inner,
    }


@cache
def _writer(descriptor: Descriptor) -> Callable[[Message], dict[str, Any]]:
    fields = {field.number: (snake(field.name), _of_field(field)) for field in descriptor.fields}

    def to_tree(message: Message) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for field, value in message.ListFields():
            name, convert = fields[field.number]
            tree[name] = value if convert is None else convert(value)
        return tree

    return to_tree


def _of_field(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    one = _of_one(field)
    if not is_list(field):
        return one
    return list if one is None else lambda values: [one(value) for value in values]


def _of_one(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    """None where the value is JSON's own."""
    if field.message_type is not None:
        return _writer(field.message_type)
    if field.cpp_type in _WIDE:
        return str
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return _number
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return _single
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _octets if field.type == FieldDescriptor.TYPE_BYTES else _text
    return None


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _single(value: float) -> float | None:
    """The shortest decimal that is the same number in single precision: 0.1, not 0.10000000149011612."""
    if not math.isfinite(value):
        return None
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) <= _LARGEST_SINGLE and struct.unpack("<f", struct.pack("<f", short))[0] == value:
            return short
    return value


_LARGEST_SINGLE: float = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


def _text(value: str | bytes) -> str:
    # what is not UTF-8 comes out of the message as bytes
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _octets(value: bytes) -> str:
    return base64.b64encode(value).decode()
