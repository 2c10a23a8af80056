"""The rules of who may do what and when, one function each (checks 3, 4, 5 and 7). They know no amounts.

A rule returns None where it does not apply and refuses where its input is missing. It may raise on nonsense: `decide`
turns that into a refusal.
"""

from __future__ import annotations

from datetime import datetime, time

from sidecar.intents.model import (
    AccountRef,
    CancelOrder,
    ListAccounts,
    ModifyOrder,
    OrderRef,
    PlaceCombo,
    PlaceOrder,
    ReadAccount,
    ReadSubscriptions,
    ReconfirmOrder,
    SubscribeAccounts,
    TrdEnv,
    Unlock,
)
from sidecar.policy.case import NEW_ORDER, Case, passed, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.key import HoursWindow, Key, Scope
from sidecar.policy.trading import TradingState, locked_told

_ENV_NAME = {TrdEnv.SIMULATE: "paper", TrdEnv.REAL: "real"}
_MINUTES = "minutes"
_LISTING = (Scope.ACC_READ, Scope.TRADE_SIMULATE, Scope.TRADE_REAL, Scope.TRADE_CANCEL, Scope.TRADE_UNLOCK)
_TRADE_SCOPE = {TrdEnv.SIMULATE: Scope.TRADE_SIMULATE, TrdEnv.REAL: Scope.TRADE_REAL}

# -- 3: scope ---------------------------------------------------------------------------------------------------------


def scope(case: Case) -> Finding | None:
    """The environment is the request's here; that the account really is of it, `account` checks next."""
    needed, what = _needed_scopes(case.intent)
    held = case.key.scopes
    if any(one in held for one in needed):
        return passed("scope", f"{what}: {' or '.join(needed)}")
    having = ", ".join(sorted(held)) or "none"
    if not needed:
        return refused("scope", Code.SCOPE, f"{what} is not something a key can be allowed")
    return refused("scope", Code.SCOPE, f"{what} needs the scope {' or '.join(needed)}, this key has {having}")


def _needed_scopes(intent: object) -> tuple[tuple[Scope, ...], str]:
    if isinstance(intent, PlaceOrder | PlaceCombo | ModifyOrder | ReconfirmOrder):
        verb = "placing an order" if isinstance(intent, PlaceOrder | PlaceCombo) else "changing an order"
        return (_TRADE_SCOPE[intent.account.env],), f"{verb} in a {_ENV_NAME[intent.account.env]} account"
    if isinstance(intent, CancelOrder):
        env = intent.account.env
        return (_TRADE_SCOPE[env], Scope.TRADE_CANCEL), f"cancelling in a {_ENV_NAME[env]} account"
    if isinstance(intent, ReadAccount):
        env = intent.account.env
        if intent.own_orders:
            needed = (Scope.ACC_READ, _TRADE_SCOPE[env], Scope.TRADE_CANCEL)
            return needed, f"reading orders in a {_ENV_NAME[env]} account"
        return (Scope.ACC_READ,), "reading an account"
    if isinstance(intent, ListAccounts | SubscribeAccounts):
        return _LISTING, "listing accounts"
    if isinstance(intent, ReadSubscriptions):
        return (Scope.QOT_READ,), "reading quote subscriptions"
    if isinstance(intent, Unlock):
        return (Scope.TRADE_REAL, Scope.TRADE_UNLOCK), "unlocking trading"
    return (), "this request"


# -- 4: trading state -------------------------------------------------------------------------------------------------


def trading_state(case: Case) -> Finding | None:
    """The owner's halt, of everybody or of this key, or that of a breaker. SECURITY: of another key's halt nothing is ever told."""
    if not isinstance(case.intent, NEW_ORDER):
        return None
    standing = case.facts.trading
    if standing is None or standing.key_id not in (None, case.key.id):
        text = "whether trading is halted is not known, so nothing new is traded; cancels still work"
        return refused("trading state", Code.TRADING_HALTED, text)
    if standing.state not in (TradingState.ACTIVE, TradingState.REDUCING):  # the latter is for `reduce_only` to judge
        code = Code.BREAKER if standing.breaker else Code.TRADING_HALTED
        return refused("trading state", code, standing.told(case.now))
    locked = case.facts.locked_since
    if locked is not None and case.intent.account.env is TrdEnv.REAL:
        return refused("trading state", Code.TRADING_HALTED, locked_told(locked, case.now))
    return passed("trading state", standing.state.name)


