"""The rules under the trading state REDUCING: one function for what may still be traded (check 4), one for what must be known for
that (check 8). What is on its way already is counted by who gathers the facts.
"""

from __future__ import annotations

from decimal import Decimal

from sidecar.intents.model import ModifyOrder, ReconfirmOrder, Side
from sidecar.policy.case import NEW_ORDER, Case, passed, refused
from sidecar.policy.change import raises_the_stake
from sidecar.policy.decision import Code, Finding
from sidecar.policy.exact import EXACT, plain
from sidecar.policy.legs import Leg
from sidecar.policy.short_sales import NOT_BY_QUANTITY
from sidecar.policy.trading import Standing, TradingState
from sidecar.policy.usage import Position

_RULE = "reduce only"


def applies(trading: Standing | None) -> bool:
    """Whether an order has to shrink a position; then its holdings must be asked for."""
    return trading is not None and trading.state is TradingState.REDUCING


def reduce_only(case: Case) -> Finding | None:
    """Whether it shrinks what is held, or what is short, and no more than to nothing. An order whose holding is not known is
    for `position` to refuse; what can never shrink one is refused here without it.
    """
    standing = case.facts.trading
    if standing is None or not applies(standing) or not isinstance(case.intent, NEW_ORDER):
        return None
    if isinstance(case.intent, ReconfirmOrder):
        return _refused(case, standing, "confirming an order again need not shrink one")
    if isinstance(case.intent, ModifyOrder) and not raises_the_stake(case.intent):
        return passed(_RULE, "it takes an order off the market")
    if any(leg.side is Side.SELL_SHORT for leg in case.legs):
        return _refused(case, standing, "selling short opens one")
    told = []
    for leg in case.legs:
        position = leg.known.position
        if position is None or _unclear(position):
            return None
        numbers, why = _shrinks(case, leg, position)
        if why is not None:
            return _refused(case, standing, f"{why}: {numbers}")
        told.append(numbers)
    return passed(_RULE, "; ".join(dict.fromkeys(told))) if told else None


def position(case: Case) -> Finding | None:
    """Whether it is known what is held of everything it trades, and what is on its way."""
    if not applies(case.facts.trading) or not isinstance(case.intent, NEW_ORDER):
        return None
    if isinstance(case.intent, ModifyOrder) and not raises_the_stake(case.intent):
        return None
    if not case.legs and not isinstance(case.intent, ModifyOrder | ReconfirmOrder):
        return refused(_RULE, Code.POSITION_UNKNOWN, "what the order trades cannot be told, so neither what it shrinks")
    for leg in case.legs:
        symbol, known = leg.security.symbol, leg.known.position
        why = NOT_BY_QUANTITY.get(leg.security.trd_market)
        if why is not None:
            text = f"whether a position in `{symbol}` shrinks cannot be told: {why}"
            return refused(_RULE, Code.POSITION_UNKNOWN, text)
        if known is None or _unclear(known):
            text = (
                "while trading may only shrink positions, an order needs to be of what is held:"
                f" OpenD does not say how much of `{symbol}` is; try again"
            )
            return refused(_RULE, Code.POSITION_UNKNOWN, text)
    return None


def _unclear(position: Position) -> bool:
    return None in (position.net, position.reserved, position.open_buys, position.open_sells)


def _shrinks(case: Case, leg: Leg, position: Position) -> tuple[str, str | None]:
    """The numbers, and why not. INVARIANT: all that may be filled together never goes past nothing."""
    net, sells = position.net or Decimal(0), leg.side.sells
    under_way = (position.open_sells if sells else position.open_buys) or Decimal(0)
    asked = _asked(case, leg)
    held = f"{plain(abs(net))} {'short' if net < 0 else 'held'} of {leg.security.symbol}"
    numbers = f"{held}, {plain(under_way)} {'being sold' if sells else 'being bought'}"
    verb = "selling" if sells else "buying"
    if (net > 0) is not sells or not net:
        return numbers, f"{verb} would {'open' if not net else 'grow'} one"
    if any(other.side.sells is not sells for other in case.legs if other.security.symbol == leg.security.symbol):
        return numbers, "its legs trade one security both ways"
    if EXACT.add(under_way, asked) > abs(net):
        return numbers, f"{verb} {plain(asked)} more would go past nothing"
    free = EXACT.subtract(position.sellable, position.reserved or Decimal(0))
    if sells and asked > 0 and asked > free:
        return numbers, f"of what is held {plain(max(free, Decimal(0)))} can be sold, and it sells {plain(asked)}"
    return f"{verb} {plain(asked)}, {numbers}", None


def _asked(case: Case, of: Leg) -> Decimal:
    """Of one security, over all legs."""
    total = Decimal(0)
    for leg in case.legs:
        if leg.security.symbol == of.security.symbol:
            total = EXACT.add(total, leg.added)
    return total


def _refused(case: Case, standing: Standing, why: str) -> Finding:
    return refused(_RULE, Code.REDUCE_ONLY, f"this does not shrink a position, {why}; {standing.told(case.now)}")
