"""The fields of a key record, value by value: exact values, or a ValueError in prose. Knows no record as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from sidecar import border
from sidecar.border import cidr, closest, shown
from sidecar.intents.model import OrderType, Side
from sidecar.policy.key import HoursWindow, Scope

T = TypeVar("T")

MARKETS = ("HK", "US", "CN", "HKCC", "SG", "JP", "AU", "MY", "CA", "CC", "EC")
"""What allowed_markets may name. CN covers Shanghai and Shenzhen by either route, HKCC only Stock Connect.

CC is crypto, EC event contracts."""

PREFIXES = ("HK", "US", "SH", "SZ", "SG", "JP", "AU", "MY", "CA", "CC", "EC")
"""What a symbol starts with; the official SDKs' own spelling."""

_MARKET_ALIASES = {
    "SH": "CN", "SZ": "CN", "CRYPTO": "CC", "PREDICTION": "EC", "HK_FUTURE": "HK", "HKFUND": "HK", "USFUND": "US",
}  # fmt: skip
_ID = re.compile(r"\w[\w.@+-]{0,63}")
_HASH = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
# As orders carry them (intents.markets): upper case, but for the endings of continuous futures.
_CODE = re.compile(r"[A-Z0-9._/-]{1,47}(?:main|current|next)?")
_CERTIFICATE = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64}|[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){31})")
"""As people find it: 64 hex digits, or with colons as `openssl x509 -fingerprint` prints them."""
_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]|24):([0-5][0-9])")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)?")
_LARGEST_CAP = Decimal(10) ** 15
_SMALLEST_CAP = Decimal(1).scaleb(-8)
_MOST_ORDERS = 100_000
_MOST_PERCENT = Decimal(100)
_LONGEST_WINDOW = 86_400
"""Seconds; what the ledger remembers of placed orders (ledger.recent)."""
_GRACE = 30
"""Seconds after which `cancel_on_disconnect: true` takes a client for gone."""
_GRACES = range(15, 3601)
"""Seconds. The official SDKs come back 6 s after a connection broke; their close and a crash look alike on the wire."""
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def key_id(value: object) -> str:
    text = _text(value)
    if _ID.fullmatch(text) is None:
        raise ValueError(
            f"{shown(text)} is not a usable id; use up to 64 letters, digits and `. _ - @ +`, first a letter or digit"
        )
    return text


def digest(value: object) -> bytes:
    """32 bytes. SECURITY: the value is never quoted: people have pasted the key itself here."""
    if not isinstance(value, str):
        raise ValueError("must be text: the 64 hex digits of a SHA-256, with or without `sha256:` before them")
    if value.startswith("fc_"):
        raise ValueError(
            "holds a plaintext key instead of its SHA-256; take that key as leaked and make a new one with `gen-key`"
        )
    match = _HASH.fullmatch(value)
    if match is None:
        raise ValueError(
            "is not 64 hex digits (SHA-256, with or without `sha256:` before them); make the record with `gen-key`"
        )
    return bytes.fromhex(match.group(1))


def certificates(value: object) -> frozenset[bytes]:
    return _each(value, certificate, "it would name no client; remove the field or list certificates")


def certificate(value: object) -> bytes:
    """The SHA-256 of a certificate (of its DER form), 32 bytes."""
    text = _text(value)
    match = _CERTIFICATE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{shown(text)} is not the SHA-256 of a certificate (64 hex digits); "
            "`openssl x509 -in CERT -noout -fingerprint -sha256` shows it"
        )
    return bytes.fromhex(match.group(1).replace(":", ""))


def scopes(value: object) -> frozenset[Scope]:
    return _each(value, scope, "it would allow nothing; list scopes or delete the record")


def scope(value: object) -> Scope:
    valid = [one.value for one in Scope]
    text = _text(value)
    if text not in valid:
        raise ValueError(f"unknown scope {shown(text)} (valid: {', '.join(valid)}){closest(text, valid)}")
    return Scope(text)


def markets(value: object) -> frozenset[str]:
    return _each(value, market)


def market(value: object) -> str:
    text = _text(value)
    if text in MARKETS:
        return text
    meant = text.upper() if text.upper() in MARKETS else _MARKET_ALIASES.get(text.upper())
    hint = f"; write `{meant}`" if meant else closest(text, MARKETS)
    raise ValueError(f"unknown market {shown(text)} (valid: {', '.join(MARKETS)}){hint}")


def symbols(value: object) -> frozenset[str]:
    return _each(value, symbol)


def symbol(value: object) -> str:
    """`US.AAPL`, `US.*`, or `US.AAPL@options` (options of that underlying)."""
    text = _text(value)
    prefix, dot, rest = text.partition(".")
    if not dot:
        raise ValueError(f"symbol {shown(text)} has no market; write e.g. `US.AAPL`, `HK.00700`, `SH.600519` or `US.*`")
    if prefix not in PREFIXES:
        raise ValueError(f"symbol {shown(text)} has an unknown market {shown(prefix)}; {_prefix_hint(prefix, rest)}")
    if rest == "*":
        return text
    code, at, kind = rest.partition("@")
    if at and kind != "options":
        raise ValueError(f"symbol {shown(text)} has an unknown ending; only `@options` exists, e.g. `US.AAPL@options`")
    if "*" in code:
        raise ValueError(
            f"symbol {shown(text)} has a `*` that does not stand alone; write `{prefix}.*` or whole symbols"
        )
    wrong = _code_hint(prefix, code)
    if wrong:
        raise ValueError(f"symbol {shown(text)} {wrong}")
    return text


