"""One line of the audit as a value, and the JSON it becomes; knows no file, no chain and no rule about what is worth
a line.

SECURITY: the fields are a closed set, and none of them can hold a plaintext key, a password or a request's body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal

import orjson

Outcome = Literal["allow", "reject", "success", "failure", "unknown"]
"""`allow` and `reject` are ours, before forwarding; the others are OpenD's, after."""

KEY_MISSING = "<missing>"
KEY_INVALID = "<invalid>"
NO_KEY = "<none>"
"""The key_id of records about the sidecar itself."""

_LEVELS = {"allow": "INFO", "success": "INFO", "reject": "WARN", "failure": "WARN", "unknown": "WARN"}
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LONGEST_PLAIN = 60
"""Digits up to which a number is written without an exponent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """What is recorded of one request; None is left out of the line.

    Money and quantities become exact JSON numbers (read them as decimals); account and order ids become strings,
    because they have more digits than a double keeps. `latency_us` is microseconds from the request's arrival to the
    moment of the record.
    """

    at: float
    """Unix seconds."""
    iface: str
    """`tcp`, `ws`, `rest`, `grpc`, `mcp`, `admin`, or `sidecar` for records about itself."""
    endpoint: str
    """A path, a tool, or for protocol listeners `endpoint_name(...)`."""
    key_id: str
    """`KEY_MISSING` or `KEY_INVALID` where there is no valid key."""
    outcome: Outcome
    reason: str | None = None
    """The bare code of a refusal."""
    message: str | None = None
    scope: str | None = None
    args_hash: str | None = None
    decision_id: str | None = None
    policy: str | None = None
    """Revision of the rules: the hash of keys.json."""
    address: str | None = None
    acc_id: int | None = None
    trd_env: str | None = None
    market: str | None = None
    symbol: str | None = None
    side: str | None = None
    order_type: str | None = None
    session: str | None = None
    """Of an order that may fill outside regular hours: `outside_rth`, or its session."""
    qty: Decimal | None = None
    price: Decimal | None = None
    value: Decimal | None = None
    currency: str | None = None
    order_id: int | None = None
    order_id_ex: str | None = None
    op: str | None = None
    """Of a change of an order: `modify`, `cancel`, `cancel_all`, `enable`, `disable` or `delete`."""
    ret_type: int | None = None
    """OpenD's retType, on outcomes."""
    latency_us: int | None = None
    count: int | None = None
    """On a summed record: how many it stands for."""
    essential: bool = False
    """Approved orders, their outcomes and cancels: written even when the disk is nearly full, kept in memory until
    they are. Not part of the line."""

    def fields(self) -> dict[str, Any]:
        """The line without `seq`, `prev` and `hash`, in the order in which it is written."""
        fields: dict[str, Any] = {
            "timestamp": timestamp(self.at),
            "level": _LEVELS[self.outcome],
            "target": "futu_audit",
            "iface": self.iface,
            "endpoint": self.endpoint,
            "key_id": self.key_id,
            "outcome": self.outcome,
        }
        fields |= {name: value for name, value in zip(_OPTIONAL, _optional(self), strict=True) if value is not None}
        for name in ("acc_id", "order_id"):
            if name in fields:
                fields[name] = str(fields[name])
        return fields

    def line(self) -> str:
        """The record as JSON outside the chain, for the operator's log."""
        return to_json(self.fields()).decode("utf-8")

    @property
    def has_valid_key(self) -> bool:
        return not self.key_id.startswith("<")


_OPTIONAL = (
    "reason",
    "message",
    "scope",
    "args_hash",
    "decision_id",
    "policy",
    "address",
    "acc_id",
    "trd_env",
    "market",
    "symbol",
    "side",
    "order_type",
    "session",
    "qty",
    "price",
    "value",
    "currency",
    "order_id",
    "order_id_ex",
    "op",
    "ret_type",
    "latency_us",
    "count",
)
_optional = attrgetter(*_OPTIONAL)


def to_json(fields: dict[str, Any]) -> bytes:
    """One JSON object without line breaks; decimals as exact numbers, not-numbers as strings."""
    try:
        return orjson.dumps(fields, default=_exact)
    except orjson.JSONEncodeError:
        # A lone surrogate in a client's text must not keep its request out of the audit.
        clean = {
            name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return orjson.dumps(clean, default=_exact)


def _exact(value: object) -> object:
    if isinstance(value, Decimal):
        if not value.is_finite():
            return str(value)
        text = format(value, "f") if -_LONGEST_PLAIN < value.adjusted() < _LONGEST_PLAIN else str(value)
        return orjson.Fragment(text.encode("ascii"))
    raise TypeError(type(value).__name__)


def timestamp(at: float) -> str:
    """RFC 3339 in UTC with microseconds, as every line has it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@lru_cache(maxsize=512)
def endpoint_name(row_name: str, proto_id: int) -> str:
    """The endpoint of a protocol request, from its name in the catalog: `Trd_PlaceOrder`, 2202 → `place_order
    proto_id=2202`."""
    bare = re.sub(r"^(Trd|Qot)_", "", row_name)
    return f"{_WORDS.sub('_', bare).lower()} proto_id={proto_id}"