# -- 5: account, and whose order --------------------------------------------------------------------------------------


def account(case: Case) -> Finding | None:
    """SECURITY: an unknown account and one of another environment are refused alike: nobody can probe for accounts."""
    named: AccountRef | None = getattr(case.intent, "account", None)
    if named is None:
        return None
    allowed = case.key.allowed_acc_ids
    if allowed is not None and named.acc_id not in allowed:
        return refused("account", Code.ACCOUNT, f"account `{named.acc_id}` is not one of this key's allowed_acc_ids")
    known = case.facts.account
    env = _ENV_NAME[named.env]
    if known is None or known.acc_id != named.acc_id or known.env is not named.env:
        return refused("account", Code.ACCOUNT, f"there is no {env} account `{named.acc_id}`")
    return passed("account", f"{env} account {named.acc_id}")


def own_order(case: Case) -> Finding | None:
    """An order of another key takes an explicit `trade:cancel`; an order of no known key takes only the account.

    A cancel of everything reaches the orders of others, so it takes `trade:cancel` too. The ledger's map is asked, not
    OpenD: a cancel must not depend on the house connection.
    """
    intent = case.intent
    if isinstance(intent, CancelOrder):
        if Scope.TRADE_CANCEL in case.key.scopes:
            return passed("own order", "trade:cancel covers the orders of every key")
        if intent.for_all:
            return refused(
                "own order",
                Code.NOT_OWN_ORDER,
                "cancelling every order of an account takes the scope trade:cancel, since not all need be this key's;"
                " cancel one by one",
            )
    elif not isinstance(intent, ModifyOrder | ReconfirmOrder):
        return None
    owner = case.facts.order_owner
    if owner is not None and owner.key_id is not None and owner.key_id != case.key.id:
        remedy = "; cancelling it takes the scope trade:cancel" if isinstance(intent, CancelOrder) else ""
        return refused(
            "own order",
            Code.NOT_OWN_ORDER,
            f"order `{_order_name(intent.order)}` was not placed under this key{remedy}",
        )
    return passed("own order", "an order of no other key")


def _order_name(order: OrderRef) -> str:
    return order.order_id_ex or str(order.order_id)


# -- 7: hours ---------------------------------------------------------------------------------------------------------


def hours(case: Case) -> Finding | None:
    windows = case.key.hours_window
    if windows is None or not isinstance(case.intent, NEW_ORDER):
        return None
    zone = case.key.zone
    if zone is None or case.now.utcoffset() is None:
        return refused("hours", Code.HOURS, "this key has hours_window, but the time of day cannot be told")
    now = case.now.astimezone(zone).time()
    at = f"{now.isoformat(_MINUTES)} in {zone}"
    shown = ", ".join(f"{window.start.isoformat(_MINUTES)}-{window.end.isoformat(_MINUTES)}" for window in windows)
    if within_hours(case.key, case.now):
        return passed("hours", f"{at} is within {shown}")
    return refused("hours", Code.HOURS, f"it is {at}, this key's hours are {shown}")


def within_hours(key: Key, now: datetime) -> bool:
    """Whether a key's hours_window is open; `now` is aware. A key without one always is."""
    if key.hours_window is None:
        return True
    if key.zone is None:
        return False
    at = now.astimezone(key.zone).time()
    return any(_inside(window, at) for window in key.hours_window)


def _inside(window: HoursWindow, now: time) -> bool:
    if window.start < window.end:
        return window.start <= now < window.end
    return now >= window.start or now < window.end  # over midnight
