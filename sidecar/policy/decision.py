"""What a decision is made of: stable codes, findings, and the one place where a refusal becomes prose."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Code(StrEnum):
    """The stable codes of refusals; they are API in replies, audit and metrics. In the order of the checks."""

    KEY_MISSING = "key_missing"
    KEY_UNKNOWN = "key_unknown"
    KEY_REVOKED = "key_revoked"
    KEY_EXPIRED = "key_expired"
    KEY_FROZEN = "key_frozen"
    MACHINE_NOT_ALLOWED = "machine_not_allowed"
    IP_NOT_ALLOWED = "ip_not_allowed"
    UNKNOWN_REQUEST = "unknown_request"
    MALFORMED_REQUEST = "malformed_request"
    UNKNOWN_FIELD = "unknown_field"
    BODY_TOO_LARGE = "body_too_large"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    SCOPE = "scope"
    TRADING_HALTED = "trading_halted"
    REDUCE_ONLY = "reduce_only"
    BREAKER = "breaker"
    KEYS_STALE = "keys_stale"
    ACCOUNT = "account"
    NOT_OWN_ORDER = "not_own_order"
    MARKET = "market"
    SYMBOL = "symbol"
    SIDE = "side"
    ORDER_TYPE = "order_type"
    SHORT_SALE = "short_sale"
    HOURS = "hours"
    MARKET_CLOSED = "market_closed"
    EXTENDED_HOURS = "extended_hours"
    PRICE_UNAVAILABLE = "price_unavailable"
    INSTRUMENT_UNKNOWN = "instrument_unknown"
    ORDER_UNKNOWN = "order_unknown"
    FX_UNAVAILABLE = "fx_unavailable"
    POSITION_UNKNOWN = "position_unknown"
    PRICE_COLLAR = "price_collar"
    ORDER_QTY = "order_qty"
    ORDER_VALUE = "order_value"
    POSITION_VALUE = "position_value"
    DUPLICATE = "duplicate"
    RATE = "rate"
    DAILY_VALUE = "daily_value"
    OPEN_ORDERS = "open_orders"
    CANCEL_FLOOD = "cancel_flood"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    CLOCK = "clock"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_FULL = "upstream_full"
    CLIENT_GONE = "client_gone"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not. `message` is whole prose for people, with limit and actual value, without code or decision id."""

    code: Code
    message: str
    retry_after: int | None = None
    """Seconds after which the same request may pass; None where waiting alone does not help, or unknown."""

    def text(self, decision_id: str) -> str:
        """The refusal as clients read it, e.g. `[sidecar:rate] 6 orders in 60 s, the limit is 5 (decision 01J...)`."""
        return f"[sidecar:{self.code.value}] {self.message} (decision {decision_id})"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of a decision: `refusal` is None when it passed; `detail` says with which numbers."""

    rule: str
    detail: str
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Worth:
    """What an order counts as: `value` in `currency` (ISO code: the key's cap_currency, else the security's own), and why."""

    value: Decimal
    currency: str
    explanation: str
    """E.g. `100 × 350 (limit) × 1 = 35000 HKD`, or `1 × 15 (limit) × 100 = 1500 USD × 7.78 = 11670 HKD`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of every check made. `worth` is set when a value was computed (there is a value cap), else None."""

    findings: tuple[Finding, ...]
    worth: Worth | None = None
    counts: Decimal | None = None
    """What of `worth` counts against the day's value: of a change the increase only."""

    @property
    def refusal(self) -> Refusal | None:
        """The first failing check, or None: allowed."""
        return next((finding.refusal for finding in self.findings if finding.refusal is not None), None)
