"""The operations of the REST door that are not one request of OpenD: any request by its name, the key's page, health, pushes."""

from __future__ import annotations

from typing import Any

from sidecar.border import CURRENCIES
from sidecar.listeners.openapi import answers, status
from sidecar.listeners.openapi.examples import ACCOUNT, SYMBOL
from sidecar.listeners.openapi.schemas import Schema, reference
from sidecar.listeners.rest.admin import HALT, RESUME, STATUS
from sidecar.listeners.rest.routes import BY_ID
from sidecar.policy.trading import TradingState

_PUBLIC: list[Any] = []
"""`security` of a page that asks for no key."""
_NAMES: Schema = {"type": ["array", "null"], "items": {"type": "string"}}


def operations(*, metrics: bool) -> dict[str, dict[str, Any]]:
    """Path → method → operation. `metrics`: whether the door has `/metrics`."""
    paths = {
        BY_ID: {"post": _any_request()},
        "/api/key": {"get": _key()},
        HALT: {
            "post": _change(
                "haltTrading",
                "Halt all trading, or one key",
                "Orders are refused at once; cancels go on. With `cancel_orders` all working orders are cancelled too, or those "
                "of the key: it begins at once, and the status tells how far it has come.",
                {"cancel_orders": {"type": "boolean", "default": False}},
            )
        },
        RESUME: {"post": _change("resumeTrading", "Resume all trading, or one key", "Nothing else ends a halt.")},
        STATUS: {"get": _status()},
        "/ws": {"get": _pushes()},
        "/health": {"get": _page("health", "Whether the process lives", {"text/plain": {"schema": {"const": "ok"}}})},
        "/readyz": {"get": _readiness()},
    }
    if metrics:
        text = {"text/plain": {"schema": {"type": "string"}}}
        foreign = {"403": {"$ref": "#/components/responses/Forbidden"}}
        paths["/metrics"] = {"get": _page("metrics", "Metrics for Prometheus", text, foreign)}
    return paths


def parameters() -> dict[str, Any]:
    return {
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Any text of your own, one for each order. The same order sent again with it is answered "
            "with the first outcome and not placed twice. E.g. `rebalance-2026-01-05-1`.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._:-]+$"},
        }
    }


def schemas() -> dict[str, Schema]:
    return {
        "Allowance": _allowance(),
        "Readiness": _ready(),
        "Standing": status.standing(),
        "Status": status.told(),
        "Cancelling": status.cancelling(),
    }


def _any_request() -> dict[str, Any]:
    example = {"c2s": {"security_list": [SYMBOL]}}
    answer = answers.enveloped({"type": "object"})
    return {
        "operationId": "anyRequest",
        "tags": ["sidecar"],
        "summary": "Any request of OpenD, by its id or name",
        "description": "For programs that have OpenD's names. Each request is listed with its fields, either with a route or "
        "by its name. Scope: that of the request.",
        "parameters": [
            {
                "name": "name",
                "in": "path",
                "required": True,
                "description": "`3004`, `Qot_GetBasicQot`, or `get_basic_qot`",
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9_]{1,60}$"},
                "example": "Qot_GetBasicQot",
            },
            {"$ref": "#/components/parameters/IdempotencyKey"},
        ],
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}, "example": example}}},
        "responses": answers.responses(answer, body=True, trading=True, unknown=True),
    }


def _key() -> dict[str, Any]:
    answer = answers.enveloped(reference("Allowance"))
    return {
        "operationId": "getKey",
        "tags": ["sidecar"],
        "summary": "What this key may do, and what it has left",
        "description": "Scope: none, any key.",
        "responses": {
            "200": {"description": "It uses nothing up.", "content": {"application/json": {"schema": answer}}},
            **answers.refused(400, 401),
        },
    }


def _change(operation_id: str, summary: str, what: str, more: dict[str, Schema] | None = None) -> dict[str, Any]:
    wanted = {
        "type": "object",
        "properties": {
            "key": {"type": ["string", "null"], "description": "the id of a key; without it all trading is meant"},
            "state": {
                "enum": ["HALTED", "REDUCING", None],
                "description": "REDUCING: orders that shrink a position pass, and nothing else",
            },
            "reason": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "pattern": r"\S",
                "description": "told to who is refused",
            },
            **(more or {}),
        },
        "required": ["reason"],
        "additionalProperties": False,
    }
    done = {
        "allOf": [reference("Standing")],
        "properties": {
            "changed": {"type": "boolean"},
            "saved": {"type": "boolean", "description": "false: it holds, but a restart would not know it"},
            "problem": {"type": ["string", "null"], "description": "why it is not on disk"},
            "still_halted": {"type": "array", "items": reference("Standing")},
            "cancelling": {"anyOf": [reference("Cancelling"), {"type": "null"}]},
        },
        "required": ["changed", "saved", "problem", "still_halted", "cancelling"],
    }
    example = {"reason": "fat finger"}
    return {
        "operationId": operation_id,
        "tags": ["sidecar"],
        "summary": summary,
        "description": f"{what} It holds at once, then goes to disk: `saved`. Scope: `admin`.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": wanted, "example": example}}},
        "responses": {
            "200": {"description": "It holds.", "content": {"application/json": {"schema": answers.enveloped(done)}}},
            **answers.refused(400, 401, 403, 413, 503),
        },
    }


