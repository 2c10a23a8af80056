"""The rules of how much and how often, one function each (checks 8 to 10), and the facts they cannot do without.

As everywhere in the policy: what is missing refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import ceil

from sidecar.intents.model import CancelOrder, ModifyOp, ModifyOrder, PlaceCombo, PlaceOrder, ReconfirmOrder
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.currency import Exchange, exchange
from sidecar.policy.decision import Code, Finding
from sidecar.policy.exact import EXACT, plain
from sidecar.policy.usage import Usage
from sidecar.policy.worth import unit_price, unvalued

CANCELS_PER_MINUTE = 120
"""The flood cap of cancels: three times what OpenD takes from one account, so that it never stops a person or a bot."""

_WINDOW = 60
"""Seconds."""
_ZERO = Decimal(0)
_UNTOLD = "what the order is worth cannot be told, so it cannot be held against the limit"


# -- 8: the facts are there -------------------------------------------------------------------------------------------


def contract(case: Case) -> Finding | None:
    """INVARIANT: a code that stands for a contract is never sent on: OpenD would choose another than was judged."""
    for leg in case.legs:
        if leg.security.continuous:
            text = f"which contract `{leg.security.symbol}` stands for now could not be found out; name the contract"
            return refused("contract", Code.INSTRUMENT_UNKNOWN, text)
    return None


def price(case: Case) -> Finding | None:
    """Whether there is a price to count with: the order's own, and where that says too little the market's."""
    order = case.order or case.combo
    if not case.key.value_capped or order is None:
        return None
    told = []
    for leg in case.legs:
        counted = unit_price(order, leg, case.terms)
        if isinstance(counted, str):
            return refused("price", Code.PRICE_UNAVAILABLE, counted)
        told.append((leg.security.symbol, f"{plain(counted.amount)} ({counted.basis})"))
    if isinstance(order, PlaceOrder):
        return passed("price", f"a unit counts at {told[0][1]}")
    return passed("price", f"its legs count at {', '.join(f'{symbol} {shown}' for symbol, shown in told)}")


def instrument(case: Case) -> Finding | None:
    """Whether it is known what one unit is, and of a kind whose value is quantity × price × multiplier."""
    if not case.key.value_capped or (case.order is None and case.combo is None):
        return None
    told, currencies = [], set()
    for leg in case.legs:
        known, symbol = leg.known.instrument, leg.security.symbol
        why = unvalued(known)
        if known is None or why is not None:
            return refused("instrument", Code.INSTRUMENT_UNKNOWN, (why or "").format(symbol=symbol))
        currencies.add(known.currency)
        told.append(f"{known.kind.value}, {plain(known.multiplier or _ZERO)} a unit, in {known.currency}")
    if case.order is not None and case.order.amount is not None:
        text = (
            f"`{case.order.security.symbol}` is traded by amount, which cannot be held against this key's value limits"
        )
        return refused("instrument", Code.INSTRUMENT_UNKNOWN, text)
    if len(currencies) > 1 and case.key.cap_currency is None:
        shown = ", ".join(sorted(currencies))
        text = f"its legs are in several currencies, {shown}, which do not add up without cap_currency"
        return refused("instrument", Code.INSTRUMENT_UNKNOWN, text)
    return passed("instrument", "; ".join(told))


def rates_of_exchange(case: Case) -> Finding | None:
    """Whether everything can be converted into the key's currency: the order, and what was used today in others."""
    into = _exchange(case)
    if into is None or not case.key.value_capped or (case.order is None and case.combo is None):
        return None
    wanted = {leg.known.instrument.currency for leg in case.legs if leg.known.instrument is not None}
    if case.key.max_daily_value is not None:
        wanted |= {currency for currency, value in case.usage.daily_value.items() if value}
    told = []
    for currency in sorted(wanted - {into.into}):
        lacking = into.lacks(currency)
        if lacking is not None:
            return refused("rates of exchange", Code.FX_UNAVAILABLE, lacking)
        told.append(f"{currency}{into.factor(currency)}")
    if not told or into.rates is None:
        return None
    return passed("rates of exchange", f"into {into.into}: {', '.join(told)}, of {into.rates.as_of}")


def known_order(case: Case) -> Finding | None:
    """A change names an order, not its symbol or side: until that is looked up nothing can be said about it."""
    if isinstance(case.intent, ReconfirmOrder):
        return refused("known order", Code.ORDER_UNKNOWN, "confirming an order again is not supported; place a new one")
    if not isinstance(case.intent, ModifyOrder):
        return None
    resting, named = case.facts.resting, case.intent.order
    if resting is None or resting.order.account != case.intent.account:
        which = f"`{named.order_id_ex or named.order_id}` in account {case.intent.account.acc_id}"
        text = f"OpenD does not list order {which}, or did not in time, so a change of it cannot be judged"
        return refused("known order", Code.ORDER_UNKNOWN, text)
    return passed("known order", f"order {resting.order_id_ex or resting.order_id}, {plain(resting.filled)} filled")


# -- 9: amounts -------------------------------------------------------------------------------------------------------


