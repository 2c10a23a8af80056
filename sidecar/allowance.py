"""What a key's own holder may be told: what it may do and has left, and what a dry run found. Nothing of any other key; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sidecar.grants import Grant
from sidecar.policy.caps import day_used
from sidecar.policy.currency import exchange
from sidecar.policy.decision import Decision
from sidecar.policy.exact import plain
from sidecar.policy.key import HoursWindow, Key
from sidecar.policy.rules import within_hours
from sidecar.policy.trading import Standing, TradingState
from sidecar.policy.usage import Terms, Usage


def allowance(grant: Grant, usage: Usage, now: datetime, trading: Standing, terms: Terms) -> dict[str, Any]:
    """A tree of JSON values. Money and quantities are text, because they are exact; null: not limited.

    `usage` is what is counted at this moment, reservations included; `now` is aware; `trading` is the state in force.
    """
    key = grant.key
    return {
        "key_id": key.id,
        "scopes": sorted(key.scopes),
        "state": trading.state.name,
        "halted": None if trading.state is TradingState.ACTIVE else trading.told(now),
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "allowed_markets": _listed(key.allowed_markets),
        "allowed_symbols": _listed(key.allowed_symbols),
        "allowed_trd_sides": _listed(key.allowed_trd_sides),
        "allowed_acc_ids": None if key.allowed_acc_ids is None else [str(each) for each in sorted(key.allowed_acc_ids)],
        "allowed_order_types": None
        if key.allowed_order_types is None
        else sorted(each.name for each in key.allowed_order_types),
        "allow_short": key.allow_short is not False,
        "hours": _hours(key, now),
        "trading_hours": key.trading_hours is True,
        "extended_hours": key.extended_hours is not False,
        "cap_currency": key.cap_currency,
        "max_order_value": _exact(key.max_order_value),
        "max_position_value": _exact(key.max_position_value),
        "max_order_qty": _exact(key.max_order_qty),
        "price_collar_pct": _exact(key.price_collar_pct),
        "duplicate_window_s": key.duplicate_window_s,
        "cancel_on_disconnect": key.cancel_on_disconnect,
        **headroom(key, usage, now, terms),
    }


def headroom(key: Key, usage: Usage, now: datetime, terms: Terms) -> dict[str, Any]:
    """What a key has used and has left of the limits that are used up, as a tree of JSON values; of an allowance the last part."""
    used = day_used(usage, exchange(key.cap_currency, terms.rates, now))
    return {
        "daily_value": {
            "limit": _exact(key.max_daily_value),
            "used": {currency: _exact(value) for currency, value in sorted((used or usage.daily_value).items())},
            "left": _left_of_day(key.max_daily_value, used),
        },
        "orders_per_minute": _rate(key, usage),
        "open_orders": _open_orders(key, usage),
    }


def rehearsal(decision: Decision) -> dict[str, Any]:
    """What a dry run found, every check told, as a tree of JSON values."""
    refusal, worth = decision.refusal, decision.worth
    return {
        "dry_run": True,
        "allowed": refusal is None,
        "code": None if refusal is None else refusal.code.value,
        "message": None if refusal is None else refusal.message,
        "value": None if worth is None else plain(worth.value),
        "currency": None if worth is None else worth.currency,
        "checks": [
            {"check": finding.rule, "passed": finding.refusal is None, "detail": finding.detail}
            for finding in decision.findings
        ],
    }


def _rate(key: Key, usage: Usage) -> dict[str, Any]:
    limit, used = key.max_orders_per_minute, usage.orders_last_minute
    left = None if limit is None else max(0, limit - used)
    wait = max(0.0, 60.0 - usage.oldest_order_age) if left == 0 else 0.0
    return {"limit": limit, "used": used, "left": left, "next_in_seconds": round(wait, 1)}


def _open_orders(key: Key, usage: Usage) -> dict[str, Any]:
    limit, used = key.max_open_orders, usage.open_orders
    return {"limit": limit, "used": used, "left": None if limit is None else max(0, limit - used)}


def _left_of_day(limit: Decimal | None, used: Mapping[str, Decimal] | None) -> dict[str, str | None] | None:
    """Per currency that was used today; a currency that was not has the whole limit. Empty where it cannot be told."""
    if limit is None:
        return None
    return {currency: _exact(max(Decimal(0), limit - value)) for currency, value in sorted((used or {}).items())}


def _hours(key: Key, now: datetime) -> dict[str, Any] | None:
    if key.hours_window is None:
        return None
    return {
        "windows": [_window(each) for each in key.hours_window],
        "timezone": str(key.zone),
        "open_now": within_hours(key, now),
    }


def _window(window: HoursWindow) -> str:
    return f"{window.start:%H:%M}-{window.end:%H:%M}"


def _listed(values: frozenset[Any] | None) -> list[str] | None:
    return None if values is None else sorted(str(value) for value in values)


def _exact(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")
