"""The rule of the market's own sessions (check 7): whether what an order trades is traded at all at this moment.

What OpenD does not say refuses. Holidays, half days and breaks are OpenD's to know: there is no calendar here.
"""

from __future__ import annotations

from sidecar.intents.model import PlaceOrder
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.market_state import Session

_RULE = "market session"
_OPEN = (Session.REGULAR, Session.AUCTION)
_ETH, _ALL, _OVERNIGHT = 2, 3, 4
"""OpenD's Common.Session of an order; 2 is pre-market and after-hours."""

_ASKED_BY = {
    Session.PRE_MARKET: (_ETH, _ALL),
    Session.AFTER_HOURS: (_ETH, _ALL),
    Session.OVERNIGHT: (_ALL, _OVERNIGHT),
}
_HOW = {
    Session.PRE_MARKET: "fillOutsideRTH, or session ETH or ALL",
    Session.AFTER_HOURS: "fillOutsideRTH, or session ETH or ALL",
    Session.OVERNIGHT: "session ALL or OVERNIGHT",
}


def market_closed(case: Case) -> Finding | None:
    """Of a change the order as it would become; of a combo every leg. A combo cannot ask for extended hours.

    Whether the key may trade in them at all is another rule's business.
    """
    order = case.order or case.combo
    if case.key.trading_hours is not True or order is None:
        return None
    told = []
    for leg in case.legs:
        symbol, state = leg.security.symbol, leg.known.market_state
        if state is None:
            text = f"whether the market trades `{symbol}` now is not known, and this key trades in its sessions only"
            return refused(_RULE, Code.MARKET_CLOSED, text)
        if state.session is Session.CLOSED:
            text = f"`{symbol}` is not traded now, OpenD reports {state.name}, and this key trades in sessions only"
            return refused(_RULE, Code.MARKET_CLOSED, text)
        if state.session not in _OPEN and not (isinstance(order, PlaceOrder) and _asks_for(order, state.session)):
            text = f"the market of `{symbol}` is in {state.session}, and the order does not ask for it"
            hint = f" ({_HOW[state.session]})" if isinstance(order, PlaceOrder) else ""
            return refused(_RULE, Code.MARKET_CLOSED, text + hint)
        told.append(f"{symbol} is in {state.session} ({state.name})")
    return passed(_RULE, ", ".join(told))


def _asks_for(order: PlaceOrder, session: Session) -> bool:
    return order.session in _ASKED_BY[session] or (order.outside_rth and session is not Session.OVERNIGHT)
