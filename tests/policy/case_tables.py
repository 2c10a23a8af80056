"""Reads tests/cases/*.yaml, tables a trader can read, into the objects of the policy. Decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from sidecar.facts.market_states import STATES
from sidecar.intents.model import (
    AccountRef,
    CancelOrder,
    ComboLeg,
    Intent,
    ListAccounts,
    ModifyOp,
    ModifyOrder,
    OrderRef,
    OrderType,
    PlaceCombo,
    PlaceOrder,
    ReadAccount,
    ReadSubscriptions,
    ReconfirmOrder,
    Security,
    Side,
    SubscribeAccounts,
    Trail,
    TrdEnv,
    Unlock,
)
from sidecar.policy.key import HoursWindow, Key, Scope
from sidecar.policy.market_state import MarketState
from sidecar.policy.trading import ACTIVE, Standing, TradingState
from sidecar.policy.usage import (
    Account,
    Facts,
    Instrument,
    InstrumentKind,
    LegFacts,
    OrderOwner,
    Position,
    Terms,
    Usage,
)

FOLDER = Path(__file__).parent.parent / "cases"

_MARKETS = {"HK": ("HK", 1, 1), "US": ("US", 11, 2), "SH": ("CN", 21, 3), "SZ": ("CN", 22, 3), "CC": ("CC", 91, 7)}
_TRD_MARKETS = {"HK": 1, "US": 2, "CN": 3, "HKCC": 4, "CRYPTO": 7}
_ENVS = {"paper": TrdEnv.SIMULATE, "real": TrdEnv.REAL}
_SIDES = {"buy": Side.BUY, "sell": Side.SELL, "sell short": Side.SELL_SHORT, "buy back": Side.BUY_BACK}
_SESSIONS = {"none": 0, "RTH": 1, "ETH": 2, "ALL": 3, "OVERNIGHT": 4}
_ORDER = re.compile(
    r"(?P<side>buy back|buy|sell short|sell) (?P<qty>[\d.]+) (?P<symbol>\S+)"
    r" at (?P<price>market|-?[\d.]+)(?: through (?P<route>HKCC))?"
)
_INSTRUMENT = re.compile(
    r"(?P<kind>\w+)(?: of (?P<underlying>\S+))?"
    r"(?:, (?P<size>[\d.]+|unknown) a unit)?(?: in (?P<currency>[A-Z]{3}))?"
)
_HALT = re.compile(r"(?P<whose>\S+) halted since (?P<since>\S+): (?P<why>.+)")
_HOLDING = re.compile(r"(?P<sellable>[\d.]+) can be sold(?:, (?P<reserved>[\d.]+) reserved)?")
_CASE_KEYS = frozenset(
    [
        "case",
        "key",
        "account",
        "request",
        "type",
        "may move the price by",
        "session",
        "outside regular hours",
        "trigger",
        "trail",
        "buffer",
        "counts as",
        "known",
        "used",
        "now",
        "expect",
        "says",
    ]
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: `expect` is `allowed` or a code, `says` are parts of the refusal's text."""

    name: str
    key: Key
    intent: Intent
    facts: Facts
    usage: Usage
    now: datetime
    expect: str
    says: tuple[str, ...]
    counts_as: str | None
    """How the order's value came about, where the table says it."""
    terms: Terms


def rows() -> Iterator[Row]:
    for path in sorted(FOLDER.glob("*.yaml")):
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        given = table.get("given", {})
        for case in table["cases"]:
            unknown = case.keys() - _CASE_KEYS
            assert not unknown, f"{path.name}, `{case['case']}`: unknown words {unknown}"
            yield _row(f"{path.stem}: {case['case']}", given, case)


def _row(name: str, given: Mapping[str, Any], case: Mapping[str, Any]) -> Row:
    merged = {part: {**given.get(part, {}), **case.get(part, {})} for part in ("key", "known", "used")}
    account = _account_ref(case.get("account", given.get("account", "paper 1001")))
    words = {**given, **case}
    says = case.get("says", ())
    return Row(
        name=name,
        key=key(merged["key"]),
        intent=_intent(words, account),
        facts=_facts(merged["known"], account),
        usage=_usage(merged["used"]),
        now=datetime.fromisoformat(words.get("now", "2026-11-20T03:00+00:00")).astimezone(UTC),
        expect=case["expect"],
        says=(says,) if isinstance(says, str) else tuple(says),
        counts_as=case.get("counts as"),
        terms=_terms(words.get("buffer", "5 %")),
    )


