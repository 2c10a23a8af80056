"""One field of a request, taken exactly or refused with its name and value; knows no request as a whole."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import IntEnum
from math import isfinite
from typing import Any, TypeVar

from sidecar.errors import BodyError
from sidecar.intents.model import AccountRef, OrderType, Side, TrdEnv

ABSURD = 1e12
"""No quantity, price or ratio of a real request comes near it."""
TINY = 1e-12
"""Nor is any of them so close to 0 without being 0."""
REMARK_BYTES = 64
"""OpenD's limit for a remark, in bytes of UTF-8 (protocol facts, section 5)."""
_LONGEST_TEXT = 128
_LONGEST_LIST = 1000
"""Entries. SECURITY: they are looked through one by one, during which nothing else moves."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

SIDES = {1: Side.BUY, 2: Side.SELL, 3: Side.SELL_SHORT, 4: Side.BUY_BACK}
"""TrdSide."""
ENVS = {int(env): env for env in TrdEnv}
"""TrdEnv."""
ORDER_TYPES = {int(kind): kind for kind in OrderType}

_E = TypeVar("_E", bound=IntEnum)


def malformed(message: str) -> BodyError:
    """The one error of this package: the request is answered with it, nothing is forwarded."""
    return BodyError("malformed_request", message)


def account(header: Any) -> AccountRef:
    """`header` is a Trd_Common.TrdHeader."""
    env = ENVS.get(header.trdEnv)
    if env is None:
        raise malformed(f"trdEnv `{header.trdEnv}` is neither 0 (simulate) nor 1 (real)")
    return AccountRef(header.accID, env)


def side(value: int, name: str = "trdSide") -> Side:
    found = SIDES.get(value)
    if found is None:
        raise malformed(f"{name} `{value}` is not one of 1 (buy), 2 (sell), 3 (sell short), 4 (buy back)")
    return found


def enumerated(kind: dict[int, _E], value: int, name: str) -> _E:
    """`kind` maps OpenD's numbers to the members that exist here."""
    found = kind.get(value)
    if found is None:
        raise malformed(f"{name} `{value}` is not known")
    return found


def one_of(allowed: frozenset[int], value: int, name: str) -> int:
    if value not in allowed:
        raise malformed(f"{name} `{value}` is not known")
    return value


def exact(value: float, name: str) -> Decimal:
    """The decimal number a client wrote, out of the double that carried it. Refuses NaN, infinite and absurd ones, those
    of hundreds of decimal places too: the exact sums they go into would be as long."""
    if not (TINY <= abs(value) <= ABSURD or value == 0):  # NaN fails every comparison
        raise malformed(f"{name} `{value!r}` is not a number an order can have")
    return Decimal(repr(value))


def positive(value: float, name: str) -> Decimal:
    number = exact(value, name)
    if not value > 0:
        raise malformed(f"{name} `{value!r}` must be above 0")
    return number


def text(value: object, name: str, limit: int = _LONGEST_TEXT) -> str:
    """Text without control characters, of at most `limit` bytes of UTF-8; protobuf gives `bytes` where it is not."""
    if not isinstance(value, str):
        raise malformed(f"{name} is not valid UTF-8")
    if value:
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > limit:
            raise malformed(f"{name} is {size} bytes long, the limit is {limit}")
        if _CONTROL.search(value):
            raise malformed(f"{name} contains control characters")
    return value


def finite_throughout(message: Any) -> None:
    """Refuse a message that holds NaN, an infinite or an absurd number anywhere, whether or not a rule reads it."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            parts = (value,) if hasattr(value, "ListFields") else value
            if len(parts) > _LONGEST_LIST:
                raise malformed(f"{field.name} has {len(parts)} entries, the limit is {_LONGEST_LIST}")
            for part in parts:
                finite_throughout(part)
        elif isinstance(value, float):
            _finite(value, field.name)
        elif field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
            for number in value:
                _finite(number, field.name)


def _finite(value: float, name: str) -> None:
    if not isfinite(value) or abs(value) > ABSURD:
        raise malformed(f"{name} `{value!r}` is not a number a request can have")
