"""Which session a market is in now, as OpenD reports it (1002, and by security 3223). No calendar, no rules.

1002 answers for the big stock markets at once and has no known frequency limit. For everything whose hours differ inside
a market (futures, options) OpenD's documentation points to 3223, which it takes 10 times in 30 s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.facts.asking import House, Rejected, new, rejection
from sidecar.facts.lookup import BatchedLookup, Clock, Pace, RequestBudget
from sidecar.intents.markets import FUTURES
from sidecar.intents.model import Security
from sidecar.policy.market_state import MarketState, Session
from sidecar.tasks import Tasks
from sidecar.wire.catalog import GET_GLOBAL_STATE, GET_MARKET_STATE

MAX_CODES = 400
"""Codes OpenD takes in one 3223."""

KEPT = 5
"""Of the 10 requests OpenD takes in 30 s, so many are not for clients."""

_FIELDS = {
    1: "marketHK",
    11: "marketUS",
    21: "marketSH",
    22: "marketSZ",
    31: "marketSG",
    41: "marketJP",
    61: "marketMY",
}
"""Where 1002 tells the state of a QotMarket's stocks."""

STATES = {
    0: MarketState(Session.CLOSED, "NONE"),
    1: MarketState(Session.AUCTION, "AUCTION"),
    2: MarketState(Session.CLOSED, "WAITING_OPEN"),
    3: MarketState(Session.REGULAR, "MORNING"),
    4: MarketState(Session.CLOSED, "REST"),
    5: MarketState(Session.REGULAR, "AFTERNOON"),
    6: MarketState(Session.CLOSED, "CLOSED"),
    8: MarketState(Session.PRE_MARKET, "PRE_MARKET_BEGIN"),
    9: MarketState(Session.CLOSED, "PRE_MARKET_END"),
    10: MarketState(Session.AFTER_HOURS, "AFTER_HOURS_BEGIN"),
    11: MarketState(Session.CLOSED, "AFTER_HOURS_END"),
    12: MarketState(Session.CLOSED, "FUTU_SWITCH_DATE"),
    13: MarketState(Session.REGULAR, "NIGHT_OPEN"),
    14: MarketState(Session.CLOSED, "NIGHT_END"),
    15: MarketState(Session.REGULAR, "FUTURE_DAY_OPEN"),
    16: MarketState(Session.CLOSED, "FUTURE_DAY_BREAK"),
    17: MarketState(Session.CLOSED, "FUTURE_DAY_CLOSE"),
    18: MarketState(Session.CLOSED, "FUTURE_DAY_WAIT_FOR_OPEN"),
    19: MarketState(Session.AUCTION, "HK_CAS"),
    20: MarketState(Session.CLOSED, "FUTURE_NIGHT_WAIT"),
    21: MarketState(Session.REGULAR, "FUTURE_AFTERNOON"),
    22: MarketState(Session.CLOSED, "FUTURE_SWITCH_DATE"),
    23: MarketState(Session.REGULAR, "FUTURE_OPEN"),
    24: MarketState(Session.CLOSED, "FUTURE_BREAK"),
    25: MarketState(Session.REGULAR, "FUTURE_BREAK_OVER"),
    26: MarketState(Session.CLOSED, "FUTURE_CLOSE"),
    27: MarketState(Session.CLOSED, "STIB_AFTER_HOURS_WAIT"),
    28: MarketState(Session.AFTER_HOURS, "STIB_AFTER_HOURS_BEGIN"),
    29: MarketState(Session.CLOSED, "STIB_AFTER_HOURS_END"),
    30: MarketState(Session.AUCTION, "CLOSE_AUCTION"),
    31: MarketState(Session.CLOSED, "AFTERNOON_END"),
    32: MarketState(Session.REGULAR, "NIGHT"),
    33: MarketState(Session.OVERNIGHT, "OVERNIGHT_BEGIN"),
    34: MarketState(Session.CLOSED, "OVERNIGHT_END"),
    35: MarketState(Session.REGULAR, "TRADE_AT_LAST"),
    36: MarketState(Session.AUCTION, "TRADE_AUCTION"),
    37: MarketState(Session.OVERNIGHT, "OVERNIGHT"),
}
"""Qot_Common.QotMarketState; a number that is not here is not known, which refuses."""

_Code = tuple[int, str]
_ALL_MARKETS = "all markets"


class MarketStates:
    """The state of the market behind a security, at most `max_age` seconds after it was asked for."""

    def __init__(
        self,
        house: House,
        tasks: Tasks,
        budget: RequestBudget | None = None,
        *,
        timeout: float = 2.0,
        max_age: float = 5.0,
        negative_age: float = 1.0,
        max_entries: int = 10_000,
        clock: Clock = time.monotonic,
    ) -> None:
        """`timeout`: seconds a caller waits. `budget` is that of 3223; without one the whole of what OpenD takes."""
        self._house = house
        self._late = max_age  # an answer that took longer than that would be too old to use
        every = Pace(1, max_age, negative_age, timeout, self._late)
        self._by_market: BatchedLookup[str, Mapping[int, int]] = BatchedLookup(
            self._load_markets, tasks, every, budget=RequestBudget(60, 30.0, clock), clock=clock
        )
        each = Pace(MAX_CODES, max_age, negative_age, timeout, self._late, max_entries=max_entries)
        self._by_security: BatchedLookup[_Code, MarketState] = BatchedLookup(
            self._load_securities, tasks, each, budget=budget or RequestBudget(10, 30.0, clock), clock=clock
        )

    async def get(self, security: Security) -> MarketState | None:
        """None: not to be had in time, or a state this version does not know. Never raises, never hangs."""
        if not _keeps_the_hours_of_its_market(security):
            return await self._by_security.get((security.qot_market, security.code))
        states = await self._by_market.get(_ALL_MARKETS)
        number = None if states is None else states.get(security.qot_market)
        return None if number is None else STATES.get(number)

    def forget(self) -> None:
        """Drop what is remembered; for when OpenD was away."""
        self._by_market.forget()
        self._by_security.forget()

    async def _load_markets(self, asked: Sequence[str]) -> Mapping[str, Mapping[int, int]] | Rejected:
        request = new("GetGlobalState.Request")
        request.c2s.userID = 0
        reply: Any = await self._house.ask(GET_GLOBAL_STATE, request, timeout=self._late)
        if (refused := rejection(reply)) is not None:
            return refused
        told = {market: getattr(reply.s2c, field) for market, field in _FIELDS.items() if reply.s2c.HasField(field)}
        return dict.fromkeys(asked, told)

    async def _load_securities(self, codes: Sequence[_Code]) -> Mapping[_Code, MarketState] | Rejected:
        request = new("Qot_GetMarketState.Request")
        for market, code in codes:
            request.c2s.securityList.add(market=market, code=code)
        reply: Any = await self._house.ask(GET_MARKET_STATE, request, timeout=self._late)
        if (refused := rejection(reply)) is not None:
            return refused
        return {
            (info.security.market, info.security.code): STATES[info.marketState]
            for info in reply.s2c.marketInfoList
            if info.marketState in STATES
        }


def _keeps_the_hours_of_its_market(security: Security) -> bool:
    """Whether it is a share or fund by its code, of a market 1002 tells of: five or six digits, in the US no digit at all."""
    if security.qot_market not in _FIELDS or security.trd_market in FUTURES:
        return False
    if security.market == "US":
        return not any(one.isdigit() for one in security.code)
    if security.market in ("HK", "CN"):
        return security.code.isdigit()
    return True
