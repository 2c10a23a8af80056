"""The schemas of the owner's status, of what a halt answers, and of what a key has left. Knows no route."""

from __future__ import annotations

from sidecar.border import CURRENCIES
from sidecar.listeners.openapi.schemas import Schema, reference
from sidecar.policy.trading import TradingState

MONEY: Schema = {"type": ["string", "null"], "description": "a decimal; null: not limited"}
_BY_CURRENCY: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_TEXT: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}


def _whole(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def standing() -> Schema:
    text = {"type": ["string", "null"]}
    properties: dict[str, Schema] = {
        "key": {**text, "description": "null: all trading"},
        "state": {"enum": [state.name for state in TradingState]},
        "since": {**text, "format": "date-time"},
        "reason": text,
        "by": {**text, "description": "who halted it"},
        "breaker": {**text, "description": "which breaker it was, by its name in the settings"},
    }
    return _whole(properties)


def told() -> Schema:
    """What `Switch.status` makes; a test compares them."""
    properties: dict[str, Schema] = {
        "trading": reference("Standing"),
        "keys": {"type": "array", "items": reference("Standing"), "description": "those halted by themselves"},
        "saved": {"type": "boolean", "description": "whether a restart would know all this"},
        "save_problem": {"type": ["string", "null"]},
        "cancelling": {
            "type": "array",
            "items": reference("Cancelling"),
            "description": "what the sidecar cancels by itself: what goes on, then what has ended, the latest first",
        },
        "ready": {"type": "boolean"},
        "problems": {"type": "array", "items": {"type": "object"}},
        "revision": {"type": "string"},
        "pid": {"type": "integer"},
        **_overview(),
    }
    return _whole(properties)


def cancelling() -> Schema:
    """What `canceller.Run.tree` makes; a test compares them."""
    text, count = {"type": ["string", "null"]}, {"type": "integer", "minimum": 0}
    account: dict[str, Schema] = {
        "acc_id": {"type": "string"},
        "trd_env": {"enum": ["SIMULATE", "REAL"]},
        "total": count,
        "done": count,
        "seconds_left": count,
        "problem": {**text, "description": "why its orders are not even known"},
    }
    left: dict[str, Schema] = {name: {"type": "string"} for name in ("acc_id", "order_id", "symbol", "reason")}
    properties: dict[str, Schema] = {
        "run": {"type": "string"},
        "key": {**text, "description": "null: all orders"},
        "by": {"type": "string", "description": "who wanted it"},
        "began": {"type": "string", "format": "date-time"},
        "finished": {"type": "boolean"},
        "stopped": {**text, "description": "why it ended before its time"},
        "waiting_for": {**text, "description": "why nothing goes on"},
        "total": {**count, "description": "orders found so far"},
        "done": {**count, "description": "those of them that work no more"},
        "seconds_left": {**count, "description": "if OpenD takes every cancel"},
        "accounts": {"type": "array", "items": {"type": "object", "properties": account, "required": list(account)}},
        "not_cancelled": {
            "type": "array",
            "items": {"type": "object", "properties": left, "required": list(left)},
            "description": "once it has ended",
        },
    }
    return _whole(properties)


def _overview() -> dict[str, Schema]:
    """What `overview.Overview.tree` makes; a test compares them."""
    upstream: dict[str, Schema] = {
        "address": {"type": "string"},
        "up": {"type": "boolean"},
        "lock": {"enum": ["unknown", "locked", "unlocked"], "description": "of real trading"},
        "connections": {**_COUNT, "description": "to OpenD, the sidecar's own included"},
        "max_connections": _COUNT,
    }
    records: dict[str, Schema] = {
        "audit_ok": {"type": "boolean"},
        "ledger_ok": {"type": "boolean"},
        "waiting": {**_COUNT, "description": "records not on disk yet"},
        "seconds_behind": {"type": "number"},
    }
    key: dict[str, Schema] = {
        "key": {"type": "string"},
        "note": _TEXT,
        "state": {"enum": [state.name for state in TradingState]},
        "unusable": {"enum": ["frozen", "expired", None]},
        "expires_at": {**_TEXT, "format": "date-time"},
        "connections": {**_COUNT, "description": "of its own: TCP and WebSocket"},
        "cap_currency": {"enum": [*CURRENCIES, None]},
        **headroom(),
    }
    refusal: dict[str, Schema] = {
        "at": {"type": "string", "format": "date-time"},
        **{name: {"type": "string"} for name in ("key", "iface", "endpoint", "code", "decision_id")},
        **dict.fromkeys(("address", "message", "side", "qty", "symbol", "price"), _TEXT),
        "times": {**_COUNT, "description": "in a row"},
    }
    return {
        "version": {"type": "string"},
        "began": {"type": "string", "format": "date-time"},
        "upstream": _whole(upstream),
        "clients": {
            "type": "object",
            "additionalProperties": _COUNT,
            "description": "open client connections by entrance; of REST the streams of pushes",
        },
        "headroom": {"type": "array", "items": _whole(key), "description": "every key, and what it has left"},
        "breakers": {"type": "object", "additionalProperties": _TEXT, "description": "null: off"},
        "records": _whole(records),
        "refusals": {
            "type": "array",
            "items": _whole(refusal),
            "description": "the last ones, the latest first; the audit has all",
        },
    }


def headroom() -> dict[str, Schema]:
    """What `allowance.headroom` makes."""
    return {
        "daily_value": {
            "type": "object",
            "description": "by currency; under cap_currency one sum in it",
            "properties": {"limit": MONEY, "used": _BY_CURRENCY, "left": {**_BY_CURRENCY, "type": ["object", "null"]}},
        },
        "orders_per_minute": {
            "type": "object",
            "properties": {
                "limit": {"type": ["integer", "null"]},
                "used": {"type": "integer"},
                "left": {"type": ["integer", "null"]},
                "next_in_seconds": {"type": "number"},
            },
        },
        "open_orders": {
            "type": "object",
            "description": "on the market or on their way there",
            "properties": {
                "limit": {"type": ["integer", "null"]},
                "used": {"type": "integer"},
                "left": {"type": ["integer", "null"]},
            },
        },
    }