def key(words: Mapping[str, Any]) -> Key:
    """A key out of the field names of keys.json."""
    fields = dict(words)
    scopes = frozenset(Scope(scope) for scope in fields.pop("scopes", ["trade:simulate"]))
    zone = fields.pop("timezone", None)
    hours = fields.pop("hours_window", None)
    sides = fields.pop("allowed_trd_sides", None)
    types = fields.pop("allowed_order_types", None)
    made = Key(
        id=fields.pop("id", "bot"),
        scopes=scopes,
        allowed_markets=_set(fields.pop("allowed_markets", None)),
        allowed_symbols=_set(fields.pop("allowed_symbols", None)),
        allowed_acc_ids=_set(fields.pop("allowed_acc_ids", None)),
        allowed_trd_sides=None if sides is None else frozenset(Side(side) for side in sides),
        max_order_value=_decimal(fields.pop("max_order_value", None)),
        max_daily_value=_decimal(fields.pop("max_daily_value", None)),
        max_orders_per_minute=fields.pop("max_orders_per_minute", None),
        allowed_order_types=None if types is None else frozenset(OrderType[each] for each in types),
        max_order_qty=_decimal(fields.pop("max_order_qty", None)),
        price_collar_pct=_decimal(fields.pop("price_collar_pct", None)),
        duplicate_window_s=fields.pop("duplicate_window_s", None),
        trading_hours=fields.pop("trading_hours", None),
        extended_hours=fields.pop("extended_hours", None),
        allow_short=fields.pop("allow_short", None),
        hours_window=None if hours is None else tuple(_window(part) for part in hours.split(", ")),
        zone=None if zone is None else ZoneInfo(zone),
    )
    assert not fields, f"unknown fields of a key: {fields}"
    return made


def _intent(words: Mapping[str, Any], account: AccountRef) -> Intent:
    request = words["request"]
    order = _ORDER.fullmatch(request)
    if order is not None:
        return _order(words, account, order)
    if request.startswith("combo: "):
        legs = tuple(_leg(part) for part in request.removeprefix("combo: ").split(" and "))
        return PlaceCombo(account, legs, OrderType.NORMAL, Decimal(1), Decimal(1))
    verb, _, number = request.partition(" order ")
    simple: dict[str, Intent] = {
        "cancel everything": CancelOrder(account, OrderRef(0, ""), for_all=True),
        "read the account": ReadAccount(account),
        "read its orders": ReadAccount(account, own_orders=True),
        "list accounts": ListAccounts(),
        "subscribe to pushes": SubscribeAccounts((account.acc_id,)),
        "list subscriptions": ReadSubscriptions(),
        "unlock trading": Unlock(True, "0" * 32),
    }
    if request in simple:
        return simple[request]
    ref = OrderRef(0, number)
    made: dict[str, Intent] = {
        "cancel": CancelOrder(account, ref),
        "change": ModifyOrder(account, ModifyOp.NORMAL, ref, Decimal(1), Decimal(1)),
        "enable": ModifyOrder(account, ModifyOp.ENABLE, ref),
        "reconfirm": ReconfirmOrder(account, OrderRef(1, "")),
    }
    return made[verb]


def _order(words: Mapping[str, Any], account: AccountRef, match: re.Match[str]) -> PlaceOrder:
    order_type = OrderType[words.get("type", "MARKET" if match["price"] == "market" else "NORMAL")]
    return PlaceOrder(
        account=account,
        security=security(match["symbol"], match["route"]),
        side=_SIDES[match["side"]],
        order_type=order_type,
        qty=Decimal(match["qty"]),
        price=Decimal(match["price"]) if order_type.priced else None,
        aux_price=_decimal(words.get("trigger")),
        trail=_trail(words.get("trail")),
        adjust_limit=_decimal(words.get("may move the price by")),
        outside_rth=words.get("outside regular hours", False),
        session=_SESSIONS[words.get("session", "none")],
    )


def security(symbol: str, route: str | None = None) -> Security:
    prefix, _, code = symbol.partition(".")
    market, qot_market, trd_market = _MARKETS[prefix]
    return Security(market, symbol, qot_market, code, _TRD_MARKETS[route] if route else trd_market)


def _leg(words: str) -> ComboLeg:
    side, _, symbol = words.partition(" ")
    return ComboLeg(security(symbol), _SIDES[side], Decimal(1))


