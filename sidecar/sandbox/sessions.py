"""When a market trades: the states OpenD reports (Qot_Common.QotMarketState), by the clock, by order, or always open.

| behaviour | mark |
|---|---|
| names and numbers of the states | documented |
| hours of the exchanges, as they were in November 2026 | documented by the exchanges; no holidays, no half days |
| which state OpenD reports in which of these hours | inferred from their names |
| auction orders trade in auctions and nothing else does | documented |
| orders rest while a market is closed and trade outside regular hours only where they ask for it | documented |
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import IntEnum

from sidecar.errors import ConfigError
from sidecar.sandbox import clock
from sidecar.sandbox.instruments import HK, JP, PREFIX, SG, SH, SZ, US, Instrument, Kind
from sidecar.sandbox.orders import AUCTIONS, Order


class MarketState(IntEnum):
    """Qot_Common.QotMarketState, by the names the official Python SDK gives them where it has one."""

    NONE = 0
    AUCTION = 1
    WAITING_OPEN = 2
    MORNING = 3
    REST = 4
    AFTERNOON = 5
    CLOSED = 6
    PRE_MARKET_BEGIN = 8
    PRE_MARKET_END = 9
    AFTER_HOURS_BEGIN = 10
    AFTER_HOURS_END = 11
    NIGHT_OPEN = 13
    NIGHT_END = 14
    FUTURE_DAY_OPEN = 15
    FUTURE_DAY_BREAK = 16
    FUTURE_DAY_CLOSE = 17
    FUTURE_DAY_WAIT_FOR_OPEN = 18
    HK_CAS = 19
    FUTURE_OPEN = 23
    FUTURE_BREAK = 24
    FUTURE_BREAK_OVER = 25
    FUTURE_CLOSE = 26
    STIB_AFTER_HOURS_WAIT = 27
    STIB_AFTER_HOURS_BEGIN = 28
    STIB_AFTER_HOURS_END = 29
    NIGHT = 32
    TRADE_AT_LAST = 35
    OVERNIGHT = 37


_S = MarketState

_Hours = tuple[tuple[str, MarketState], ...]
"""From which minute of the market's day (`09:30`) which state holds, until the next; the first holds from midnight."""

_SECURITIES: dict[int, _Hours] = {
    HK: (
        ("00:00", _S.CLOSED), ("09:00", _S.AUCTION), ("09:30", _S.MORNING), ("12:00", _S.REST), ("13:00", _S.AFTERNOON),
        ("16:00", _S.HK_CAS), ("16:10", _S.CLOSED),
    ),
    US: (
        ("00:00", _S.OVERNIGHT), ("04:00", _S.PRE_MARKET_BEGIN), ("09:30", _S.MORNING), ("12:00", _S.AFTERNOON),
        ("16:00", _S.AFTER_HOURS_BEGIN), ("20:00", _S.OVERNIGHT),
    ),
    SH: (
        ("00:00", _S.CLOSED), ("09:15", _S.AUCTION), ("09:30", _S.MORNING), ("11:30", _S.REST), ("13:00", _S.AFTERNOON),
        ("15:00", _S.STIB_AFTER_HOURS_WAIT), ("15:05", _S.STIB_AFTER_HOURS_BEGIN), ("15:30", _S.CLOSED),
    ),
    SG: (
        ("00:00", _S.CLOSED), ("09:00", _S.MORNING), ("12:00", _S.REST), ("13:00", _S.AFTERNOON), ("17:00", _S.CLOSED),
    ),
    JP: (
        ("00:00", _S.CLOSED), ("09:00", _S.MORNING), ("11:30", _S.REST), ("12:30", _S.AFTERNOON), ("15:30", _S.CLOSED),
    ),
}  # fmt: skip
_SECURITIES[SZ] = _SECURITIES[SH]

_US_OPTIONS: _Hours = (("00:00", _S.CLOSED), ("09:30", _S.MORNING), ("12:00", _S.AFTERNOON), ("16:00", _S.CLOSED))

_FUTURES: dict[int, _Hours] = {
    HK: (
        ("00:00", _S.NIGHT_OPEN), ("03:00", _S.FUTURE_DAY_WAIT_FOR_OPEN), ("09:15", _S.FUTURE_DAY_OPEN),
        ("12:00", _S.FUTURE_DAY_BREAK), ("13:00", _S.FUTURE_DAY_OPEN), ("16:30", _S.FUTURE_DAY_CLOSE),
        ("17:15", _S.NIGHT_OPEN),
    ),
    US: (("00:00", _S.FUTURE_OPEN), ("17:00", _S.FUTURE_CLOSE), ("18:00", _S.FUTURE_OPEN)),
    SG: (
        ("00:00", _S.NIGHT_OPEN), ("05:15", _S.FUTURE_DAY_WAIT_FOR_OPEN), ("09:00", _S.FUTURE_DAY_OPEN),
        ("16:35", _S.FUTURE_DAY_CLOSE), ("17:00", _S.NIGHT_OPEN),
    ),
    JP: (
        ("00:00", _S.NIGHT_OPEN), ("06:00", _S.FUTURE_DAY_WAIT_FOR_OPEN), ("08:45", _S.FUTURE_DAY_OPEN),
        ("15:45", _S.FUTURE_DAY_CLOSE), ("17:00", _S.NIGHT_OPEN),
    ),
}  # fmt: skip

