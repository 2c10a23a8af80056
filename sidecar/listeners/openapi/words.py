"""Plain words for OpenD's names: `Trd_GetMaxTrdQtys` → "Get max trade quantities". Only for people to read."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|[0-9]+")

_SPELT_OUT: Mapping[str, str] = {
    "acc": "account",
    "ark": "ARK",
    "calc": "calculation",
    "cmd": "command",
    "his": "historical",
    "info": "information",
    "ipo": "IPO",
    "kl": "candlesticks",
    "kline": "candlesticks",
    "qot": "quotes",
    "qtys": "quantities",
    "rehab": "price adjustments",
    "rfq": "quote",
    "soe": "SOE",
    "sub": "subscribe",
    "trd": "trade",
    "us": "US",
}


WHOLE: Mapping[str, str] = {
    "Qot_GetRT": "get intraday line",
    "Qot_GetReference": "get related securities",
    "Qot_GetSubInfo": "get subscriptions",
    "Qot_GetSuspend": "get suspensions",
    "Qot_RegQotPush": "register for pushes of quotes",
    "Qot_RequestTradeDate": "get trading days",
    "Qot_SubEventContract": "subscribe to event contracts",
    "SkillWrap_DerivativeUnusual": "find unusual derivatives",
    "SkillWrap_FinancialUnusual": "find unusual financials",
    "SkillWrap_TechnicalUnusual": "find unusual technical signals",
    "Trd_FlowSummary": "get cash flow",
    "Trd_SubAccPush": "subscribe to pushes of accounts",
    "/api/unsub-acc-push": "unsubscribe from pushes of accounts",
    "/api/cancel-all-order": "cancel all orders",
}
"""Names of which the parts do not make a sentence."""


def words(name: str) -> str:
    """`Qot_RequestHistoryKL` → "request history candlesticks"; the family in front is left out."""
    if name in WHOLE:
        return WHOLE[name]
    family, mark, rest = name.partition("_")
    bare = rest if mark else family
    parts = [part.lower() for part in _PARTS.findall(bare.replace("DTE", "Dte"))]
    return " ".join(_SPELT_OUT.get(part, part) for part in parts)


def sentence(name: str) -> str:
    """The same as a heading."""
    text = words(name)
    return text[:1].upper() + text[1:]


def of_route(path: str) -> str:
    """`/api/cancel-order` → "Cancel order"."""
    parts = path.removeprefix("/api/").split("-")
    text = WHOLE.get(path) or " ".join(_SPELT_OUT.get(part, part) for part in parts)
    return text[:1].upper() + text[1:]
