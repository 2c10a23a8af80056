"""Bodies, protobuf or JSON, to messages and back. Knows which fields a message has, not what they mean."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NoReturn

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sidecar.errors import BodyError
from sidecar.wire.catalog import Row
from sidecar.wire.frame import JSON, PROTOBUF
from sidecar.wire.json_text import tree_of
from sidecar.wire.messages import message_class

MAX_JUDGED_JSON = 64 * 1024
"""Bytes. SECURITY: reading JSON costs 0.3 s a megabyte, during which nothing else moves."""
MAX_JSON = 256 * 1024
"""Bytes, for what is passed on unjudged: the same reading, and lists of quotes asked for may be long."""

_QUOTED = 60
_WIDE = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_FRACTIONS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


Prepare = Callable[[Message], None]
"""Completes a message between its reading and the check that nothing required is missing."""


def parse_request(row: Row, fmt: int, raw: bytes, prepare: Prepare | None = None) -> Message:
    """The request of a catalog row out of its body: strictly where its contents are judged. Raises BodyError."""
    if row.request is None:
        said = f"{row.name} has no message in futu-api, so it cannot be read; over TCP it can be sent as protobuf"
        raise BodyError("unknown_request", said)
    return parse(row.request, fmt, raw, strict=row.judged, prepare=prepare)


def parse(message_name: str, fmt: int, raw: bytes, *, strict: bool, prepare: Prepare | None = None) -> Message:
    """The message of a body: `message_name` as in the catalog, e.g. `Trd_PlaceOrder.Request`, `fmt` from the head.

    `strict` is for what is judged on its contents: it also refuses a message that lacks a required field, and fields
    outside the message's definition (they would reach OpenD unread). Numbers are not judged: a double may be NaN.
    Raises BodyError `malformed_request`, `unknown_field`, or `body_too_large` for strict JSON over `MAX_JUDGED_JSON`.

    INVARIANT: what is forwarded is `serialise` of the message returned, never `raw`: two readers of one text (fields
    given twice, two spellings of a name, numbers as strings) may see two different orders.
    """
    if fmt == PROTOBUF:
        return _from_protobuf(message_name, raw, strict, prepare)
    if fmt == JSON:
        return _from_json(message_name, raw, strict, prepare)
    raise _unknown_format(fmt)


def serialise(message: Message, fmt: int) -> bytes:
    """The body of a message, in the form that the official SDKs and OpenD read.

    JSON: names as in the .proto files, enums as numbers, 64-bit integers as strings where they stand alone and as
    numbers in lists (the Python SDK converts the first, not the second). Raises BodyError `malformed_request` where a
    required field is missing.
    """
    _require_all(message)
    if fmt == PROTOBUF:
        return message.SerializeToString()
    if fmt != JSON:
        raise _unknown_format(fmt)
    tree = json_format.MessageToDict(message, preserving_proto_field_name=True, use_integers_for_enums=True)
    _number_lists(_descriptor(type(message)), tree)
    return json.dumps(tree, separators=(",", ":")).encode()


def _unknown_format(fmt: int) -> BodyError:
    return BodyError("malformed_request", f"body format `{fmt}` is neither 0 (protobuf) nor 1 (JSON)")


def _require_all(message: Message) -> None:
    if not message.IsInitialized():
        # the list of paths is part of every implementation of protobuf, but not of its typed interface
        paths: list[str] = getattr(message, "FindInitializationErrors")()  # noqa: B009
        missing = ", ".join(f"`{path}`" for path in paths[:5])
        raise BodyError("malformed_request", f"required fields are missing: {missing}")


def _descriptor(cls: type[Message]) -> Descriptor:
    descriptor: Any = cls.DESCRIPTOR  # typed as one of two classes that only differ in who implements them
    found: Descriptor = descriptor
    return found


def _is_repeated(field: FieldDescriptor) -> bool:
    # protobuf 5 has only `label`, protobuf 7 only `is_repeated`
    repeated: bool | None = getattr(field, "is_repeated", None)
    return bool(getattr(field, "label", None) == 3) if repeated is None else repeated


def _number_lists(descriptor: Descriptor, tree: dict[str, Any]) -> None:
    """Turn lists of 64-bit integers from strings, which is what json_format makes of them, into numbers."""
    for name, value in tree.items():
        field = descriptor.fields_by_name[name]
        if field.message_type is not None:
            for part in value if isinstance(value, list) else (value,):
                _number_lists(field.message_type, part)
        elif isinstance(value, list) and field.cpp_type in _WIDE:
            tree[name] = [int(part) for part in value]


def _from_protobuf(message_name: str, raw: bytes, strict: bool, prepare: Prepare | None) -> Message:
    cls = message_class(message_name)
    try:
        message = cls.FromString(raw)
    except DecodeError:
        raise BodyError("malformed_request", f"the body is not a protobuf `{message_name}`") from None
    if prepare is not None:
        prepare(message)
    if strict:
        _require_all(message)
        # three times as fast as looking into every sub-message: the size changes only if something was dropped
        size = message.ByteSize()
        message.DiscardUnknownFields()
        if message.ByteSize() != size:
            path, number = _first_unknown(cls.FromString(raw), "") or ("", 0)
            where = f"`{path}` of `{message_name}`" if path else f"`{message_name}`"
            raise BodyError("unknown_field", f"unknown field number `{number}` in {where}")
    return message


def _first_unknown(message: Message, path: str) -> tuple[str, int] | None:
    """Where the first field outside the definition is: the path of its message and its number."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        return path, unknown[0].field_number
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        inner = f"{path}.{field.name}" if path else field.name
        repeated = _is_repeated(field)
        for index, part in enumerate(value if repeated else (value,)):
            found = _first_unknown(part, f"{inner}[{index}]" if repeated else inner)
            if found is not None:
                return found
    return None