def _prefix_hint(prefix: str, rest: str) -> str:
    if prefix in ("CN", "HKCC"):
        return f"write `SH.{rest}` or `SZ.{rest}`"
    if prefix.upper() in PREFIXES:
        return f"write `{prefix.upper()}.{rest}`"
    return f"valid: {', '.join(PREFIXES)}{closest(prefix, PREFIXES)}"


def _code_hint(prefix: str, code: str) -> str | None:
    """What no order can carry as its code: a whitelist entry that matches nothing is a mistake, not a rule."""
    if prefix in ("SH", "SZ") and not (code.isdigit() and len(code) == 6):
        return "is not a Shanghai or Shenzhen code; they have 6 digits, e.g. `SH.600519` or `SZ.000001`"
    if prefix == "HK" and code[:1].isdigit() and not (code.isdigit() and len(code) == 5):
        padded = f": write `HK.{code.zfill(5)}`" if code.isdigit() and len(code) < 5 else ""
        return f"is not a Hong Kong code; stocks have 5 digits{padded}"
    if _CODE.fullmatch(code) is None:
        if _CODE.fullmatch(code.upper()):
            return f"is in lower case; codes are compared exactly: write `{prefix}.{code.upper()}`"
        return "has no usable code after the market; write e.g. `US.AAPL`"
    return None


def sides(value: object) -> frozenset[Side]:
    return _each(value, side)


def side(value: object) -> Side:
    valid = [one.value for one in Side]
    text = _text(value)
    if text not in valid:
        raise ValueError(f"unknown side {shown(text)} (valid: {', '.join(valid)}){closest(text, valid)}")
    return Side(text)


def order_types(value: object) -> frozenset[OrderType]:
    return _each(value, order_type)


def order_type(value: object) -> OrderType:
    """By OpenD's name, which is that of the official SDKs."""
    valid = [one.name for one in OrderType]
    text = _text(value)
    if text not in valid:
        hint = "; a plain limit order is `NORMAL`" if text.upper() == "LIMIT" else closest(text, valid)
        raise ValueError(f"unknown order type {shown(text)} (valid: {', '.join(valid)}){hint}")
    return OrderType[text]


def acc_ids(value: object) -> frozenset[int]:
    return _each(value, acc_id)


def acc_id(value: object) -> int:
    if type(value) is not int:
        raise ValueError(
            f"{shown(value)} is not an account id; write whole numbers without quotes, e.g. 281756455983234027"
        )
    if not 0 < value < 2**64:
        raise ValueError(f"{shown(value)} is not an account id; they are between 1 and 2^64 - 1")
    return value


def cap(value: object) -> Decimal:
    """An amount of money, exact."""
    return _exact(value, "an amount", "an amount of money", "100000 or 2500.50")


def currency(value: object) -> str:
    return border.currency(_text(value))


def quantity(value: object) -> Decimal:
    """Shares, contracts or coins of one order, exact."""
    return _exact(value, "a quantity", "the quantity of an order", "100 or 0.5")


def _exact(value: object, what: str, whole: str, example: str) -> Decimal:
    """JSON numbers arrive as int or Decimal; a float would already have lost something."""
    if type(value) is int:
        amount = Decimal(value)
    elif isinstance(value, Decimal):
        amount = value
    else:
        raise ValueError(f"{shown(value)} is not a number; write {what} like {example}, without quotes")
    if not amount.is_finite():
        raise ValueError(f"{shown(value)} is not a finite number; remove the field for no limit")
    if amount <= 0:
        raise ValueError(
            f"{shown(value)} is not over 0; remove the field for no limit, or stop the key with `bind-key ID --freeze`"
        )
    if amount > _LARGEST_CAP or amount < _SMALLEST_CAP:
        raise ValueError(f"{shown(value)} is absurd for {whole}; remove the field for no limit")
    if len(amount.as_tuple().digits) > 28:
        raise ValueError(f"{shown(value)} has more than 28 digits; write a plain number")
    return amount


def percent(value: object) -> Decimal:
    """Above 0, at most 100, exact."""
    if type(value) is not int and not isinstance(value, Decimal):
        raise ValueError(f"{shown(value)} is not a number; write a percentage like 5 or 2.5, without quotes or `%`")
    number = Decimal(value)
    if not number.is_finite() or not _SMALLEST_CAP <= number <= _MOST_PERCENT or len(number.as_tuple().digits) > 28:
        raise ValueError(
            f"{shown(value)} is not a percentage over 0 and up to {_MOST_PERCENT}; remove the field for no limit"
        )
    return number


