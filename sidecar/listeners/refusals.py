"""A refusal in each door's native form: its HTTP status, its gRPC status. One row a code; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from grpclib.const import Status

from sidecar.asked import Refused
from sidecar.policy.decision import Code


class Native(NamedTuple):
    http: int
    grpc: Status


_NO_KEY = Native(401, Status.UNAUTHENTICATED)
_DENIED = Native(403, Status.PERMISSION_DENIED)
_UNKNOWN_FACT = Native(403, Status.FAILED_PRECONDITION)
_INVALID = Native(400, Status.INVALID_ARGUMENT)
_TOO_MUCH = Native(429, Status.RESOURCE_EXHAUSTED)
_NOT_NOW = Native(503, Status.UNAVAILABLE)

NATIVE: Mapping[Code, Native] = MappingProxyType(
    {
        Code.KEY_MISSING: _NO_KEY,
        Code.KEY_UNKNOWN: _NO_KEY,
        Code.KEY_REVOKED: _NO_KEY,
        Code.KEY_EXPIRED: _NO_KEY,
        Code.KEY_FROZEN: _NO_KEY,
        Code.MACHINE_NOT_ALLOWED: _NO_KEY,
        Code.IP_NOT_ALLOWED: _NO_KEY,
        Code.UNKNOWN_REQUEST: Native(404, Status.UNIMPLEMENTED),
        Code.MALFORMED_REQUEST: _INVALID,
        Code.UNKNOWN_FIELD: _INVALID,
        Code.BODY_TOO_LARGE: Native(413, Status.INVALID_ARGUMENT),
        Code.IDEMPOTENCY_CONFLICT: Native(409, Status.INVALID_ARGUMENT),
        Code.SCOPE: _DENIED,
        Code.TRADING_HALTED: _DENIED,
        Code.REDUCE_ONLY: _DENIED,
        Code.BREAKER: _DENIED,
        Code.KEYS_STALE: _DENIED,
        Code.ACCOUNT: _DENIED,
        Code.NOT_OWN_ORDER: _DENIED,
        Code.MARKET: _DENIED,
        Code.SYMBOL: _DENIED,
        Code.SIDE: _DENIED,
        Code.ORDER_TYPE: _DENIED,
        Code.SHORT_SALE: _DENIED,
        Code.HOURS: _DENIED,
        Code.MARKET_CLOSED: _DENIED,
        Code.EXTENDED_HOURS: _DENIED,
        Code.PRICE_UNAVAILABLE: _UNKNOWN_FACT,
        Code.INSTRUMENT_UNKNOWN: _UNKNOWN_FACT,
        Code.ORDER_UNKNOWN: _UNKNOWN_FACT,
        Code.FX_UNAVAILABLE: _UNKNOWN_FACT,
        Code.POSITION_UNKNOWN: _UNKNOWN_FACT,
        Code.PRICE_COLLAR: _DENIED,
        Code.ORDER_QTY: _DENIED,
        Code.ORDER_VALUE: _DENIED,
        Code.POSITION_VALUE: _DENIED,
        Code.DUPLICATE: _DENIED,
        Code.RATE: _TOO_MUCH,
        Code.DAILY_VALUE: _TOO_MUCH,
        Code.OPEN_ORDERS: _TOO_MUCH,
        Code.CANCEL_FLOOD: _TOO_MUCH,
        Code.AUDIT_UNAVAILABLE: _NOT_NOW,
        Code.LEDGER_UNAVAILABLE: _NOT_NOW,
        Code.CLOCK: _NOT_NOW,
        Code.UPSTREAM_UNAVAILABLE: _NOT_NOW,
        Code.UPSTREAM_FULL: _NOT_NOW,
        Code.CLIENT_GONE: Native(499, Status.CANCELLED),
    }
)

_WAIT: Mapping[Code, int] = MappingProxyType({Code.RATE: 60, Code.CANCEL_FLOOD: 60, Code.DAILY_VALUE: 3600})
"""Seconds where the rule itself does not know: what is certain to be enough, or a good time to look again."""


def retry_after(refused: Refused) -> int | None:
    """Seconds, at least 1, after which the same request may pass; None where waiting does not help.

    None also for what was sent and whose outcome is unknown: whoever repeats it may place an order twice.
    """
    if refused.unknown:
        return None
    wait = refused.retry_after if refused.retry_after is not None else _WAIT.get(refused.code)
    return None if wait is None else max(1, wait)
