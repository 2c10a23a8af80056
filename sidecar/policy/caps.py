"""The rules of how much and how often, one function each (checks 8 to 10), and the facts they cannot do without.

As everywhere in the policy: what is missing refuses.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil

from sidecar.intents.model import CancelOrder, ModifyOp, ModifyOrder, PlaceCombo, PlaceOrder, ReconfirmOrder
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.exact import EXACT, plain
from sidecar.policy.worth import counted_price, leg_price, unvalued

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
    if not case.key.value_capped:
        return None
    if case.order is not None:
        counted = counted_price(case.order, case.facts.quote, case.terms)
        if isinstance(counted, str):
            return refused("price", Code.PRICE_UNAVAILABLE, counted)
        return passed("price", f"a unit counts at {plain(counted.amount)} ({counted.basis})")
    if case.combo is None:
        return None
    told = []
    for leg in case.legs:
        counted = leg_price(case.combo, leg.security.symbol, leg.known.quote, case.terms)
        if isinstance(counted, str):
            return refused("price", Code.PRICE_UNAVAILABLE, counted)
        told.append(f"{leg.security.symbol} at {plain(counted.amount)}")
    return passed("price", f"its legs count at the market price: {', '.join(told)}")


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
    if len(currencies) > 1:
        text = f"its legs are in several currencies, {', '.join(sorted(currencies))}, which do not add up"
        return refused("instrument", Code.INSTRUMENT_UNKNOWN, text)
    return passed("instrument", "; ".join(told))


def known_order(case: Case) -> Finding | None:
    """A change names an order, not its symbol or side: until that is looked up nothing can be said about it."""
    if isinstance(case.intent, ReconfirmOrder):
        return refused("known order", Code.ORDER_UNKNOWN, "confirming an order again is not supported; place a new one")
    if not isinstance(case.intent, ModifyOrder):
        return None
    resting, named = case.facts.resting, case.intent.order
    if resting is None or resting.order.account != case.intent.account:
        text = (
            f"OpenD does not list order `{named.order_id_ex or named.order_id}` in account {case.intent.account.acc_id}"
        )
        return refused("known order", Code.ORDER_UNKNOWN, f"{text}, so a change of it cannot be judged")
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
    """Kept per currency: without a rate of exchange, amounts of two currencies do not add up. A change counts by its
    increase over the highest total the order was ever approved for.
    """
    limit = case.key.max_daily_value
    if limit is None or (case.order is None and case.combo is None):
        return None
    worth = case.worth
    if worth is None or case.counts is None:
        return refused("daily value", Code.DAILY_VALUE, _UNTOLD)
    currency = worth.currency
    used = case.usage.daily_value.get(currency, _ZERO)
    total = EXACT.add(used, case.counts)
    what = "this change" if isinstance(case.intent, ModifyOrder) else "this order"
    sums = f"{plain(used)} used + {plain(case.counts)} {what} = {plain(total)} {currency}"
    if not total <= limit:
        return refused(
            "daily value", Code.DAILY_VALUE, f"daily value {sums} is over the limit of {plain(limit)} {currency}"
        )
    return passed("daily value", f"{sums}, the limit is {plain(limit)} {currency}")


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
