"""Past prices: K-lines and intraday points, computed from the seed for any range. Stores nothing, does not move."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from hashlib import blake2b
from math import sin
from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.instruments import Instrument
from sidecar.sandbox.market import Market, Quote
from sidecar.wire.messages import module

MINUTES = {1: 1, 10: 3, 6: 5, 12: 10, 7: 15, 8: 30, 9: 60, 13: 120, 14: 180, 15: 240}
"""Minutes of a bar by KLType, for the types shorter than a day."""

DAY, WEEK, MONTH, YEAR, QUARTER = 2, 3, 4, 5, 11
KL_TYPES = frozenset({*MINUTES, DAY, WEEK, MONTH, YEAR, QUARTER})


class History:
    """Bars of every instrument; the same seed gives the same past."""

    def __init__(self, seed: int, market: Market, now: float) -> None:
        self._seed = seed
        self._market = market
        self._now = now
        self._scales: dict[Instrument, float] = {}
        self._phases: dict[Instrument, tuple[float, float, float]] = {}

    def bars(self, quote: Quote, kl_type: int, begin: date, end: date, now: float) -> Iterator[Any]:
        """Qot_Common.KLine from `begin` to `end` (market days, both included), oldest first; the last one reaches `now`."""
        market = quote.instrument.market
        today = clock.market_day(market, now)
        end = min(end, today)
        if kl_type in MINUTES:
            yield from self._minute_bars(quote, MINUTES[kl_type], begin, end, today, now)
            return
        for first, last in _periods(kl_type, begin, end):
            yield self._bar(quote, first, last, today)

    def close_of(self, instrument: Instrument, day: date) -> float:
        """The close of a past day, a float: these are for looking at, no order is judged by them."""
        scale = self._scales.get(instrument)
        if scale is None:
            yesterday = clock.market_day(instrument.market, self._now) - timedelta(days=1)
            close = float(self._market.quotes[instrument].previous_close)
            scale = self._scales[instrument] = close / self._wave(instrument, clock.last_trading_day(yesterday))
        return scale * self._wave(instrument, day)

    def _wave(self, instrument: Instrument, day: date) -> float:
        """The shape of the past around 1; scaled so that it ends at the previous close."""
        slow, fast, phase = self._phase(instrument)
        number = day.toordinal()
        drift = 0.07 * sin(number / slow + phase) + 0.035 * sin(number / fast + phase * 2)
        return 1 + drift + 0.008 * self._noise(instrument, number)

    def _phase(self, instrument: Instrument) -> tuple[float, float, float]:
        found = self._phases.get(instrument)
        if found is None:
            noise = [self._noise(instrument, -number) for number in (1, 2, 3)]
            found = self._phases[instrument] = (19 + 5 * noise[0], 5.5 + 1.5 * noise[1], 3 * noise[2])
        return found

    def _noise(self, instrument: Instrument, number: int) -> float:
        """From -1 to 1, always the same for the same seed, instrument and number."""
        digest = blake2b(f"{self._seed} {instrument.symbol} {number}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") / 2**31 - 1

    def _bar(self, quote: Quote, first: date, last: date, today: date) -> Any:
        instrument = quote.instrument
        days = clock.trading_days(first, last)
        closes = [self.close_of(instrument, day) for day in days]
        before = self.close_of(instrument, clock.last_trading_day(first - timedelta(days=1)))
        opened = before * (1 + 0.004 * self._noise(instrument, first.toordinal() * 7))
        high, low = max([*closes, opened]) * 1.004, min([*closes, opened]) * 0.996
        volume = sum(self._volume(instrument, day) for day in days)
        close = closes[-1]
        if last == today:
            close, volume = float(quote.last), volume + quote.volume
            high, low = max(high, float(quote.high)), min(low, float(quote.low))
            if len(days) == 1:
                opened, before = float(quote.open), float(quote.previous_close)
                high, low, volume = float(quote.high), float(quote.low), quote.volume
        stamp = clock.timestamp_of(instrument.market, last)
        return _line(instrument, stamp, (opened, high, low, close, before), volume)

    def _volume(self, instrument: Instrument, day: date) -> int:
        unit = max(instrument.quantity_step, 1)
        return unit * int(4_000 * (1.5 + self._noise(instrument, day.toordinal() * 3)))

    def _minute_bars(
        self, quote: Quote, minutes: int, begin: date, end: date, today: date, now: float
    ) -> Iterator[Any]:
        instrument = quote.instrument
        for day in clock.trading_days(begin, end):
            for stamp, point, before in self.points(quote, day, minutes, today, now):
                high, low = max(point, before) * 1.0006, min(point, before) * 0.9994
                volume = self._volume(instrument, day) * minutes // 330
                yield _line(instrument, stamp, (before, high, low, point, before), volume)

    def points(
        self, quote: Quote, day: date, minutes: int, today: date, now: float
    ) -> Iterator[tuple[float, float, float]]:
        """Timestamp, price and the price before, every `minutes` of a day's sessions; today ends at `now`."""
        instrument = quote.instrument
        previous = self.close_of(instrument, clock.last_trading_day(day - timedelta(days=1)))
        close = self.close_of(instrument, day)
        if day == today:
            previous, close = float(quote.previous_close), float(quote.last)
        marks = [
            minute
            for opened, closed in clock.session_minutes(instrument.market)
            for minute in range(opened + minutes, closed + minutes, minutes)
        ]
        stamps = [clock.timestamp_of(instrument.market, day, min(minute, 1439)) for minute in marks]
        if day == today:
            stamps = [stamp for stamp in stamps if stamp <= now + minutes * 60] or stamps
        before = previous
        for index, stamp in enumerate(stamps):
            share = (index + 1) / len(stamps)
            wave = 0.002 * sin(index / 9) * (1 - share) + 0.0006 * self._noise(instrument, int(stamp) // 60) * (
                share < 1
            )
            point = previous + (close - previous) * share + close * wave
            yield stamp, point, before
            before = point


