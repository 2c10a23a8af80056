"""JSON Schemas of OpenD's messages as the REST door reads and writes them, made from the descriptors. Knows no routes.

A message that goes both ways is written down twice: what may be sent is wider (enums by name or number, 64-bit integers as
numbers or text, securities as text or apart) than what is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from sidecar.wire.dialect.enums import enum_of, short_names
from sidecar.wire.dialect.names import PACKET_ID, SECURITY, flat_header, is_list, is_required, names
from sidecar.wire.symbols import PREFIXES

Schema = dict[str, Any]

_SYMBOL: Schema = {
    "type": "string",
    "pattern": rf"^({'|'.join(PREFIXES)})\..+$",
    "examples": ["HK.00700"],
}
_SIMPLE: Mapping[int, Schema] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
}
_WIDE: Mapping[int, tuple[int, int, str]] = {
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1, r"^(0|-?[1-9][0-9]{0,18})$"),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1, r"^(0|[1-9][0-9]{0,19})$"),
}


def reference(name: str) -> Schema:
    """A schema that is the component `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


class Schemas:
    """Collects, as components, the schemas of all messages that were asked for and of what they are made of."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def request(self, message: Descriptor) -> Schema:
        """A reference to the message as clients send it."""
        return self._component(message.full_name, message, reply=False)

    def body(
        self, name: str, message: Descriptor, *, absent: Iterable[str] = (), optional: Iterable[str] = (), flat: bool = False,
        also: Mapping[str, Schema] | None = None,
    ) -> Schema:  # fmt: skip
        """A reference to the message as a request's body, the component `name`.

        Without its packetID and the fields `absent`, the `optional` ones not required (names as in the descriptor).
        `flat`: the fields of its header stand beside the others. `also`: further optional properties.
        """
        if name not in self.components:
            self.components[name] = self._body(message, frozenset(absent), frozenset(optional), flat, also or {})
        return reference(name)

    def reply(self, message: Descriptor) -> Schema:
        """A reference to the message as it is answered."""
        return self._component(f"{message.full_name}.Reply", message, reply=True)

    def rest_of_reply(self, message: Descriptor, apart: Iterable[str]) -> Schema:
        """What a reply holds besides the fields `apart`."""
        return {
            "type": "object",
            "properties": {
                name.snake: self._field(name.field, reply=True)
                for name in names(message)
                if name.field.name not in apart
            },
        }

    def query(self, message: Descriptor, optional: Iterable[str]) -> list[Schema]:
        """The fields of a message that a query can hold, as parameters."""
        return [
            {
                "name": name.snake,
                "in": "query",
                "required": is_required(name.field) and name.field.name not in optional,
                "schema": self._single(name.field, reply=False),
            }
            for name in names(message)
            if not is_list(name.field) and name.field.message_type is None
        ]

    def _component(self, name: str, message: Descriptor, *, reply: bool) -> Schema:
        if name not in self.components:
            self.components[name] = {}  # the name is taken first: a message that holds itself refers to itself
            self.components[name] = self._reply(message) if reply else self._request(message)
        return reference(name)

    def _request(self, message: Descriptor) -> Schema:
        made = self._body(message, frozenset(), frozenset(), False, {})
        if message.full_name != SECURITY:
            return made
        return {"anyOf": [_SYMBOL, made], "description": "a symbol, or market and code apart"}

    def _reply(self, message: Descriptor) -> Schema:
        fields = names(message)
        made: Schema = {
            "type": "object",
            "properties": {name.snake: self._field(name.field, reply=True) for name in fields},
        }
        required = [name.snake for name in fields if is_required(name.field)]
        return {**made, "required": required} if required else made

    def _body(
        self,
        message: Descriptor,
        absent: frozenset[str],
        optional: frozenset[str],
        flat: bool,
        also: Mapping[str, Schema],
    ) -> Schema:
        header = flat_header(message) if flat else ()
        fields = [
            name
            for name in names(message)
            if name.field.name not in absent
            and (name.field.message_type is None or name.field.message_type.full_name != PACKET_ID)
            and not (header and name.field.name == "header")
        ]
        taken = {name.snake for name in header}
        every = [*header, *(name for name in fields if name.snake not in taken)]
        made: Schema = {
            "type": "object",
            "properties": {**{name.snake: self._field(name.field, reply=False) for name in every}, **also},
            "additionalProperties": False,
        }
        required = [name.snake for name in every if is_required(name.field) and name.field.name not in optional]
        return {**made, "required": required} if required else made

    def _field(self, field: FieldDescriptor, *, reply: bool) -> Schema:
        one = self._single(field, reply=reply)
        return {"type": "array", "items": one} if is_list(field) else one

    def _single(self, field: FieldDescriptor, *, reply: bool) -> Schema:
        if field.message_type is not None:
            return self.reply(field.message_type) if reply else self.request(field.message_type)
        enum = enum_of(field)
        if enum is not None:
            return self._enum(enum, reply=reply)
        if field.cpp_type in _WIDE:
            low, high, digits = _WIDE[field.cpp_type]
            text = {"type": "string", "pattern": digits}
            return text if reply else {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, text]}
        if field.cpp_type in _SIMPLE:
            simple = dict(_SIMPLE[field.cpp_type])
            # OpenD's NaN and infinities are answered as null
            return simple | {"type": ["number", "null"]} if reply and simple["type"] == "number" else simple
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return {"type": "string"}

    def _enum(self, enum: EnumDescriptor, *, reply: bool) -> Schema:
        short = short_names(enum)
        numbers: dict[int, str] = {}
        for each, number in short.items():
            numbers.setdefault(number, each)
        by_number: Schema = {
            "type": "integer",
            "description": ", ".join(f"{number} {each}" for number, each in numbers.items()),
        }
        name = enum.full_name
        if reply:
            # not only these: an OpenD newer than the descriptors answers numbers that have no name yet
            name, made = f"{name}.Reply", by_number
        else:
            by_number |= {"enum": list(numbers), "x-enum-names": list(numbers.values())}
            made = {"oneOf": [by_number, {"type": "string", "enum": list(short)}]}
        self.components.setdefault(name, made)
        return reference(name)
