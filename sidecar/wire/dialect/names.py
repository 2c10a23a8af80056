"""How the JSON dialect of REST and MCP spells the fields of OpenD's messages. Reads no values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_WORD_BEGINS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

SECURITY = "Qot_Common.Security"
"""The message of a market and a code, for which a symbol (`HK.00700`) may stand."""
TRADE_HEADER = "Trd_Common.TrdHeader"
"""The message of environment, account and market, whose fields may stand beside it."""
PACKET_ID = "Common.PacketID"
"""The message that is the sidecar's to fill."""


@cache
def snake(name: str) -> str:
    """`accID` → `acc_id`, `orderIDExList` → `order_id_ex_list`; a name in snake_case stays as it is."""
    return _WORD_BEGINS.sub("_", name).lower()


@dataclass(frozen=True, slots=True)
class FieldName:
    """One field of a message: `snake` as replies spell it, `spellings` all that are read (the first is `snake`)."""

    field: FieldDescriptor
    snake: str
    spellings: tuple[str, ...]

    @property
    def filled_here(self) -> bool:
        """Whether it is the sidecar's to fill: a client that gives it is refused."""
        return self.field.message_type is not None and self.field.message_type.full_name == PACKET_ID

    @property
    def is_security(self) -> bool:
        """Whether a symbol may stand for it, or in it where it is a list."""
        return self.field.message_type is not None and self.field.message_type.full_name == SECURITY


@cache
def names(descriptor: Descriptor) -> tuple[FieldName, ...]:
    """Every field of a message, in the order of its definition."""
    return tuple(
        FieldName(field, snake(field.name), tuple(dict.fromkeys((snake(field.name), field.name, field.json_name))))
        for field in descriptor.fields
    )


@cache
def by_spelling(descriptor: Descriptor) -> Mapping[str, FieldName]:
    """Every spelling of every field of a message; no two fields of one message share one."""
    return MappingProxyType({spelling: name for name in names(descriptor) for spelling in name.spellings})


@cache
def flat_header(descriptor: Descriptor) -> tuple[FieldName, ...]:
    """The fields of the header of a c2s that may stand in the c2s itself (`acc_id` for `header.acc_id`); often none.

    Where the c2s has a field of the same name, the name means the header's while the body has no `header`, and the
    c2s's own beside one: only Trd_ModifyOrder's `trdMarket`, the market whose orders a cancel-all is narrowed to.
    """
    header = descriptor.fields_by_name.get("header")
    if header is None or header.message_type is None or header.message_type.full_name != TRADE_HEADER:
        return ()
    return names(header.message_type)


def is_list(field: FieldDescriptor) -> bool:
    # protobuf 5 has only `label`, protobuf 7 only `is_repeated`
    repeated: bool | None = getattr(field, "is_repeated", None)
    return bool(getattr(field, "label", None) == 3) if repeated is None else repeated


def is_required(field: FieldDescriptor) -> bool:
    required: bool | None = getattr(field, "is_required", None)
    return bool(getattr(field, "label", None) == 2) if required is None else required
