"""Plain words for OpenD's names: `Trd_GetMaxTrdQtys` → "Get max trade quantities". Only for people to read."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|[0-9]+")

_SPELT_OUT: Mapping[str, str] = {
    "acc": "account",
    "ark": "ARK",
    "basic": "basic",
    "calc": "calculation",
    "cmd": "command",
    "his": "historical",
    "info": "information",
    "ipo": "IPO",
    "kl": "candlesticks",
    "kline": "candlesticks",
    "qot": "quotes",
    "qtys": "quantities",
    "reg": "register",
    "rehab": "price adjustments",
    "rfq": "quote",
    "rt": "intraday line",
    "soe": "SOE",
    "sub": "subscribe",
    "trd": "trade",
    "unsub": "unsubscribe",
    "us": "US",
}


def words(name: str) -> str:
    """`Qot_RequestHistoryKL` → "request history candlesticks"; the family in front is left out."""
    family, mark, rest = name.partition("_")
    bare = rest if mark else family
    parts = [part.lower() for part in _PARTS.findall(bare.replace("DTE", "Dte"))]
    return " ".join(_SPELT_OUT.get(part, part) for part in parts)


def sentence(name: str) -> str:
    """The same as a heading."""
    text = words(name)
    return text[:1].upper() + text[1:]


def of_route(path: str) -> str:
    """`/api/unsub-acc-push` → "Unsubscribe account push"."""
    parts = path.removeprefix("/api/").split("-")
    text = " ".join(_SPELT_OUT.get(part, part) for part in parts)
    return text[:1].upper() + text[1:]
