"""Reads tests/cases/*.yaml, tables a trader can read, into the objects of the policy. Decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from case_orders import ENVS, TRD_MARKETS, change, decimal, order, resting

from sidecar.facts.market_states import STATES
from sidecar.intents.model import (
    AccountRef,
    CancelOrder,
    ComboLeg,
    Intent,
    ListAccounts,
    OrderRef,
    OrderType,
    PlaceCombo,
    ReadAccount,
    ReadSubscriptions,
    ReconfirmOrder,
    Side,
    SubscribeAccounts,
    Unlock,
)
from sidecar.policy.currency import Rates
from sidecar.policy.key import HoursWindow, Key, Scope
from sidecar.policy.market_state import MarketState
from sidecar.policy.trading import ACTIVE, Standing, TradingState
from sidecar.policy.usage import (
    Account,
    Approved,
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

_INSTRUMENT = re.compile(
    r"(?P<kind>\w+)(?: of (?P<underlying>\S+))?"
    r"(?:, (?P<size>[\d.]+|unknown) a unit)?(?: in (?P<currency>[A-Z]{3}))?"
)
_STATES = {"halted": TradingState.HALTED, "reduced": TradingState.REDUCING}
_HALT = re.compile(
    r"(?P<whose>\S+) (?P<state>halted|reduced)(?: by the breaker (?P<breaker>\w+))? since (?P<since>\S+): (?P<why>.+)"
)
_HOLDING = re.compile(
    r"(?:(?P<net>[\d.]+) (?P<way>held|short), )?(?P<sellable>[\d.]+) can be sold(?:, (?P<reserved>[\d.]+) reserved)?"
    r"(?:, (?P<buys>[\d.]+) being bought)?(?:, (?P<sells>[\d.]+) being sold)?(?:, (?P<price>[\d.]+) each)?"
)
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
        "rates",
        "counts as",
        "counts today",
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
    counts_today: Decimal | None
    """What of it counts against the day's value, where the table says it."""
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
        facts=_facts(words, merged["known"], account),
        usage=_usage(merged["used"]),
        now=datetime.fromisoformat(words.get("now", "2026-11-20T03:00+00:00")).astimezone(UTC),
        expect=case["expect"],
        says=(says,) if isinstance(says, str) else tuple(says),
        counts_as=case.get("counts as"),
        counts_today=decimal(case.get("counts today")),
        terms=Terms(Decimal(words.get("buffer", "5 %").removesuffix(" %")), _rates(words.get("rates"))),
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
        max_order_value=decimal(fields.pop("max_order_value", None)),
        max_daily_value=decimal(fields.pop("max_daily_value", None)),
        max_position_value=decimal(fields.pop("max_position_value", None)),
        cap_currency=fields.pop("cap_currency", None),
        max_orders_per_minute=fields.pop("max_orders_per_minute", None),
        allowed_order_types=None if types is None else frozenset(OrderType[each] for each in types),
        max_order_qty=decimal(fields.pop("max_order_qty", None)),
        price_collar_pct=decimal(fields.pop("price_collar_pct", None)),
        max_open_orders=fields.pop("max_open_orders", None),
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
    made = order(words, request, account) or change(words, request, account)
    if made is not None:
        return made
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
    numbered: dict[str, Intent] = {
        "cancel": CancelOrder(account, ref),
        "reconfirm": ReconfirmOrder(account, OrderRef(1, "")),
    }
    return numbered[verb]


def _facts(words: Mapping[str, Any], known: Mapping[str, Any], account: AccountRef) -> Facts:
    owner = known.get("order placed by")
    there = resting(known, account)
    traded = there.order if there is not None else order(words, words["request"], account)
    return Facts(
        account=_account(known.get("account", "as named"), account),
        instrument=_instrument(known.get("instrument", "stock in HKD")),
        quote=decimal(known.get("quote")),
        order_owner=None if owner is None else OrderOwner(None if owner == "nobody known" else owner),
        position=_position(known.get("holding", "unknown")),
        market_state=_market(known.get("market", "unknown")),
        trading=_standing(known.get("trading", "active")),
        resting=there,
        approved=_approved(known.get("approved")),
        legs=_legs(known, traded.legs) if isinstance(traded, PlaceCombo) else (),
        locked_since=None if "locked since" not in known else datetime.fromisoformat(known["locked since"]),
    )


def _market(name: str) -> MarketState | None:
    """`unknown`, or OpenD's word: `MORNING`, `REST`, `PRE_MARKET_BEGIN`, ..."""
    return None if name == "unknown" else next(state for state in STATES.values() if state.name == name)