def _status() -> dict[str, Any]:
    answer = answers.enveloped(reference("Status"))
    return {
        "operationId": "status",
        "tags": ["sidecar"],
        "summary": "What is halted, and whether the sidecar and OpenD are well",
        "description": "Scope: `admin`.",
        "responses": {
            "200": {"description": "The status.", "content": {"application/json": {"schema": answer}}},
            **answers.refused(400, 401, 403),
        },
    }


def _pushes() -> dict[str, Any]:
    return {
        "operationId": "pushes",
        "tags": ["sidecar"],
        "summary": "A WebSocket of the key's pushes",
        "description": "JSON messages, from the sidecar only: `type` (`quote`, `trade`, `notify`), `proto_id`, `sec_key`, "
        "`sub_type`, `rehab_type`, `acc_id`, `trd_market` as far as they are known, and `body_b64`: OpenD's whole push as "
        "protobuf, or with `?body=json` its `s2c`. They bring what was subscribed to with the same key, over this door, gRPC or "
        "MCP. Where a program cannot set headers, `?token=` carries the key. This page cannot open WebSockets.",
        "parameters": [
            {"name": "body", "in": "query", "schema": {"enum": ["base64", "json"], "default": "base64"}},
        ],
        "responses": {
            "101": {"description": "The WebSocket is open."},
            **answers.refused(400, 401, 403, 503),
        },
    }


def _readiness() -> dict[str, Any]:
    content = {"application/json": {"schema": reference("Readiness")}}
    more = {"503": {"description": "They would be refused.", "content": content}} | answers.refused(403)
    return _page("readiness", "Whether orders can be served", content, more)


def _page(
    operation_id: str, summary: str, content: dict[str, Any], more: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "tags": ["sidecar"],
        "summary": summary,
        "description": "It asks for no key.",
        "security": _PUBLIC,
        "responses": {"200": {"description": "Yes.", "content": content}, **(more or {})},
    }


def _ready() -> Schema:
    return {
        "type": "object",
        "properties": {
            "ready": {"type": "boolean"},
            "problems": {
                "type": "array",
                "items": {"enum": ["upstream", "keys", "ledger", "audit", "settings", "certificate"]},
            },
        },
        "required": ["ready", "problems"],
    }


def _allowance() -> Schema:
    """What `allowance.allowance` makes; a test compares them."""
    properties: dict[str, Schema] = {
        "key_id": {"type": "string"},
        "scopes": {"type": "array", "items": {"type": "string"}},
        "state": {"enum": [state.name for state in TradingState], "description": "HALTED: cancels and reads only"},
        "halted": {"type": ["string", "null"], "description": "since when, and why"},
        "expires_at": {"type": ["string", "null"], "format": "date-time"},
        "allowed_markets": _NAMES,
        "allowed_symbols": _NAMES,
        "allowed_trd_sides": _NAMES,
        "allowed_order_types": _NAMES,
        "allowed_acc_ids": {**_NAMES, "examples": [[ACCOUNT]]},
        "hours": {
            "type": ["object", "null"],
            "properties": {
                "windows": {"type": "array", "items": {"type": "string"}, "examples": [["09:30-16:00"]]},
                "timezone": {"type": "string"},
                "open_now": {"type": "boolean"},
            },
        },
        "trading_hours": {"type": "boolean", "description": "true: only while the market trades"},
        "extended_hours": {"type": "boolean"},
        "allow_short": {"type": "boolean", "description": "false: it may sell only what is held"},
        "cap_currency": {
            "enum": [*CURRENCIES, None],
            "description": "of the amounts below; null: that of each order",
        },
        "max_order_value": status.MONEY,
        "max_position_value": status.MONEY,
        "max_order_qty": status.MONEY,
        "price_collar_pct": status.MONEY,
        "duplicate_window_s": {"type": ["integer", "null"]},
        "cancel_on_disconnect": {
            "type": ["integer", "null"],
            "description": "seconds after the key's last connection ended when its orders are cancelled",
        },
        **status.headroom(),
    }
    return {"type": "object", "properties": properties, "required": list(properties)}
