"""The status in the words of the page: lines, bars, and what may be chosen. Escapes nothing: the template does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sidecar.policy.exact import plain

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bar:
    """One limit of a key, or what is used of none. `percent` is None where there is no limit; 100 is all of it, or more."""

    name: str
    text: str
    percent: int | None

    @property
    def level(self) -> str:
        if self.percent is None:
            return "none"
        return "full" if self.percent >= 100 else "high" if self.percent >= 80 else "low"


def bars(key: Tree) -> Iterator[Bar]:
    """Of one key of the status."""
    for name, one in (("orders in this minute", key["orders_per_minute"]), ("open orders", key["open_orders"])):
        yield _bar(name, str(one["used"]), None if one["limit"] is None else str(one["limit"]), "")
    day = key["daily_value"]
    for currency, used in day["used"].items() or ((key["cap_currency"] or "", "0"),):
        yield _bar("value of the day", used, day["limit"], currency)


def _bar(name: str, used: str, limit: str | None, currency: str) -> Bar:
    if limit is None:
        return Bar(name, f"{_grouped(used)} {currency}".rstrip(), None)
    share = int(Decimal(used) * 100 / Decimal(limit)) if Decimal(limit) else 100
    return Bar(name, f"{_grouped(used)} of {_grouped(limit)} {currency}".rstrip(), max(0, min(100, share)))


def _grouped(number: str) -> str:
    return f"{Decimal(plain(Decimal(number))):,f}"


def when(moment: str | None) -> str:
    """`2026-01-05 10:41:00 UTC` of an RFC 3339 moment in UTC."""
    if moment is None:
        return ""
    return f"{moment[:10]} {moment[11:19]} UTC"


def order_of(refusal: Tree) -> str:
    """`BUY 100 HK.00700 at 300`; "" where it was about no order."""
    if refusal["symbol"] is None:
        return ""
    price = "" if refusal["price"] is None else f"at {refusal['price']}"
    return " ".join(part for part in (refusal["side"], refusal["qty"], refusal["symbol"], price) if part)


def run_of(run: Tree) -> str:
    """What a run of cancels has come to, in a line."""
    left = len(run["not_cancelled"])
    if not run["finished"]:
        waits = f"; waiting: {run['waiting_for']}" if run["waiting_for"] else ""
        return f"{run['done']} of {run['total']}, about {run['seconds_left']} s left{waits}"
    end = f"stopped: {run['stopped']}" if run["stopped"] else "ended"
    return f"{end}; {run['total'] - left} of {run['total']} cancelled"


def whose(key_id: str | None) -> str:
    return "all trading" if key_id is None else f"key {key_id}"