def _from_json(message_name: str, raw: bytes, strict: bool, prepare: Prepare | None) -> Message:
    cls = message_class(message_name)
    limit = MAX_JUDGED_JSON if strict else MAX_JSON
    if len(raw) > limit:
        said = f"the JSON body is {len(raw)} bytes long, the limit is {limit}; protobuf has a higher one"
        raise BodyError("body_too_large", said)
    if not raw.strip():
        raise BodyError("malformed_request", "the JSON body is empty")
    tree = tree_of(raw, limit)
    if not isinstance(tree, dict):
        raise BodyError("malformed_request", "the JSON body is not an object")
    _check_names(_descriptor(cls), tree, "", strict)
    try:
        message = json_format.ParseDict(tree, cls(), ignore_unknown_fields=not strict)
    except json_format.ParseError as error:
        detail = _printable(str(error)[:200]).rstrip(".")
        raise BodyError("malformed_request", f"the body is not a `{message_name}`: {detail}") from None
    except Exception:
        # SECURITY: json_format documents ParseError alone, and raises others on odd values; all of them mean one thing
        detail = "a value has the wrong type"
        raise BodyError("malformed_request", f"the body is not a `{message_name}`: {detail}") from None
    if prepare is not None:
        prepare(message)
    if strict:
        _require_all(message)
    return message


def _check_names(descriptor: Descriptor, tree: dict[str, Any], path: str, strict: bool) -> None:
    """Refuse one field under two spellings, and under `strict` names that the definition does not have.

    Goes no deeper than the definitions do: no message of the protocol contains itself.
    """
    fields = _fields_by_spelling(descriptor)
    seen: dict[int, str] = {}
    for name, value in tree.items():
        field = fields.get(name)
        if field is None:
            if strict:
                _refuse_name(descriptor, name, path)
            continue
        first = seen.setdefault(field.number, name)
        if first != name:
            raise BodyError("malformed_request", f"`{first}` and `{name}` are one field, given twice")
        inner = f"{path}.{field.name}" if path else field.name
        if field.cpp_type in _FRACTIONS and any(isinstance(part, bool) for part in _parts(value)):
            # json_format takes true for 1.0
            raise BodyError("malformed_request", f"the field `{inner}` must be a number, not true or false")
        if field.message_type is None or value is None:
            continue
        repeated = _is_repeated(field)
        if not isinstance(value, list if repeated else dict):
            raise BodyError("malformed_request", f"the field `{inner}` must be {'a list' if repeated else 'an object'}")
        for part in _parts(value):
            if isinstance(part, dict):
                _check_names(field.message_type, part, inner, strict)


def _parts(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else (value,)


@cache
def _fields_by_spelling(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Every name under which protobuf's JSON accepts a field: as in the .proto file, and in camelCase."""
    spellings = {field.name: field for field in descriptor.fields}
    spellings.update((field.json_name, field) for field in descriptor.fields)
    return spellings


def _refuse_name(descriptor: Descriptor, name: str, path: str) -> NoReturn:
    where = f" in `{path}`" if path else ""
    names = [field.name for field in descriptor.fields]
    close = difflib.get_close_matches(name[:_QUOTED], names, n=1, cutoff=0.5)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    raise BodyError("unknown_field", f"unknown field `{_shorten(name)}`{where}{hint}")


def _shorten(text: str) -> str:
    return _printable(text if len(text) <= _QUOTED else text[:_QUOTED] + "…")


def _printable(text: str) -> str:
    """SECURITY: what a client wrote goes into replies and logs; control characters and lone surrogates do not."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
