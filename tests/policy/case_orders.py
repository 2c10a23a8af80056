"""Reads orders, combos and changes of orders as tests/cases/*.yaml word them. Knows no keys and no facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sidecar.intents.model import (
    AccountRef,
    ComboLeg,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    RestingOrder,
    Security,
    Side,
    Trail,
    TrdEnv,
)

_MARKETS = {
    "HK": ("HK", 1, 1),
    "US": ("US", 11, 2),
    "SH": ("CN", 21, 3),
    "SZ": ("CN", 22, 3),
    "CC": ("CC", 91, 7),
    "FUT": ("HK", 1, 5),
}
TRD_MARKETS = {"HK": 1, "US": 2, "CN": 3, "HKCC": 4, "CRYPTO": 7}
SIDES = {"buy": Side.BUY, "sell": Side.SELL, "sell short": Side.SELL_SHORT, "buy back": Side.BUY_BACK}
ENVS = {"paper": TrdEnv.SIMULATE, "real": TrdEnv.REAL}
_SESSIONS = {"none": 0, "RTH": 1, "ETH": 2, "ALL": 3, "OVERNIGHT": 4}
_ORDER = re.compile(
    r"(?P<side>buy back|buy|sell short|sell) (?P<qty>[\d.]+) (?P<symbol>\S+)"
    r" at (?P<price>market|-?[\d.]+)(?: through (?P<route>HKCC))?"
)
_COMBO = re.compile(r"combo(?: (?P<qty>[\d.]+) at (?P<price>market|-?[\d.]+))?: (?P<legs>.+)")
_LEG = re.compile(r"(?P<side>buy back|buy|sell short|sell) (?:(?P<ratio>[\d.]+) )?(?P<symbol>\S+)")
_CHANGE = re.compile(
    r"(?P<verb>change|enable|disable|delete) order (?P<number>\w+)(?: to (?P<qty>[\d.]+))?(?: at (?P<price>-?[\d.]+))?"
)
_FILLED = re.compile(r"(?P<order>.+?)(?:, (?P<filled>[\d.]+) filled(?: at (?P<at>[\d.]+))?)?")
_OPS = {"change": ModifyOp.NORMAL, "enable": ModifyOp.ENABLE, "disable": ModifyOp.DISABLE, "delete": ModifyOp.DELETE}


def order(words: Mapping[str, Any], text: str, account: AccountRef) -> PlaceOrder | PlaceCombo | None:
    """`buy 200 HK.00700 at 450`, `combo 10 at 2.50: buy 1 US.AAPL and sell 2 US.MSFT`, or None where it is no order.

    The other words of the case say the rest: type, trigger, trail, session.
    """
    plain, combo = _ORDER.fullmatch(text), _COMBO.fullmatch(text)
    if plain is not None:
        return _plain(words, account, plain)
    return None if combo is None else _combo(words, account, combo)


def _plain(words: Mapping[str, Any], account: AccountRef, match: re.Match[str]) -> PlaceOrder:
    order_type = _type(words, match["price"])
    return PlaceOrder(
        account=account,
        security=security(match["symbol"], match["route"]),
        side=SIDES[match["side"]],
        order_type=order_type,
        qty=Decimal(match["qty"]),
        price=Decimal(match["price"]) if order_type.priced else None,
        aux_price=decimal(words.get("trigger")),
        trail=_trail(words.get("trail")),
        adjust_limit=decimal(words.get("may move the price by")),
        outside_rth=words.get("outside regular hours", False),
        session=_SESSIONS[words.get("session", "none")],
    )


def _combo(words: Mapping[str, Any], account: AccountRef, match: re.Match[str]) -> PlaceCombo:
    legs = tuple(_leg(part) for part in match["legs"].split(" and "))
    order_type = _type(words, match["price"] or "1")
    price = Decimal(match["price"] or 1) if order_type.priced else None
    return PlaceCombo(account, legs, order_type, Decimal(match["qty"] or 1), price)


def _type(words: Mapping[str, Any], price: str) -> OrderType:
    return OrderType[words.get("type", "MARKET" if price == "market" else "NORMAL")]


def _leg(text: str) -> ComboLeg:
    match = _LEG.fullmatch(text)
    assert match is not None, text
    return ComboLeg(security(match["symbol"]), SIDES[match["side"]], Decimal(match["ratio"] or 1))


def change(words: Mapping[str, Any], text: str, account: AccountRef) -> ModifyOrder | None:
    """`change order A1 to 300 at 500` (or only one of the two), `enable order A1`; None where it is no change. What it
    would change is a fact: see `resting`."""
    match = _CHANGE.fullmatch(text)
    if match is None:
        return None
    return ModifyOrder(
        account=account,
        op=_OPS[match["verb"]],
        order=OrderRef(0, match["number"]),
        qty=decimal(match["qty"]),
        price=decimal(match["price"]),
        aux_price=decimal(words.get("trigger")),
        adjust_limit=decimal(words.get("may move the price by")),
        trail=_trail(words.get("trail")),
    )


def resting(known: Mapping[str, Any], account: AccountRef) -> RestingOrder | None:
    """The order that is to be changed, as OpenD lists it: `buy 200 HK.00700 at 450, 50 filled at 449`.

    Words about it: `its type`, `its trigger`, `its trail`, `its session`, `its account`.
    """
    if known.get("order") is None:
        return None
    match = _FILLED.fullmatch(known["order"])
    assert match is not None, known["order"]
    words = {name.removeprefix("its "): value for name, value in known.items() if name.startswith("its ")}
    env, _, number = words.pop("account", "").partition(" ")
    owned_by = AccountRef(int(number), ENVS[env]) if number else account
    placed = order(words, match["order"], owned_by)
    assert placed is not None, known["order"]
    return RestingOrder(placed, 1, "A1", Decimal(match["filled"] or 0), decimal(match["at"]), 5)


def security(symbol: str, route: str | None = None) -> Security:
    """`FUT.HSI2612` is a future of Hong Kong."""
    prefix, _, code = symbol.partition(".")
    market, qot_market, trd_market = _MARKETS[prefix]
    return Security(market, symbol, qot_market, code, TRD_MARKETS[route] if route else trd_market)


def _trail(words: str | None) -> Trail | None:
    """`5 %`, `12 HKD`, or with what a limit adds: `12 HKD and 8 beyond`."""
    if words is None:
        return None
    distance, _, spread = words.partition(" and ")
    value, unit = distance.split(" ")
    return Trail(Decimal(value), unit == "%", Decimal(spread.removesuffix(" beyond") or 0))


def decimal(words: Any) -> Decimal | None:
    return None if words is None else Decimal(str(words))