def _line(instrument: Instrument, stamp: float, prices: tuple[float, float, float, float, float], volume: int) -> Any:
    places = max(2, -int(instrument.step(instrument.base).as_tuple().exponent))
    opened, high, low, close, before = (round(price, places) for price in prices)
    return module("Qot_Common").KLine(
        time=clock.text(instrument.market, stamp),
        isBlank=False,
        highPrice=max(high, opened, close),
        openPrice=opened,
        lowPrice=min(low, opened, close),
        closePrice=close,
        lastClosePrice=before,
        volume=volume,
        turnover=round(volume * close * instrument.multiplier, 2),
        turnoverRate=round(volume / instrument.shares, 6) if instrument.shares else 0.0,
        pe=round(close / float(instrument.base) * 17.5, 3) if instrument.shares else 0.0,
        changeRate=round((close / before - 1) * 100, 3) if before else 0.0,
        timestamp=stamp,
    )


def _periods(kl_type: int, begin: date, end: date) -> Iterator[tuple[date, date]]:
    """First and last trading day of every period that ends between `begin` and `end`."""
    days = clock.trading_days(begin, end)
    if kl_type == DAY:
        yield from ((day, day) for day in days)
        return
    first = None
    for index, day in enumerate(days):
        first = first or day
        following = days[index + 1] if index + 1 < len(days) else None
        if following is None or _period(kl_type, following) != _period(kl_type, day):
            yield first, day
            first = None


def _period(kl_type: int, day: date) -> tuple[int, int]:
    if kl_type == WEEK:
        calendar = day.isocalendar()
        return calendar.year, calendar.week
    if kl_type == MONTH:
        return day.year, day.month
    if kl_type == QUARTER:
        return day.year, (day.month - 1) // 3
    return day.year, 0