def repeat_window(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{shown(value)} is not a whole number of seconds; write e.g. 10")
    if not 0 < value <= _LONGEST_WINDOW:
        raise ValueError(
            f"{shown(value)} is not between 1 and {_LONGEST_WINDOW} seconds (a day); remove the field for no limit"
        )
    return value


def grace(value: object) -> int | None:
    """Seconds after a key's last connection; `true` is the usual number of them, `false` is None."""
    if isinstance(value, bool):
        return _GRACE if value else None
    if type(value) is not int:
        raise ValueError(f"{shown(value)} is neither true, false nor a whole number of seconds; write e.g. {_GRACE}")
    if value not in _GRACES:
        least, most = _GRACES[0], _GRACES[-1]
        raise ValueError(f"{shown(value)} is not between {least} and {most} seconds; SDKs take 6 s to come back")
    return value


def yes_or_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false; write one of them, without quotes")
    return value


def count(value: object) -> int:
    """A number of orders, at least one."""
    if type(value) is not int:
        raise ValueError(f"{shown(value)} is not a whole number; write e.g. 5")
    if not 0 < value <= _MOST_ORDERS:
        raise ValueError(
            f"{shown(value)} is not between 1 and {_MOST_ORDERS}; remove the field for no limit, or freeze the key"
        )
    return value


def hours(value: object) -> tuple[HoursWindow, ...]:
    """One window `09:30-16:00` or a list of them, in the order written."""
    if isinstance(value, str):
        return (window(value),)
    found: list[HoursWindow] = []
    _each(value, lambda one: found.append(window(one)))
    return tuple(found)


def window(value: object) -> HoursWindow:
    text = _text(value)
    match = _WINDOW.fullmatch(text)
    if match is None or (match.group(3) == "24" and match.group(4) != "00"):
        several = "; write several windows as a list" if "," in text or ";" in text else ""
        raise ValueError(
            f"{shown(text)} is not a window of hours; write `HH:MM-HH:MM`, e.g. `09:30-16:00` or `22:00-04:00`{several}"
        )
    start = time(int(match.group(1)), int(match.group(2)))
    end = time(int(match.group(3)) % 24, int(match.group(4)))
    if start == end and match.group(3) != "24":
        raise ValueError(
            f"{shown(text)} begins where it ends: nothing or the whole day? write `00:00-24:00` for the whole day"
        )
    return HoursWindow(start, end)


def zone_named(value: object) -> ZoneInfo:
    text = _text(value)
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, KeyError):  # a folder, a path, a name that is none
        raise ValueError(
            f"unknown time zone {shown(text)}; write an IANA name such as `Asia/Hong_Kong` or `America/New_York`"
        ) from None


def machines(value: object) -> frozenset[str]:
    """Fingerprints in lower case. The one list that may be empty: it freezes the key."""
    if value == [] and isinstance(value, list):
        return frozenset()
    return _each(value, machine)


def machine(value: object) -> str:
    text = _text(value)
    if not text.isascii() or not text.isprintable() or " " in text or not 0 < len(text) <= 128:
        raise ValueError(f"{shown(text)} is not a fingerprint; take it from `machine-id --for-key ID` on that machine")
    return text.lower()


def is_fingerprint(text: str) -> bool:
    """Whether a machine can ever have this fingerprint; older examples show shorter ones, which match nothing."""
    return _FINGERPRINT.fullmatch(text) is not None


def addresses(value: object) -> tuple[str, ...]:
    found: list[str] = []
    _each(value, lambda one: found.append(cidr(_text(one))))
    return tuple(dict.fromkeys(found))


def moment(value: object) -> datetime:
    """RFC 3339 with its zone."""
    text = _text(value)
    match = _MOMENT.fullmatch(text)
    if match is not None and match.group(1) is None:
        raise ValueError(f"{shown(text)} does not say its zone; add `Z` for UTC or an offset like `+08:00`")
    try:
        if match is not None:
            return datetime.fromisoformat(text.upper())
    except ValueError:
        pass
    raise ValueError(f"{shown(text)} is not a date and time; write RFC 3339, e.g. `2027-01-31T00:00:00Z`")


def note(value: object) -> str:
    text = _text(value)
    if len(text) > 1000:
        raise ValueError(f"has {len(text)} characters; at most 1000 are kept")
    return text


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not text; write it in quotes")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError(f"{shown(value)} holds half a character, which is no text; write UTF-8")
    return value


def _each(
    value: object,
    read: Callable[[Any], T],
    empty: str = "would it allow nothing, or everything? ambiguous: remove the field or list values",
) -> frozenset[T]:
    """Every entry of a list through `read`; all wrong entries are reported together."""
    if not isinstance(value, list):
        raise ValueError(f'{shown(value)} is not a list; write it in brackets, e.g. ["..."]')
    if not value:
        raise ValueError(f"the list is empty: {empty}")
    good: set[T] = set()
    problems: list[str] = []
    for one in value:
        try:
            good.add(read(one))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    return frozenset(good)
