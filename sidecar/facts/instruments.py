"""What a security is: kind, contract multiplier, quote currency (3202, for futures also 3218). No prices, no rules."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sidecar.errors import UpstreamError
from sidecar.facts.asking import House, Rejected, new, rejection
from sidecar.facts.lookup import BatchedLookup, Clock, Pace, RequestBudget
from sidecar.intents.markets import symbol_of_quote
from sidecar.intents.model import Security
from sidecar.policy.usage import Instrument, InstrumentKind
from sidecar.tasks import Tasks
from sidecar.wire.catalog import GET_FUTURE_INFO, GET_STATIC_INFO

Code = tuple[int, str]
"""QotMarket number and code, the form in which OpenD names a security."""

MAX_CODES = 200
"""Codes asked for in one request."""

_KINDS = {
    2: InstrumentKind.WARRANT,  # basket warrant
    3: InstrumentKind.STOCK,
    4: InstrumentKind.ETF,  # trusts and funds
    5: InstrumentKind.WARRANT,
    8: InstrumentKind.OPTION,
    10: InstrumentKind.FUTURE,
}
"""Qot_Common.SecurityType; every other type is OTHER."""

_UNITS = frozenset({InstrumentKind.STOCK, InstrumentKind.ETF, InstrumentKind.WARRANT})
"""Kinds of which orders count single units, each at the quoted price."""

_CURRENCIES = {
    1: "HKD",
    11: "USD",
    21: "CNH",
    22: "CNH",
    31: "SGD",
    41: "JPY",
    51: "AUD",
    61: "MYR",
    71: "CAD",
    101: "USD",
}
"""Quote currency by QotMarket (protocol facts, section 5). Crypto and FX are pairs and have no default."""

_OTHER_CURRENCY = {
    # 80000-89999 is the exchange's range for what is traded in renminbi, 04600-04699 holds preference shares in dollars
    1: re.compile(r"8\d{4}|046\d\d"),
    21: re.compile(r"900\d{3}"),  # Shanghai B shares, in US dollars
    22: re.compile(r"200\d{3}"),  # Shenzhen B shares, in Hong Kong dollars
}
"""Codes for which the market's default currency is not certain."""

_DOLLAR_FUNDS = re.compile(r"09\d{3}")
"""Hong Kong codes that hold the US-dollar counters of funds, but also ordinary shares in HKD (09988)."""

_FUTURE_CURRENCIES = {
    **{code: code for code in ("HKD", "USD", "CNH", "JPY", "SGD", "AUD", "CAD", "MYR")},
    "CNY": "CNH",
    "RMB": "CNH",
    "港元": "HKD",
    "港币": "HKD",
    "港幣": "HKD",
    "美元": "USD",
    "人民币": "CNH",
    "人民幣": "CNH",
    "日元": "JPY",
    "日圓": "JPY",
    "新加坡元": "SGD",
    "新元": "SGD",
}
"""What 3218 calls a currency; it answers in OpenD's language. A word that is not here makes the currency unknown."""