def _facts(known: Mapping[str, Any], account: AccountRef) -> Facts:
    words = known.get("account", "as named")
    owner = known.get("order placed by")
    return Facts(
        account=_account(words, account),
        instrument=_instrument(known.get("instrument", "stock in HKD")),
        quote=_decimal(known.get("quote")),
        order_owner=None if owner is None else OrderOwner(None if owner == "nobody known" else owner),
        position=_position(known.get("holding", "unknown")),
        market_state=_market(known.get("market", "unknown")),
        legs=tuple(LegFacts(market_state=_market(name)) for name in known.get("market of the legs", ())),
        trading=_standing(known.get("trading", "active")),
    )


def _market(name: str) -> MarketState | None:
    """`unknown`, or OpenD's word: `MORNING`, `REST`, `PRE_MARKET_BEGIN`, ..."""
    return None if name == "unknown" else next(state for state in STATES.values() if state.name == name)


def _standing(words: str) -> Standing | None:
    """`active`, `unknown`, or e.g. `all halted since 2026-11-20T02:41+00:00: fat finger`, `bot halted since ...`."""
    if words in ("active", "unknown"):
        return ACTIVE if words == "active" else None
    match = _HALT.fullmatch(words)
    assert match is not None, words
    whose = None if match["whose"] == "all" else match["whose"]
    return Standing(TradingState.HALTED, whose, datetime.fromisoformat(match["since"]), match["why"], "the owner")


def _account(words: str, named: AccountRef) -> Account | None:
    """`as named`, `unknown`, or what it really is: `real 2001 with HK, US`."""
    if words == "unknown":
        return None
    if words == "as named":
        return Account(named.acc_id, named.env, frozenset(_TRD_MARKETS.values()) - {4})
    what, _, markets = words.partition(" with ")
    ref = _account_ref(what)
    return Account(ref.acc_id, ref.env, frozenset(_TRD_MARKETS[market] for market in markets.split(", ")))


def _position(words: str) -> Position | None:
    """`unknown`, or e.g. `1000 can be sold, 200 reserved` (by sales the first number does not show)."""
    if words == "unknown":
        return None
    match = _HOLDING.fullmatch(words)
    assert match is not None, words
    return Position(Decimal(match["sellable"]), Decimal(match["reserved"] or 0))


def _instrument(words: str) -> Instrument | None:
    """`unknown`, or e.g. `option of US.AAPL, 100 a unit in USD`."""
    if words == "unknown":
        return None
    match = _INSTRUMENT.fullmatch(words)
    assert match is not None, words
    size = match["size"] or "1"
    multiplier = None if size == "unknown" else Decimal(size)
    return Instrument(InstrumentKind(match["kind"]), multiplier, match["currency"] or "", match["underlying"])


def _trail(words: str | None) -> Trail | None:
    """`5 %`, `12 HKD`, or with what a limit adds: `12 HKD and 8 beyond`."""
    if words is None:
        return None
    distance, _, spread = words.partition(" and ")
    value, unit = distance.split(" ")
    return Trail(Decimal(value), unit == "%", Decimal(spread.removesuffix(" beyond") or 0))


def _terms(buffer: str) -> Terms:
    """`5 %`."""
    return Terms(price_buffer_pct=Decimal(buffer.removesuffix(" %")))


def _usage(used: Mapping[str, Any]) -> Usage:
    fields = dict(used)
    made = Usage(
        orders_last_minute=fields.pop("orders in the last minute", 0),
        oldest_order_age=float(fields.pop("the oldest of them seconds ago", 0)),
        cancels_last_minute=fields.pop("cancels in the last minute", 0),
        same_order_age=fields.pop("the same order seconds ago", None),
        daily_value={currency: Decimal(str(value)) for currency, value in fields.pop("today", {}).items()},
    )
    assert not fields, f"unknown words of usage: {fields}"
    return made


def _account_ref(words: str) -> AccountRef:
    env, _, number = words.partition(" ")
    return AccountRef(int(number), _ENVS[env])


def _window(words: str) -> HoursWindow:
    start, _, end = words.partition("-")
    return HoursWindow(time.fromisoformat(start), time.fromisoformat(end))


def _set(words: Any) -> frozenset[Any] | None:
    return None if words is None else frozenset(words)


def _decimal(words: Any) -> Decimal | None:
    return None if words is None else Decimal(str(words))
