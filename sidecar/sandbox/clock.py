"""Market time: zones, the text form of times and dates, trading days. Made up where it matters: no holidays, always open."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

HONG_KONG = ZoneInfo("Asia/Hong_Kong")
_ZONES = {11: ZoneInfo("America/New_York"), 31: ZoneInfo("Asia/Singapore"), 41: ZoneInfo("Asia/Tokyo")}

_DAY_MINUTES = {
    1: ((570, 720), (780, 960)),
    11: ((570, 960),),
    21: ((570, 690), (780, 900)),
    22: ((570, 690), (780, 900)),
    31: ((540, 1020),),
    41: ((540, 690), (750, 930)),
}
"""Minutes after midnight, market time, of the sessions shown in minute bars, by QotMarket."""


def zone(market: int) -> ZoneInfo:
    """The time zone in which OpenD writes times of a QotMarket."""
    return _ZONES.get(market, HONG_KONG)


@lru_cache(maxsize=64)
def _second_text(market: int, second: int) -> str:
    return datetime.fromtimestamp(second, zone(market)).strftime("%Y-%m-%d %H:%M:%S")


def text(market: int, timestamp: float) -> str:
    """`2026-11-20 15:04:05` in market time."""
    return _second_text(market, int(timestamp))


def millisecond_text(market: int, timestamp: float) -> str:
    """`2026-11-20 15:04:05.678` in market time."""
    return f"{_second_text(market, int(timestamp))}.{int(timestamp * 1000) % 1000:03d}"


def market_day(market: int, timestamp: float) -> date:
    """The calendar day in the market, moved back to Friday on weekends."""
    return last_trading_day(datetime.fromtimestamp(timestamp, zone(market)).date())


def is_trading_day(day: date) -> bool:
    return day.weekday() < 5


def last_trading_day(day: date) -> date:
    while not is_trading_day(day):
        day -= timedelta(days=1)
    return day


def trading_days(begin: date, end: date) -> list[date]:
    """Monday to Friday from `begin` to `end`, both included."""
    return [
        day
        for day in (begin + timedelta(days=offset) for offset in range((end - begin).days + 1))
        if is_trading_day(day)
    ]


def session_minutes(market: int) -> tuple[tuple[int, int], ...]:
    return _DAY_MINUTES.get(market, _DAY_MINUTES[1])


def parse_day(value: str) -> date | None:
    """The day of `2026-11-20`, `2026-1-2` or `2026-11-20 09:30:00`; None where it is no date from 1970 to 2199."""
    parts = value.strip().split(" ")[0].split("-")
    try:
        day = date(int(parts[0]), int(parts[1]), int(parts[2]))
    except (ValueError, IndexError):
        return None
    return day if 1970 <= day.year < 2200 else None


def timestamp_of(market: int, day: date, minute: int = 0) -> float:
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone(market))
    return midnight.timestamp() + minute * 60
