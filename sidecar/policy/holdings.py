"""The limit on what an account may hold of one security, `max_position_value`: one function for what must be known (check
8), one for the amount (check 9). They ask nobody; what is on the market and on its way is counted by who gathers the facts.

Why it holds. Units that are bought count where they are: in the holding once OpenD's list is sure to show them, and with
the orders on the market, which count whole whatever is filled of them. A fill that both show counts twice until its order
has ended, and an order may be refused for it that would have been right; never the other way round. Sales on the market
take nothing off what may be bought, nor purchases off what may be sold: either may never be filled.

Not counted before they are filled: orders placed outside the sidecar, but for one that is changed through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from sidecar.intents.model import Side
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.currency import exchange
from sidecar.policy.decision import Code, Finding
from sidecar.policy.exact import EXACT, plain
from sidecar.policy.key import Key
from sidecar.policy.legs import Leg
from sidecar.policy.short_sales import NOT_BY_QUANTITY
from sidecar.policy.worth import in_terms_of, unit_price, unvalued, value_of

_ZERO = Decimal(0)
_RULE = "position value"
_UNTOLD = "what the position would be worth cannot be told, so it cannot be held against the limit"


def asks_for_position(key: Key) -> bool:
    return key.max_position_value is not None


def position(case: Case) -> Finding | None:
    """Whether it is known what is held of each security, and what is on the market of it."""
    if case.key.max_position_value is None or (case.order is None and case.combo is None):
        return None
    told = []
    for leg in case.legs:
        symbol = leg.security.symbol
        why = NOT_BY_QUANTITY.get(leg.security.trd_market)
        if why is not None:
            text = f"how much of `{symbol}` is held cannot be told (max_position_value): {why}"
            return refused("holding", Code.POSITION_UNKNOWN, text)
        known = _units(leg)
        if known is None:
            text = f"OpenD does not say how much of `{symbol}` is held (max_position_value); try again"
            return refused("holding", Code.POSITION_UNKNOWN, text)
        told.append(
            f"{plain(known.net)} of {symbol} held, {plain(known.buys)} being bought, {plain(known.sells)} being sold"
        )
    return passed("holding", "; ".join(told)) if told else None


def position_value(case: Case) -> Finding | None:
    """Of every security the request trades, as if all that goes the same way had been filled, at the price the request
    counts at. What makes no position larger passes, whatever is held.
    """
    limit, order = case.key.max_position_value, case.order or case.combo
    if limit is None or order is None:
        return None
    into, told = exchange(case.key.cap_currency, case.terms.rates, case.now), []
    for leg in case.legs:
        units, price, instrument = _units(leg), unit_price(order, leg, case.terms), leg.known.instrument
        if units is None or instrument is None or unvalued(instrument) is not None or isinstance(price, str):
            return refused(_RULE, Code.POSITION_VALUE, _UNTOLD)
        after, sums = _after(units, leg.side, _added(case.legs, leg))
        what = f"{sums} of {leg.security.symbol}"
        if (after >= 0) if leg.side.sells else (after <= 0):
            told.append(f"{what} makes no position larger")
            continue
        value, currency = value_of(abs(after), price, instrument), instrument.currency
        factors = f"{what} × {plain(price.amount)} ({price.basis}) × {plain(instrument.multiplier or _ZERO)}"
        worth = in_terms_of(into, value, currency, f"{factors} = {plain(value)} {currency}")
        if worth is None:
            return refused(_RULE, Code.POSITION_VALUE, _UNTOLD)
        if not worth.value <= limit:
            over = f"{plain(worth.value)} {worth.currency} is over the limit of {plain(limit)} {worth.currency}"
            return refused(_RULE, Code.POSITION_VALUE, f"position value {over}: {worth.explanation}")
        told.append(f"{worth.explanation}, the limit is {plain(limit)} {worth.currency}")
    return passed(_RULE, "; ".join(told)) if told else refused(_RULE, Code.POSITION_VALUE, _UNTOLD)


class _Units(NamedTuple):
    net: Decimal
    buys: Decimal
    sells: Decimal


def _units(leg: Leg) -> _Units | None:
    """None where any of the three is not known."""
    known = leg.known.position
    if known is None or known.net is None or known.open_buys is None or known.open_sells is None:
        return None
    return _Units(known.net, known.open_buys, known.open_sells)


def _after(units: _Units, side: Side, added: Decimal) -> tuple[Decimal, str]:
    """What would be held, below 0 where it would be short, and how that comes about."""
    on_way, sign = (units.sells, "-") if side.sells else (units.buys, "+")
    counted = EXACT.add(on_way, added)
    after = EXACT.subtract(units.net, counted) if side.sells else EXACT.add(units.net, counted)
    doing = "selling" if side.sells else "buying"
    return after, f"({plain(units.net)} held {sign} {plain(on_way)} {doing} already {sign} {plain(added)})"


def _added(legs: Iterable[Leg], of: Leg) -> Decimal:
    """Of one security, over all legs that go the same way."""
    total = _ZERO
    for leg in legs:
        if leg.security.symbol == of.security.symbol and leg.side.sells is of.side.sells:
            total = EXACT.add(total, leg.added)
    return total
