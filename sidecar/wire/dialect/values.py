"""One converter per field: a JSON value to what the field holds, or what is wrong with it. Knows no request as a whole."""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NoReturn

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from sidecar.border import closest, shown
from sidecar.errors import BodyError
from sidecar.wire.dialect.enums import enum_of, known_names, number_of
from sidecar.wire.dialect.names import PACKET_ID, SECURITY, by_spelling, flat_header, is_list, names
from sidecar.wire.symbols import PREFIXES, split

Convert = Callable[[Any], Any]
"""Takes a JSON value other than null and gives what the message's constructor takes: for a message a dict by OpenD's own
names, in which None stands for what is absent. Raises Wrong."""

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,63})(?:\.[0-9]{1,64})?(?:[eE][+-]?[0-9]{1,3})?")

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


class Wrong(Exception):
    """What is wrong with a value: `say` makes the sentence, given where the value is."""

    def __init__(self, say: Callable[[str], str], code: str = "malformed_request") -> None:
        super().__init__()
        self._say = say
        self._code = code
        self._path: list[str] = []

    def inside(self, name: str) -> None:
        """Note the field the value was in, innermost first."""
        self._path.append(name)

    def error(self) -> BodyError:
        path = ""
        for name in reversed(self._path):
            path += name if name.startswith("[") else f".{name}" if path else name
        return BodyError(self._code, self._say(path))


def wrong(text: str) -> NoReturn:
    """The path of the value and then `text`, e.g. "must be a list"."""
    raise Wrong(lambda path: f"`{path}` {text}")


@cache
def converter(field: FieldDescriptor) -> Convert:
    """The converter of a field, for a repeated one of its list."""
    one = _of_one(field)
    return _list_of(one) if is_list(field) else one


@cache
def message_converter(descriptor: Descriptor) -> Convert:
    """Objects to dicts by OpenD's names; no message of the protocol contains itself."""
    fields = {
        spelling: (name.field.name, name.snake, converter(name.field))
        for spelling, name in by_spelling(descriptor).items()
    }

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            wrong(f"must be an object, not {shown(value)}")
        known: dict[str, Any] = {}
        for name, given in value.items():
            entry = fields.get(name)
            if entry is None:
                _refuse_name(descriptor, name)
            target, snake, convert_one = entry
            if target in known:
                _refuse_twice(fields, value, target)
            if given is None:
                known[target] = None
                continue
            try:
                known[target] = convert_one(given)
            except Wrong as problem:
                problem.inside(snake)
                raise
        return known

    return convert


def _of_one(field: FieldDescriptor) -> Convert:
    if field.message_type is not None:
        if field.message_type.full_name == PACKET_ID:
            return _refuse_packet_id
        convert = message_converter(field.message_type)
        return _security_from(convert) if field.message_type.full_name == SECURITY else convert
    enum = enum_of(field)
    if enum is not None:
        return _enum(enum, closed=field.enum_type is not None)
    if field.cpp_type in _RANGES:
        return _integer(*_RANGES[field.cpp_type])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _truth
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _octets if field.type == FieldDescriptor.TYPE_BYTES else _text
    return _number if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else _single


def _list_of(one: Convert) -> Convert:
    def convert(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            wrong(f"must be a list, not {shown(value)}")
        found = []
        for index, part in enumerate(value):
            try:
                if part is None:
                    wrong("must not be null: leave it out of the list")
                found.append(one(part))
            except Wrong as problem:
                problem.inside(f"[{index}]")
                raise
        return found

    return convert


def _integer(low: int, high: int) -> Convert:
    def convert(value: Any) -> int:
        if type(value) is int:
            number = value
        elif isinstance(value, str) and _WHOLE.fullmatch(value):
            number = int(value)
        elif isinstance(value, float):
            wrong(f"must be a whole number, written without a decimal point, not {shown(value)}")
        else:
            wrong(f"must be a whole number, not {shown(value)}")
        if not low <= number <= high:
            wrong(f"must be a whole number from {low} to {high}, not {_digits(number)}")
        return number

    return convert


def _digits(number: int) -> str:
    return shown(number if abs(number) < 10**40 else "a number of more than 40 digits")


def _enum(enum: EnumDescriptor, *, closed: bool) -> Convert:
    """Numbers that the enum does not have pass, for OpenD to judge, but where the message itself could not hold them."""
    integer = _integer(*_RANGES[FieldDescriptor.CPPTYPE_INT32])
    numbers = frozenset(value.number for value in enum.values)

    def convert(value: Any) -> int:
        if isinstance(value, str) and not _WHOLE.fullmatch(value):
            found = number_of(enum, value)
        elif isinstance(value, int | str) and not isinstance(value, bool):
            found = integer(value)
            if closed and found not in numbers:
                found = None
        else:
            found = None
        if found is None:
            wrong(f"must be a name or number of {enum.name} ({known_names(enum, value)}), not {shown(value)}")
        return found

    return convert


def _number(value: Any) -> float:
    number = math.nan
    if isinstance(value, float):
        number = value
    elif (type(value) is int and abs(value) < 10**64) or (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        number = float(value)
    if not math.isfinite(number):
        wrong(f"must be a number, not {_digits(value) if type(value) is int else shown(value)}")
    return number


def _single(value: Any) -> float:
    number = _number(value)
    try:
        struct.pack("<f", number)
    except OverflowError:
        wrong(f"must be a number of single precision, not {shown(value)}")
    return number


def _truth(value: Any) -> bool:
    if value is not True and value is not False:
        wrong(f"must be true or false, not {shown(value)}")
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        wrong(f"must be a text, not {shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            wrong("holds half a character")
    return value


def _octets(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
        except ValueError:
            pass
    wrong(f"must be bytes as a base64 text, not {shown(value)}")


def _security_from(convert: Convert) -> Convert:
    def security(value: Any) -> Any:
        if not isinstance(value, str):
            return convert(value)
        parts = split(value)
        if parts is None:
            wrong(f"must be a symbol like `HK.00700` that begins with {_known_prefixes()}, not {shown(value)}")
        return {"market": parts[0].qot, "code": _text(parts[1])}

    return security


def _known_prefixes() -> str:
    *others, last = (f"`{prefix}`" for prefix in PREFIXES)
    return f"{', '.join(others)} or {last}"


def _refuse_packet_id(value: Any) -> NoReturn:
    raise Wrong(lambda path: f"`{path}` is filled in by the sidecar; leave it out", "unknown_field")


def _refuse_name(descriptor: Descriptor, name: object) -> NoReturn:
    def say(path: str) -> str:
        where = f" in `{path}`" if path else ""
        known = [one.snake for one in (*names(descriptor), *flat_header(descriptor)) if not one.filled_here]
        return f"unknown field {shown(name)}{where}{closest(name[:80], known) if isinstance(name, str) else ''}"

    raise Wrong(say, "unknown_field")


def _refuse_twice(fields: Mapping[str, tuple[str, str, Convert]], given: dict[str, Any], target: str) -> NoReturn:
    first, second = [name for name in given if name in fields and fields[name][0] == target][:2]

    def say(path: str) -> str:
        return f"`{first}` and `{second}` are one field" + (f" of `{path}`" if path else "") + ", given twice"

    raise Wrong(say)