_TRADING = frozenset(
    {
        _S.MORNING, _S.AFTERNOON, _S.NIGHT_OPEN, _S.NIGHT, _S.FUTURE_DAY_OPEN, _S.FUTURE_OPEN, _S.FUTURE_BREAK_OVER,
        _S.TRADE_AT_LAST,
    }
)  # fmt: skip
_CALLS = frozenset({_S.AUCTION, _S.HK_CAS})
"""Only auction orders trade in these."""
_EXTENDED = frozenset({_S.PRE_MARKET_BEGIN, _S.AFTER_HOURS_BEGIN, _S.OVERNIGHT})
_OVER_MIDNIGHT = frozenset({_S.NIGHT_OPEN, _S.OVERNIGHT, _S.FUTURE_OPEN})

_ETH, _ALL, _OVERNIGHT_ONLY = 2, 3, 4
"""Common.Session of an order that may trade outside regular hours."""

FUTURES = "_FUTURES"
"""`HK_FUTURES` names the futures of a market where they differ from its securities."""

MARKETS = tuple(prefix + kind for kind in ("", FUTURES) for prefix in PREFIX.values())


def at_the_exchange(market: int, kind: Kind, timestamp: float) -> MarketState:
    """The state by the exchange's hours; `market` is a QotMarket."""
    local = datetime.fromtimestamp(timestamp, clock.zone(market))
    future = kind is Kind.FUTURE
    closed = _S.FUTURE_CLOSE if future else _S.CLOSED
    hours = _FUTURES.get(market, ()) if future else _US_OPTIONS if _is_us_option(market, kind) else _SECURITIES[market]
    state = closed
    for begin, follows in hours:
        if local.strftime("%H:%M") >= begin:
            state = follows
    day = local.date()
    if state in _OVER_MIDNIGHT:
        if market == US and local.hour >= 17:  # an American evening begins the day that follows
            day += timedelta(days=1)
        elif market != US and local.hour < 9:  # an Asian night ends the day before
            day -= timedelta(days=1)
    return state if clock.is_trading_day(day) else closed


def _is_us_option(market: int, kind: Kind) -> bool:
    return market == US and kind is Kind.OPTION


def always_open(kind: Kind) -> MarketState:
    return _S.FUTURE_DAY_OPEN if kind is Kind.FUTURE else _S.MORNING


class Sessions:
    """The state of every market now. What `fixed` names wins over the clock; names are `HK`, `US`, `HK_FUTURES`, ..."""

    def __init__(self, fixed: Mapping[str, int], exchange_hours: bool, now: Callable[[], float] = time.time) -> None:
        self._fixed = dict(fixed)
        self._exchange_hours = exchange_hours
        self._now = now

    def fix(self, market: str, state: int | None) -> None:
        """Hold a market in a state; None gives it back to the clock. Raises ConfigError for an unknown market."""
        if market not in MARKETS:
            raise ConfigError(f"`{market}` is no market of the sandbox; there are {', '.join(MARKETS)}")
        if state is None:
            self._fixed.pop(market, None)
        else:
            self._fixed[market] = state

    def state(self, market: int, kind: Kind) -> int:
        """QotMarketState of instruments of a kind in a QotMarket."""
        prefix = PREFIX[market]
        fixed = self._fixed.get(prefix + FUTURES) if kind is Kind.FUTURE else None
        fixed = self._fixed.get(prefix) if fixed is None else fixed
        if fixed is not None:
            return fixed
        return at_the_exchange(market, kind, self._now()) if self._exchange_hours else always_open(kind)

    def trades(self, order: Order) -> bool:
        """Whether the market would trade this order now."""
        instrument: Instrument = order.instrument
        state = self.state(instrument.market, instrument.kind)
        if order.order_type in AUCTIONS or state in _CALLS:
            return order.order_type in AUCTIONS and state in _CALLS
        asks = order.outside_hours or order.session in (_ETH, _ALL, _OVERNIGHT_ONLY)
        return state in _TRADING or (state in _EXTENDED and asks)


def parse_states(text: str) -> dict[str, int]:
    """`HK=CLOSED,US=MORNING` as states by market. Raises ConfigError."""
    states: dict[str, int] = {}
    for part in text.split(","):
        market, equals, name = part.strip().partition("=")
        if not equals or market not in MARKETS:
            raise ConfigError(
                f"`{part.strip()}` is no market state; write MARKET=STATE, for example HK=CLOSED, with one of "
                f"{', '.join(MARKETS)}"
            )
        if name not in MarketState.__members__:
            close = difflib.get_close_matches(name.upper(), MarketState.__members__, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(MarketState.__members__)}"
            raise ConfigError(f"`{name}` is no state of a market; {hint}")
        states[market] = MarketState[name]
    return states