def _legs(known: Mapping[str, Any], legs: tuple[ComboLeg, ...]) -> tuple[LegFacts, ...]:
    """What `legs` says of each symbol; where it leaves a word out, the same as for a plain order. Nothing where it is not said."""
    if "market of the legs" in known:
        return tuple(LegFacts(market_state=_market(name)) for name in known["market of the legs"])
    if "legs" not in known:
        return ()
    found = []
    for leg in legs:
        words = {**known, **known["legs"].get(leg.security.symbol, {})}
        found.append(
            LegFacts(
                _instrument(words.get("instrument", "stock in USD")),
                decimal(words.get("quote")),
                _position(words.get("holding", "unknown")),
                _market(words.get("market", "unknown")),
            )
        )
    return tuple(found)


def _approved(words: str | None) -> Approved | None:
    """What the ledger has of the order: `90000 HKD for 200`, or `200` where no cap asked for its value."""
    if words is None:
        return None
    value, _, qty = str(words).rpartition(" for ")
    amount, _, currency = value.partition(" ")
    return Approved(Decimal(qty), decimal(amount or None), currency or None)


def _standing(words: str) -> Standing | None:
    """`active`, `unknown`, or e.g. `all halted since 2026-11-20T02:41+00:00: fat finger`, `bot reduced since ...`."""
    if words in ("active", "unknown"):
        return ACTIVE if words == "active" else None
    match = _HALT.fullmatch(words)
    assert match is not None, words
    whose = None if match["whose"] == "all" else match["whose"]
    since = datetime.fromisoformat(match["since"])
    return Standing(_STATES[match["state"]], whose, since, match["why"], "the owner", match["breaker"] or "")


def _account(words: str, named: AccountRef) -> Account | None:
    """`as named`, `unknown`, or what it really is: `real 2001 with HK, US`."""
    if words == "unknown":
        return None
    if words == "as named":
        return Account(named.acc_id, named.env, frozenset(TRD_MARKETS.values()) - {4})
    what, _, markets = words.partition(" with ")
    ref = _account_ref(what)
    return Account(ref.acc_id, ref.env, frozenset(TRD_MARKETS[market] for market in markets.split(", ")))


def _position(words: str) -> Position | None:
    """`unknown`, or e.g. `1000 can be sold, 200 reserved` (by sales the first number does not show). Where it matters, what is
    held and on its way too: `1000 held, 800 can be sold, 0 reserved, 0 being bought, 200 being sold`, `300 short, 0 can ...`;
    and at the end what OpenD says a unit of it is worth, `480 each`.
    """
    if words == "unknown":
        return None
    match = _HOLDING.fullmatch(words)
    assert match is not None, words
    made = Position(Decimal(match["sellable"]), Decimal(match["reserved"] or 0))
    if match["net"] is None:
        return made
    net = Decimal(match["net"])
    buys, sells = Decimal(match["buys"] or 0), Decimal(match["sells"] or 0)
    signed, price = -net if match["way"] == "short" else net, decimal(match["price"])
    return replace(made, net=signed, open_buys=buys, open_sells=sells, price=price)


def _instrument(words: str) -> Instrument | None:
    """`unknown`, or e.g. `option of US.AAPL, 100 a unit in USD`."""
    if words == "unknown":
        return None
    match = _INSTRUMENT.fullmatch(words)
    assert match is not None, words
    size = match["size"] or "1"
    multiplier = None if size == "unknown" else Decimal(size)
    return Instrument(InstrumentKind(match["kind"]), multiplier, match["currency"] or "", match["underlying"])


def _rates(words: Mapping[str, Any] | None) -> Rates | None:
    """None, or e.g. `{of: 2026-11-19, good for days: 7, in: HKD, USD: 7.78, CNH: 1.07}`."""
    if words is None:
        return None
    fields = dict(words)
    of, days, base = (fields.pop(name) for name in ("of", "good for days", "in"))
    return Rates(base, of, days, {currency: Decimal(str(rate)) for currency, rate in fields.items()})


def _usage(used: Mapping[str, Any]) -> Usage:
    fields = dict(used)
    made = Usage(
        orders_last_minute=fields.pop("orders in the last minute", 0),
        oldest_order_age=float(fields.pop("the oldest of them seconds ago", 0)),
        cancels_last_minute=fields.pop("cancels in the last minute", 0),
        open_orders=fields.pop("open orders", 0),
        same_order_age=fields.pop("the same order seconds ago", None),
        daily_value={currency: Decimal(str(value)) for currency, value in fields.pop("today", {}).items()},
    )
    assert not fields, f"unknown words of usage: {fields}"
    return made


def _account_ref(words: str) -> AccountRef:
    env, _, number = words.partition(" ")
    return AccountRef(int(number), ENVS[env])


def _window(words: str) -> HoursWindow:
    start, _, end = words.partition("-")
    return HoursWindow(time.fromisoformat(start), time.fromisoformat(end))


def _set(words: Any) -> frozenset[Any] | None:
    return None if words is None else frozenset(words)
