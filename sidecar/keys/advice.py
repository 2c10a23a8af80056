"""What a good record may do that its maker perhaps did not mean. Refuses nothing: these are warnings for people."""

from __future__ import annotations

from datetime import datetime

from sidecar.keys.record import StoredKey
from sidecar.policy.key import TRADE_SCOPES, Key, Scope


def advice(record: StoredKey, now: datetime) -> tuple[str, ...]:
    """Warnings about one key, each a line of prose that names it. `now` is aware."""
    key = record.key
    found = [
        text for text in (_reads_real_account(key), _uncapped(key), _may_go_short(key), _caps_nothing(key)) if text
    ]
    if key.expires_at is not None and now >= key.expires_at:
        found.append(f"key `{key.id}` expired at {key.expires_at.isoformat()}; `revoke-key {key.id}` removes it")
    if record.ws_hash is None:
        found.append(
            f"key `{key.id}` has no ws_hash and cannot be used by the JavaScript SDK; replace it to change that"
        )
    return tuple(found)


def advice_on_new(key: Key) -> tuple[str, ...]:
    """Warnings worth saying while a key is being made."""
    return tuple(text for text in (_reads_real_account(key),) if text)


def _reads_real_account(key: Key) -> str | None:
    if (
        Scope.ACC_READ in key.scopes
        and key.scopes & TRADE_SCOPES == {Scope.TRADE_SIMULATE}
        and key.allowed_acc_ids is None
    ):
        return (
            f"key `{key.id}` trades paper accounts only, but acc:read lets it read every account, real ones included; "
            "name its accounts in allowed_acc_ids"
        )
    return None


def _uncapped(key: Key) -> str | None:
    if Scope.TRADE_REAL in key.scopes and not key.value_capped:
        return f"key `{key.id}` trades real accounts without max_order_value and max_daily_value"
    return None


def _caps_nothing(key: Key) -> str | None:
    if key.cap_currency is not None and not key.value_capped:
        return f"key `{key.id}` has cap_currency `{key.cap_currency}`, but no amount that would be in it"
    return None


def _may_go_short(key: Key) -> str | None:
    if key.scopes & TRADE_SCOPES and key.allow_short is None:
        return (
            f"key `{key.id}` may sell what is not held, since it does not say allow_short; "
            "write `false` to refuse short sales, `true` to keep them"
        )
    return None
