"""The flags of gen-key as a raw record of keys.json. Whether its values make sense is for `keys.record` to say."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from sidecar.border import seconds, shown
from sidecar.cli.command import WrongUsage
from sidecar.errors import ConfigError
from sidecar.keys import fields
from sidecar.keys.machine import fingerprint, machine_id
from sidecar.keys.secret import hash_of, ws_hash_of
from sidecar.policy.key import TRADE_SCOPES

_AMOUNT = re.compile(r"\d{1,18}(\.\d{1,12})?")


def new_record(key_id: str, plaintext: str, given: dict[str, Any], zone: tzinfo | None) -> dict[str, Any]:
    """The raw record in the order people read it, unset fields left out; its values are checked by `read_record`."""
    now = datetime.now(UTC)
    machines = listed("--bind-machines", given["bind_machines"]) or []
    if given["bind_this_machine"]:
        machines.append(fingerprint(key_id, machine_id()))
    scopes = listed("--scopes", given["scopes"])
    record: dict[str, Any] = {
        "id": key_id,
        "hash": f"sha256:{hash_of(plaintext)}",
        "ws_hash": f"sha256:{ws_hash_of(plaintext)}",
        "client_certs": _certificates(given["client_certs"]),
        "scopes": scopes,
        "created_at": _written(now),
        "expires_at": _expiry(given["expires"], now),
        "allowed_markets": listed("--allowed-markets", given["allowed_markets"]),
        "allowed_symbols": listed("--allowed-symbols", given["allowed_symbols"]),
        "allowed_trd_sides": listed("--allowed-trd-sides", given["allowed_trd_sides"]),
        "allowed_acc_ids": _acc_ids(given["allowed_acc_ids"]),
        "allowed_order_types": listed("--allowed-order-types", given["allowed_order_types"]),
        "max_order_value": _amount("--max-order-value", given["max_order_value"]),
        "max_daily_value": _amount("--max-daily-value", given["max_daily_value"]),
        "max_position_value": _amount("--max-position-value", given["max_position_value"]),
        "cap_currency": given["cap_currency"],
        "max_orders_per_minute": _count("--max-orders-per-minute", given["max_orders_per_minute"]),
        "max_open_orders": _count("--max-open-orders", given["max_open_orders"]),
        "max_order_qty": _amount("--max-order-qty", given["max_order_qty"]),
        "price_collar_pct": _amount("--price-collar-pct", given["price_collar_pct"]),
        "duplicate_window_s": _count("--duplicate-window-s", given["duplicate_window_s"]),
        "trading_hours": given["trading_hours"] or None,
        "extended_hours": given["extended_hours"],
        "allow_short": _allow_short(scopes, given["allow_short"]),
        "cancel_on_disconnect": _grace(given["cancel_on_disconnect"]),
        "hours_window": _hours(given["hours_window"]),
        "timezone": _zone(given["timezone"], bool(given["hours_window"]), zone),
        "allowed_machines": list(dict.fromkeys(machines)) or None,
        "allowed_ips": listed("--allowed-ips", given["allowed_ips"]),
        "note": given["note"],
    }
    return {field: value for field, value in record.items() if value is not None}


def listed(flag: str, text: str | None) -> list[str] | None:
    """`a, b` → [a, b]. An empty list is refused: it would be a whitelist that says nothing."""
    if text is None:
        return None
    parts = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if "" in parts:
        raise WrongUsage(
            f"{flag} {shown(text)} has an empty entry; write values with commas between, or leave the flag out"
        )
    return parts


def _certificates(text: str | None) -> list[str] | None:
    """Fingerprints as they are, and those of certificates in PEM files."""
    parts = listed("--client-certs", text)
    return None if parts is None else list(dict.fromkeys(_fingerprint(part) for part in parts))


def _fingerprint(text: str) -> str:
    try:
        return fields.certificate(text).hex()
    except ValueError:
        pass
    path = Path(text).expanduser()
    try:
        own = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError:
        raise ConfigError(
            f"--client-certs {shown(text)} is neither the SHA-256 of a certificate (64 hex digits) nor a file that can be read"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"--client-certs {shown(text)} holds no certificate in PEM form") from None
    return own.fingerprint(hashes.SHA256()).hex()


def _acc_ids(text: str | None) -> list[int] | None:
    parts = listed("--allowed-acc-ids", text)
    wrong = next((part for part in parts or () if not (part.isascii() and part.isdigit() and len(part) <= 20)), None)
    if wrong is not None:
        raise WrongUsage(f"--allowed-acc-ids {shown(wrong)} is not an account id; they are digits only")
    return None if parts is None else list(dict.fromkeys(int(part) for part in parts))


def _amount(flag: str, text: str | None) -> int | Decimal | None:
    if text is None:
        return None
    if _AMOUNT.fullmatch(text) is None:
        raise WrongUsage(f"{flag} {shown(text)} is not an amount; write plain digits, e.g. 100000 or 2500.50")
    return Decimal(text) if "." in text else int(text)


def _count(flag: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise WrongUsage(f"{flag} {shown(text)} is not a whole number; write e.g. 5")
    return int(text)


def _grace(text: str | None) -> int | bool | None:
    return True if text == "true" else _count("--cancel-on-disconnect", text)


def _allow_short(scopes: list[str] | None, allowed: bool) -> bool | None:
    """Written into every key that trades, so that nobody sells short by leaving a field out."""
    if allowed or not TRADE_SCOPES.isdisjoint(scopes or ()):
        return allowed
    return None


def _hours(windows: tuple[str, ...]) -> str | list[str] | None:
    return None if not windows else windows[0] if len(windows) == 1 else list(windows)


def _zone(name: str | None, needed: bool, default: tzinfo | None) -> str | None:
    """The zone is written into every record with hours, so that the record means the same on another machine."""
    if name is not None or not needed:
        if name is not None and not needed:
            raise WrongUsage("--timezone says where --hours-window is read; give both or neither")
        return name
    found = getattr(default, "key", None)
    try:
        return str(fields.zone_named(found))
    except ValueError:
        raise WrongUsage("--hours-window in which zone? add --timezone, e.g. `--timezone Asia/Hong_Kong`") from None


def _expiry(text: str | None, now: datetime) -> str | None:
    if text is None:
        return None
    relative = text.endswith(("d", "h", "m"))
    try:
        at = now + timedelta(seconds=seconds(text)) if relative else fields.moment(text)
    except OverflowError:
        raise WrongUsage(f"--expires {shown(text)} is too far away") from None
    except ValueError as error:
        raise WrongUsage(f"--expires {error}{'' if relative else ', or a duration such as `30d`'}") from None
    if at <= now:
        raise WrongUsage(f"--expires {shown(text)} is in the past; the key could never be used")
    return _written(at) if relative else text


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