def order_value(case: Case) -> Finding | None:
    limit = case.key.max_order_value
    if limit is None or (case.order is None and case.combo is None):
        return None
    worth = case.worth
    if worth is None:
        return refused("order value", Code.ORDER_VALUE, _UNTOLD)
    currency = worth.currency
    if not worth.value <= limit:
        return refused(
            "order value",
            Code.ORDER_VALUE,
            f"order value {plain(worth.value)} {currency} is over the limit of {plain(limit)} {currency}",
        )
    return passed("order value", f"{worth.explanation}, the limit is {plain(limit)} {currency}")


# -- 10: rates and totals ---------------------------------------------------------------------------------------------


def rate(case: Case) -> Finding | None:
    """A sliding window of 60 s over every attempt that was approved."""
    limit = case.key.max_orders_per_minute
    if limit is None or not isinstance(case.intent, PlaceOrder | PlaceCombo | ModifyOrder):
        return None
    count = case.usage.orders_last_minute + 1
    if count <= limit:
        return passed("rate", f"{count} in {_WINDOW} s, the limit is {limit}")
    wait = min(max(1, ceil(_WINDOW - case.usage.oldest_order_age)), _WINDOW)
    return refused(
        "rate",
        Code.RATE,
        f"{count} orders in {_WINDOW} s, the limit is {limit}; try again in {wait} s",
        retry_after=wait,
    )


def daily_value(case: Case) -> Finding | None:
    """Kept per currency: without a rate of exchange, amounts of two currencies do not add up. With cap_currency they are
    one sum, all that was used today converted by the rates in force now. A change counts by its increase over the highest
    total the order was ever approved for.
    """
    limit = case.key.max_daily_value
    if limit is None or (case.order is None and case.combo is None):
        return None
    worth = case.worth
    day = day_used(case.usage, _exchange(case))
    if worth is None or case.counts is None or day is None:
        return refused("daily value", Code.DAILY_VALUE, _UNTOLD)
    currency = worth.currency
    used = day.get(currency, _ZERO)
    total = EXACT.add(used, case.counts)
    what = "this change" if isinstance(case.intent, ModifyOrder) else "this order"
    sums = f"{plain(used)} used + {plain(case.counts)} {what} = {plain(total)} {currency}"
    if not total <= limit:
        return refused(
            "daily value", Code.DAILY_VALUE, f"daily value {sums} is over the limit of {plain(limit)} {currency}"
        )
    return passed("daily value", f"{sums}, the limit is {plain(limit)} {currency}")


def day_used(usage: Usage, into: Exchange | None) -> Mapping[str, Decimal] | None:
    """What counts today, per currency: each as it was used, or all of it as one sum in the currency of `into`. None where
    that cannot be told.
    """
    if into is None:
        return usage.daily_value
    total = _ZERO
    for each, value in usage.daily_value.items():
        converted = into.convert(value, each) if value else _ZERO
        if converted is None:
            return None
        total = EXACT.add(total, converted)
    return {into.into: total}


def _exchange(case: Case) -> Exchange | None:
    return exchange(case.key.cap_currency, case.terms.rates, case.now)


def counts(case: Case) -> Decimal | None:
    """What counts against the day's value; None where the worth is not known. Enabling counts as a new order."""
    worth, known = case.worth, case.facts.approved
    if worth is None:
        return None
    if not isinstance(case.intent, ModifyOrder) or case.intent.op is ModifyOp.ENABLE:
        return worth.value
    if known is None or known.value is None or known.currency != worth.currency:
        return worth.value
    return max(_ZERO, EXACT.subtract(worth.value, known.value))


def open_orders(case: Case) -> Finding | None:
    """Orders that may be on the market at one time. A change of one that is there adds none; enabling puts one back."""
    limit, intent = case.key.max_open_orders, case.intent
    adds_one = isinstance(intent, PlaceOrder | PlaceCombo) or (
        isinstance(intent, ModifyOrder) and intent.op is ModifyOp.ENABLE
    )
    if limit is None or not adds_one:
        return None
    count = case.usage.open_orders + 1
    if count <= limit:
        return passed("open orders", f"{count} with this one, the limit is {limit}")
    return refused(
        "open orders",
        Code.OPEN_ORDERS,
        f"{_orders(case.usage.open_orders)} open, the limit is {limit}; cancel one, or wait until one is filled",
    )


def _orders(count: int) -> str:
    return "1 order is" if count == 1 else f"{count} orders are"


def cancel_flood(case: Case) -> Finding | None:
    """The only thing besides scope and account that can stop a cancel."""
    if not isinstance(case.intent, CancelOrder):
        return None
    count = case.usage.cancels_last_minute + 1
    if count <= CANCELS_PER_MINUTE:
        return passed("cancels", f"{count} in {_WINDOW} s, the limit is {CANCELS_PER_MINUTE}")
    return refused(
        "cancels",
        Code.CANCEL_FLOOD,
        f"{count} cancels in {_WINDOW} s, the limit is {CANCELS_PER_MINUTE}; try again in a few seconds",
        retry_after=5,
    )
