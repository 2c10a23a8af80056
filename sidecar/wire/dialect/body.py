"""Requests out of JSON trees: OpenD's names and snake_case, `{"c2s": {...}}` or the fields of c2s by themselves, symbols,
and names of enum values. Judges nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from sidecar.border import shown
from sidecar.errors import BodyError
from sidecar.wire.body import Prepare
from sidecar.wire.catalog import Row
from sidecar.wire.dialect.names import by_spelling, flat_header, is_list, is_required, snake
from sidecar.wire.dialect.values import Convert, Wrong, converter, message_converter
from sidecar.wire.messages import message_class
from sidecar.wire.symbols import PREFIXES, split

_NOTHING: Mapping[str, object] = MappingProxyType({})
_MOST_MISSING = 5


def read(
    row: Row,
    tree: object,
    prepare: Prepare | None = None,
    *,
    fixed: Mapping[str, object] = _NOTHING,
    assumed: Mapping[str, object] = _NOTHING,
) -> Message:
    """The request of a row out of a JSON tree (None: an empty one), strictly, whatever the request.

    `fixed` and `assumed` name fields of c2s as OpenD does (`modifyOrderOp`), with values as a client could give them,
    an empty tuple for an empty list: fixed ones are set and refused from the client, assumed ones are set where the
    client gives none. `prepare` completes the message before it is checked for required fields.

    Raises BodyError: `malformed_request`; `unknown_field` with the field, its path in snake_case and the closest known
    one; `unknown_request` for a row whose messages are not published.
    """
    if row.request is None:
        raise BodyError("unknown_request", f"{row.name} has no message in futu-api, so it cannot be read from JSON")
    form = _form(row.request)
    try:
        fields = form.fields_of({} if tree is None else tree, fixed, assumed)
    except Wrong as problem:
        raise problem.error() from None
    try:
        message: Message = form.cls(c2s=fields) if form.wrapped else form.cls(**fields)
    except (ValueError, TypeError):
        # SECURITY: converters let nothing through that the field cannot hold; should one, it is still the body's fault
        raise BodyError(
            "malformed_request", f"the body is not a {row.name} request: a value has the wrong type"
        ) from None
    if prepare is not None:
        prepare(message)
    if not message.IsInitialized():
        raise BodyError("malformed_request", f"required fields are missing: {_missing_fields(message)}")
    return message


@dataclass(frozen=True, slots=True)
class _Form:
    """How one request is read. `header` and `own`: spellings of the header's fields that may stand in the c2s, and those
    of them that the c2s has itself. `names_market`: the c2s has a bare `code` and a `secMarket`."""

    cls: Any
    fields: Descriptor
    wrapped: bool
    convert: Convert
    header: Mapping[str, str]
    own: frozenset[str]
    names_market: bool

    def fields_of(self, tree: object, fixed: Mapping[str, object], assumed: Mapping[str, object]) -> dict[str, Any]:
        """What the constructor of c2s takes; of the request itself where it has no c2s. Raises Wrong and BodyError."""
        given = self._inner(tree)
        if self.header:
            given = self._header_together(given)
        try:
            if fixed:
                self._refuse_fixed(given, fixed)
            known: dict[str, Any] = self.convert(given)
            if self.names_market:
                _take_market_of_code(known)
            for name, value in fixed.items():
                known[name] = self._converted(name, value)
            for name, value in assumed.items():
                if known.get(name) is None:
                    known[name] = self._converted(name, value)
        except Wrong as problem:
            if self.wrapped:
                problem.inside("c2s")
            raise
        return known

    def _converted(self, name: str, value: object) -> Any:
        return converter(self.fields.fields_by_name[name])(value)

    def _inner(self, tree: object) -> dict[str, Any]:
        if not isinstance(tree, dict):
            raise BodyError("malformed_request", f"the body must be a JSON object, not {shown(tree)}")
        if not self.wrapped or "c2s" not in tree:
            return tree
        for name in tree:
            if name != "c2s":
                raise BodyError("unknown_field", f"unknown field {shown(name)} beside `c2s`; put it into `c2s`")
        inner = tree["c2s"]
        if inner is None:
            return {}
        if not isinstance(inner, dict):
            raise BodyError("malformed_request", f"`c2s` must be an object, not {shown(inner)}")
        return inner

    def _header_together(self, given: dict[str, Any]) -> dict[str, Any]:
        """The same fields with those of the header inside it."""
        header = given.get("header")
        flat = [name for name in given if name in self.header and (header is None or name not in self.own)]
        if not flat:
            return given
        if not (header is None or isinstance(header, dict)):
            raise BodyError("malformed_request", f"`header` must be an object, not {shown(header)}")
        together: dict[str, Any] = {} if header is None else dict(header)
        inside = {self.header[name]: name for name in together if name in self.header}
        for name in flat:
            other = inside.get(self.header[name])
            if other is not None:
                raise BodyError("malformed_request", f"`{name}` and `header.{other}` are one field, given twice")
            together[name] = given[name]
        rest = {name: value for name, value in given.items() if name not in flat}
        rest["header"] = together
        return rest

    def _refuse_fixed(self, given: dict[str, Any], fixed: Mapping[str, object]) -> None:
        spellings = by_spelling(self.fields)
        for name, value in given.items():
            known = spellings.get(name)
            if known is not None and known.field.name in fixed and value is not None:
                raise BodyError("unknown_field", f"`{known.snake}` is set by this route; leave it out")


@cache
def _form(name: str) -> _Form:
    cls: Any = message_class(name)
    wrapped = "c2s" in cls.DESCRIPTOR.fields_by_name
    fields: Descriptor = cls.DESCRIPTOR.fields_by_name["c2s"].message_type if wrapped else cls.DESCRIPTOR
    header = {spelling: name.snake for name in flat_header(fields) for spelling in name.spellings}
    return _Form(
        cls,
        fields,
        wrapped,
        message_converter(fields),
        MappingProxyType(header),
        frozenset(header) & frozenset(by_spelling(fields)),
        {"code", "secMarket"} <= set(fields.fields_by_name),
    )


def _take_market_of_code(known: dict[str, Any]) -> None:
    """`HK.00700` as the code of an order: the bare code, and the TrdSecMarket of the prefix."""
    code = known.get("code")
    parts = None if code is None else split(code)
    if parts is None:
        return
    markets, bare = parts
    given = known.get("secMarket")
    if given and given != markets.sec:
        prefix = next(prefix for prefix, numbers in PREFIXES.items() if numbers == markets)

        def say(path: str) -> str:
            return f"the code {shown(code)} is of the market {prefix} (`sec_market` {markets.sec}), but `sec_market` is `{given}`"

        raise Wrong(say)
    known["code"], known["secMarket"] = bare, markets.sec


def _missing_fields(message: Message) -> str:
    descriptor: Any = message.DESCRIPTOR
    missing = [f"`{path}`" for path in _missing(message, descriptor, "")]
    more = len(missing) - _MOST_MISSING
    return ", ".join(missing[:_MOST_MISSING]) + (f" and {more} more" if more > 0 else "")


def _missing(message: Message | None, descriptor: Descriptor, path: str) -> Iterator[str]:
    """The paths of what is required and absent; of an absent message, those of what it requires."""
    for field in descriptor.fields:
        here = f"{path}.{snake(field.name)}" if path else snake(field.name)
        if is_list(field):
            if message is not None and field.message_type is not None:
                for index, part in enumerate(getattr(message, field.name)):
                    yield from _missing(part, field.message_type, f"{here}[{index}]")
        elif message is not None and message.HasField(field.name):
            if field.message_type is not None:
                yield from _missing(getattr(message, field.name), field.message_type, here)
        elif is_required(field):
            inner = [] if field.message_type is None else list(_missing(None, field.message_type, here))
            yield from inner or [here]
