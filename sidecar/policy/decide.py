"""The decision: which rules are asked, in which order, and what a broken rule means. No clock, no I/O, no logging."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from sidecar.intents.model import Intent, PlaceCombo, PlaceOrder
from sidecar.policy import (
    caps,
    holdings,
    order_changes,
    order_limits,
    reduce_only,
    rules,
    sessions,
    short_sales,
    whitelists,
)
from sidecar.policy.case import Case, Check, case_of
from sidecar.policy.currency import exchange
from sidecar.policy.decision import Code, Decision, Finding, Refusal, Worth
from sidecar.policy.key import Key
from sidecar.policy.legs import legs_of
from sidecar.policy.trading import Standing
from sidecar.policy.usage import Facts, Need, Terms, Usage
from sidecar.policy.worth import asks_holding, needs_quote, worth


class _Rule(NamedTuple):
    check: Check
    code: Code
    """The refusal when the rule itself breaks: promise 1, a broken rule never lets through."""


_SCREEN = (
    _Rule(rules.scope, Code.SCOPE),
    _Rule(rules.trading_state, Code.TRADING_HALTED),
    _Rule(reduce_only.reduce_only, Code.REDUCE_ONLY),
    _Rule(rules.account, Code.ACCOUNT),
    _Rule(rules.own_order, Code.NOT_OWN_ORDER),
    _Rule(order_changes.sound, Code.MALFORMED_REQUEST),
    _Rule(whitelists.market, Code.MARKET),
    _Rule(whitelists.symbol_so_far, Code.SYMBOL),
    _Rule(whitelists.side, Code.SIDE),
    _Rule(order_limits.order_type, Code.ORDER_TYPE),
    _Rule(short_sales.short_sale, Code.SHORT_SALE),
    _Rule(rules.hours, Code.HOURS),
    _Rule(order_limits.extended_hours, Code.EXTENDED_HOURS),
)

_ALL = (
    _Rule(rules.scope, Code.SCOPE),
    _Rule(rules.trading_state, Code.TRADING_HALTED),
    _Rule(reduce_only.reduce_only, Code.REDUCE_ONLY),
    _Rule(rules.account, Code.ACCOUNT),
    _Rule(rules.own_order, Code.NOT_OWN_ORDER),
    _Rule(order_changes.sound, Code.MALFORMED_REQUEST),
    _Rule(whitelists.market, Code.MARKET),
    _Rule(whitelists.symbol, Code.SYMBOL),
    _Rule(whitelists.side, Code.SIDE),
    _Rule(order_limits.order_type, Code.ORDER_TYPE),
    _Rule(short_sales.short_sale, Code.SHORT_SALE),
    _Rule(rules.hours, Code.HOURS),
    _Rule(sessions.market_closed, Code.MARKET_CLOSED),
    _Rule(order_limits.extended_hours, Code.EXTENDED_HOURS),
    _Rule(caps.contract, Code.INSTRUMENT_UNKNOWN),
    _Rule(caps.price, Code.PRICE_UNAVAILABLE),
    _Rule(caps.instrument, Code.INSTRUMENT_UNKNOWN),
    _Rule(caps.known_order, Code.ORDER_UNKNOWN),
    _Rule(caps.rates_of_exchange, Code.FX_UNAVAILABLE),
    _Rule(short_sales.position, Code.POSITION_UNKNOWN),
    _Rule(reduce_only.position, Code.POSITION_UNKNOWN),
    _Rule(holdings.position, Code.POSITION_UNKNOWN),
    _Rule(order_limits.price_collar, Code.PRICE_COLLAR),
    _Rule(order_limits.order_qty, Code.ORDER_QTY),
    _Rule(caps.order_value, Code.ORDER_VALUE),
    _Rule(holdings.position_value, Code.POSITION_VALUE),
    _Rule(order_limits.duplicate, Code.DUPLICATE),
    _Rule(caps.rate, Code.RATE),
    _Rule(caps.daily_value, Code.DAILY_VALUE),
    _Rule(caps.open_orders, Code.OPEN_ORDERS),
    _Rule(caps.cancel_flood, Code.CANCEL_FLOOD),
)

_NOTHING_USED = Usage()
_USUAL = Terms()


def screen(key: Key, intent: Intent, facts: Facts, now: datetime) -> Decision:
    """The checks that need nothing from OpenD but what is remembered (`facts.account`, `facts.order_owner`).

    Passing it decides nothing: it saves asking for prices on behalf of an order that will be refused. `now` is aware.
    Never raises.
    """
    try:
        case = case_of(key, intent, facts, _NOTHING_USED, now, _USUAL)
    except Exception as error:
        return _unreadable(error)
    return Decision(tuple(_findings(_SCREEN, case, whole=False)))


def needs(key: Key, order: PlaceOrder | PlaceCombo, trading: Standing | None = None) -> frozenset[Need]:
    """The facts `decide` will want of each security of an order that passed the screen, of a changed one as it would
    become. Empty where it needs none. `trading` is the state in force for the key.
    """
    wanted = set()
    securities = [order.security] if isinstance(order, PlaceOrder) else [leg.security for leg in order.legs]
    if key.allowed_symbols is not None and any(whitelists.asks_for_kind(key, security) for security in securities):
        wanted.add(Need.INSTRUMENT)
    if key.value_capped:
        wanted.add(Need.INSTRUMENT)
        if needs_quote(order):
            wanted.add(Need.QUOTE)
    if order_limits.collar_needs_quote(key, order):
        wanted.add(Need.QUOTE)
    if key.trading_hours is True:
        wanted.add(Need.MARKET_STATE)
    if short_sales.asks_for_position(key, order) or holdings.asks_for_position(key) or reduce_only.applies(trading):
        wanted.add(Need.POSITION)
    return frozenset(wanted)


def needs_holding(key: Key, order: PlaceOrder | PlaceCombo, facts: Facts) -> tuple[bool, ...]:
    """Of which of its securities the position is wanted as well, once the facts it needs are there: a sale that has no
    quote counts at what the holding is worth.
    """
    legs = legs_of(order, facts, order.qty)
    return tuple(asks_holding(order, legs)) if key.value_capped else (False,) * len(legs)


def decide(key: Key, intent: Intent, facts: Facts, usage: Usage, now: datetime, terms: Terms = _USUAL) -> Decision:
    """Every check in the order of the codes, up to the first that refuses. `now` is aware.

    Pure and synchronous, so that usage, decision and reservation are one step. Never raises: a rule that breaks
    refuses. The key's own standing (validity, machine, address) is checked before.
    """
    return _decision(key, intent, facts, usage, now, terms, whole=False)


def explain(
    key: Key,
    intent: Intent,
    facts: Facts,
    usage: Usage,
    now: datetime,
    terms: Terms = _USUAL,
    worth: Worth | None = None,
) -> Decision:
    """As `decide`, with the same outcome, but every check is made and told. `worth`: what the order counted as when it was
    decided before, in place of what the facts say."""
    return _decision(key, intent, facts, usage, now, terms, whole=True, worth=worth)


def _decision(
    key: Key,
    intent: Intent,
    facts: Facts,
    usage: Usage,
    now: datetime,
    terms: Terms,
    *,
    whole: bool,
    worth: Worth | None = None,
) -> Decision:
    try:
        case = case_of(key, intent, facts, usage, now, terms)
    except Exception as error:
        return _unreadable(error)
    case = case._replace(worth=worth or _worth(case))
    with suppress(Exception):  # refused by the rule that needs it
        case = case._replace(counts=caps.counts(case))
    return Decision(tuple(_findings(_ALL, case, whole=whole)), case.worth, case.counts)


def _unreadable(error: Exception) -> Decision:
    """INVARIANT: what cannot even be laid out for the rules is refused."""
    text = "what the request would trade cannot be told, so it is refused"
    return Decision((Finding("order", f"{text}: {type(error).__name__}", Refusal(Code.MALFORMED_REQUEST, text)),))


def _worth(case: Case) -> Worth | None:
    order = case.order or case.combo
    if order is None or not case.key.value_capped:
        return None
    try:
        into = exchange(case.key.cap_currency, case.terms.rates, case.now)
        return worth(order, case.facts, case.terms, into)
    except Exception:
        return None  # refused by the rules that need it


def _findings(table: Iterable[_Rule], case: Case, *, whole: bool) -> list[Finding]:
    findings: list[Finding] = []
    for rule in table:
        try:
            finding = rule.check(case)
        except Exception as error:
            finding = _broken(rule, error)
        if finding is None:
            continue
        findings.append(finding)
        if finding.refusal is not None and not whole:
            break
    return findings


def _broken(rule: _Rule, error: Exception) -> Finding:
    """INVARIANT: a rule that breaks refuses."""
    message = f"the check of {rule.code.value} could not be made, so the request is refused"
    return Finding(rule.code.value, f"{message}: {type(error).__name__}", Refusal(rule.code, message))
