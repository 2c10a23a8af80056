"""The rules of how much and how often, one function each (checks 8 to 10), and the facts they cannot do without.

As everywhere in the policy: what is missing refuses.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil

from sidecar.intents.model import CancelOrder, ModifyOrder, PlaceCombo, PlaceOrder, ReconfirmOrder
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.worth import EXACT, VALUED_KINDS, counted_price, plain

CANCELS_PER_MINUTE = 120
"""The flood cap of cancels: three times what OpenD takes from one account, so that it never stops a person or a bot."""

_WINDOW = 60
"""Seconds."""
_ZERO = Decimal(0)
_UNTOLD = "what the order is worth cannot be told, so it cannot be held against the limit"


# -- 8: the facts are there -------------------------------------------------------------------------------------------


def price(case: Case) -> Finding | None:
    """Whether there is a price to count with: the order's own, and where that says too little the market's."""
    intent = case.intent
    if not isinstance(intent, PlaceOrder) or not case.key.value_capped:
        return None
    counted = counted_price(intent, case.facts.quote, case.terms)
    if isinstance(counted, str):
        return refused("price", Code.PRICE_UNAVAILABLE, counted)
    return passed("price", f"a unit counts at {plain(counted.amount)} ({counted.basis})")


def instrument(case: Case) -> Finding | None:
    """Whether it is known what one unit is, and of a kind whose value is quantity × price × multiplier."""
    intent = case.intent
    if isinstance(intent, PlaceCombo):
        return refused(
            "instrument", Code.INSTRUMENT_UNKNOWN, "combo orders are not supported yet; place the legs one by one"
        )
    if not isinstance(intent, PlaceOrder) or not case.key.value_capped:
        return None
    symbol = intent.security.symbol
    known = case.facts.instrument
    if known is None:
        return refused("instrument", Code.INSTRUMENT_UNKNOWN, f"OpenD does not say what `{symbol}` is")
    if known.kind not in VALUED_KINDS or intent.amount is not None:
        return refused(
            "instrument",
            Code.INSTRUMENT_UNKNOWN,
            f"`{symbol}` is of kind {known.kind.value}, which cannot be held against this key's value limits",
        )
    if known.multiplier is None or not known.multiplier > 0 or not known.currency:
        return refused(
            "instrument", Code.INSTRUMENT_UNKNOWN, f"OpenD does not say the contract size or currency of `{symbol}`"
        )
    return passed("instrument", f"{known.kind.value}, {plain(known.multiplier)} a unit, in {known.currency}")


def known_order(case: Case) -> Finding | None:
    """A change names an order, not its symbol or side: until that is looked up nothing can be said about it."""
    if isinstance(case.intent, ModifyOrder):
        return refused(
            "known order",
            Code.ORDER_UNKNOWN,
            "changing an order is not supported yet under this key; cancel it and place a new one",
        )
    if isinstance(case.intent, ReconfirmOrder):
        return refused("known order", Code.ORDER_UNKNOWN, "confirming an order again is not supported; place a new one")
    return None


# -- 9: amounts -------------------------------------------------------------------------------------------------------


def order_value(case: Case) -> Finding | None:
    limit = case.key.max_order_value
    if limit is None or not isinstance(case.intent, PlaceOrder):
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
    """Kept per currency: without a rate of exchange, amounts of two currencies do not add up."""
    limit = case.key.max_daily_value
    if limit is None or not isinstance(case.intent, PlaceOrder):
        return None
    worth = case.worth
    if worth is None:
        return refused("daily value", Code.DAILY_VALUE, _UNTOLD)
    currency = worth.currency
    used = case.usage.daily_value.get(currency, _ZERO)
    total = EXACT.add(used, worth.value)
    sums = f"{plain(used)} used + {plain(worth.value)} this order = {plain(total)} {currency}"
    if not total <= limit:
        return refused(
            "daily value", Code.DAILY_VALUE, f"daily value {sums} is over the limit of {plain(limit)} {currency}"
        )
    return passed("daily value", f"{sums}, the limit is {plain(limit)} {currency}")


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
