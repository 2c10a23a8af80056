"""The rules of a key that may not sell short, `allow_short: false`: one function for what it may sell (check 6), one for
what must be known for that (check 8). They ask nobody; what is already reserved is counted by who gathers the facts.
"""

from __future__ import annotations

from decimal import Decimal

from sidecar.intents.model import PlaceCombo, PlaceOrder, ReconfirmOrder, Security, Side
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.exact import EXACT, plain
from sidecar.policy.key import Key
from sidecar.policy.legs import Leg

NOT_BY_QUANTITY = {15: "Japanese accounts hold by kind of account", 17: "event contracts are held on two sides"}
"""TrdMarkets in which the sum of what is held of a code does not say what may be sold of it."""


def asks_for_position(key: Key, order: PlaceOrder | PlaceCombo) -> bool:
    if key.allow_short is not False:
        return False
    legs: list[tuple[Security, Side]]
    legs = [(leg.security, leg.side) for leg in ([order] if isinstance(order, PlaceOrder) else order.legs)]
    return any(side is Side.SELL and security.trd_market not in NOT_BY_QUANTITY for security, side in legs)


def short_sale(case: Case) -> Finding | None:
    """What would open a short position. A plain sale beyond the holding does, of options and futures as well.

    A sale whose holding is not known is for `position` to refuse. Of a changed order only the increase is asked for.
    """
    if case.key.allow_short is not False:
        return None
    if any(leg.side is Side.SELL_SHORT for leg in case.legs):
        text = "side SELL_SHORT opens a short position, which this key may not (allow_short)"
        return refused("short sale", Code.SHORT_SALE, text)
    told = []
    for leg in _sales(case):
        position = leg.known.position
        if position is None or position.reserved is None:
            return None
        symbol, asked = leg.security.symbol, _asked(case, leg)
        free = EXACT.subtract(position.sellable, position.reserved)
        numbers = f"{plain(position.sellable)} can be sold, {plain(position.reserved)} already reserved by other sales"
        if not asked <= free:
            text = (
                f"selling {plain(asked)} of `{symbol}` would go short, which this key may not (allow_short): {numbers}"
            )
            return refused("short sale", Code.SHORT_SALE, text)
        told.append(f"selling {plain(asked)} of {symbol}: {numbers}")
    return passed("short sale", "; ".join(told)) if told else None


def position(case: Case) -> Finding | None:
    """Whether it is known how much of what is sold is held."""
    if case.key.allow_short is not False:
        return None
    if isinstance(case.intent, ReconfirmOrder):
        text = "whether confirming an order again would go short cannot be told (allow_short)"
        return refused("position", Code.POSITION_UNKNOWN, text)
    told = []
    for leg in _sales(case):
        symbol, known = leg.security.symbol, leg.known.position
        why = NOT_BY_QUANTITY.get(leg.security.trd_market)
        if why is not None:
            text = f"how much of `{symbol}` may be sold cannot be told: {why}"
            return refused("position", Code.POSITION_UNKNOWN, text)
        if known is None or known.reserved is None:
            text = f"a sale needs to be of what is held: OpenD does not say how much of `{symbol}` is; try again"
            return refused("position", Code.POSITION_UNKNOWN, text)
        told.append(f"OpenD says how much of {symbol} can be sold: {plain(known.sellable)}")
    return passed("position", "; ".join(told)) if told else None


def _sales(case: Case) -> list[Leg]:
    """INVARIANT: whatever leaves more to be sold on the market than before is here."""
    return [leg for leg in case.legs if leg.side is Side.SELL and leg.added > 0]


def _asked(case: Case, of: Leg) -> Decimal:
    """Of one security, over all legs that sell it."""
    total = Decimal(0)
    for leg in _sales(case):
        if leg.security.symbol == of.security.symbol:
            total = EXACT.add(total, leg.added)
    return total