class Instruments:
    """Static data by security, asked for in batches and remembered for `max_age` seconds (a day).

    An instrument whose quote currency is not certain is None as a whole: a limit of 100000 HKD must not be compared
    with an amount that may be in another currency, so such orders are refused wherever a value is needed.
    """

    def __init__(
        self,
        house: House,
        tasks: Tasks,
        *,
        timeout: float = 2.0,
        max_age: float = 86_400.0,
        negative_age: float = 5.0,
        max_entries: int = 10_000,
        requests: int = 60,
        period: float = 30.0,
        clock: Clock = time.monotonic,
    ) -> None:
        """Times in seconds; `timeout` is how long a caller waits.

        `requests` per `period` is a bound of our own: OpenD documents none for 3202.
        """
        self._house = house
        self._late = max(timeout, 10.0)
        pace = Pace(MAX_CODES, max_age, negative_age, timeout, self._late, max_entries=max_entries)
        budget = RequestBudget(requests, period, clock, even=requests // 2)
        self._lookup: BatchedLookup[Code, Instrument] = BatchedLookup(
            self._load, tasks, pace, budget=budget, clock=clock
        )

    async def get(self, security: Security) -> Instrument | None:
        """None: unknown, delisted, of uncertain currency, or not to be had in time. Never raises, never hangs."""
        return await self._lookup.get((security.qot_market, security.code))

    def has(self, security: Security) -> bool:
        """Whether `get` has it at once, from memory."""
        return self._lookup.has((security.qot_market, security.code))

    def forget(self) -> None:
        """Drop what is remembered; for when OpenD was away."""
        self._lookup.forget()

    async def _load(self, codes: Sequence[Code]) -> Mapping[Code, Instrument] | Rejected:
        request = new("Qot_GetStaticInfo.Request")
        _name(request, codes)
        reply: Any = await self._house.ask(GET_STATIC_INFO, request, timeout=self._late)
        if (refused := rejection(reply)) is not None:
            return refused
        infos = {(info.basic.security.market, info.basic.security.code): info for info in reply.s2c.staticInfoList}
        futures = [code for code, info in infos.items() if _KINDS.get(info.basic.secType) is InstrumentKind.FUTURE]
        future_currencies = await self._future_currencies(futures) if futures else {}
        found = ((code, read(info, future_currencies.get(code))) for code, info in infos.items())
        return {code: instrument for code, instrument in found if instrument is not None}

    async def _future_currencies(self, codes: Iterable[Code]) -> dict[Code, str | None]:
        """Quote currency per future (3218.quoteCurrency); empty where OpenD fails, which only futures feel."""
        request = new("Qot_GetFutureInfo.Request")
        _name(request, codes)
        try:
            reply: Any = await self._house.ask(GET_FUTURE_INFO, request, timeout=self._late)
        except UpstreamError:
            return {}
        if rejection(reply) is not None:
            return {}
        return {
            (info.security.market, info.security.code): _FUTURE_CURRENCIES.get(info.quoteCurrency.strip())
            for info in reply.s2c.futureInfoList
        }


def read(info: Any, future_currency: str | None = None) -> Instrument | None:
    """One SecurityStaticInfo as the rules see it; None where it is delisted or its currency is not certain.

    The multiplier of options and futures is `lotSize` (protocol facts, section 5; index options have none there).
    """
    basic = info.basic
    kind = _KINDS.get(basic.secType, InstrumentKind.OTHER)
    currency = (
        future_currency
        if kind is InstrumentKind.FUTURE
        else currency_of(basic.security.market, basic.security.code, kind)
    )
    if currency is None or basic.delisting:
        return None
    multiplier: Decimal | None = None
    if kind in _UNITS:
        multiplier = Decimal(1)
    elif kind in (InstrumentKind.OPTION, InstrumentKind.FUTURE) and basic.lotSize > 0:
        multiplier = Decimal(basic.lotSize)
    underlying: str | None = None
    if kind is InstrumentKind.OPTION and info.HasField("optionExData"):
        owner = info.optionExData.owner
        underlying = symbol_of_quote(owner.market, owner.code)
    return Instrument(kind, multiplier, currency, underlying)


def currency_of(qot_market: int, code: str, kind: InstrumentKind) -> str | None:
    """The currency a security is quoted in, None where market and code do not settle it."""
    exceptions = _OTHER_CURRENCY.get(qot_market)
    if exceptions is not None and exceptions.fullmatch(code):
        return None
    if qot_market == 1 and kind is InstrumentKind.ETF and _DOLLAR_FUNDS.fullmatch(code):
        return None
    return _CURRENCIES.get(qot_market)


def _name(request: Any, codes: Iterable[Code]) -> None:
    for market, code in codes:
        request.c2s.securityList.add(market=market, code=code)
