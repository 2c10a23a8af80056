"""The instruments of the sandbox: real codes, made-up prices. Nothing here is fetched or current."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import count

from sidecar.sandbox.instruments import HK, JP, PREFIX, SG, SH, SZ, TRADE_MARKET, US, Currency, Instrument, Kind

_CURRENCY = {HK: Currency.HKD, US: Currency.USD, SH: Currency.CNH, SZ: Currency.CNH, SG: Currency.SGD, JP: Currency.JPY}

_PLAIN: tuple[tuple[int, Kind, str], ...] = (
    (
        HK,
        Kind.STOCK,
        "00700 Tencent 100 480|00123 Yuexiu-Property 1000 5.2|00001 CKH 500 46|00002 CLP 500 66|00005 HSBC 400 92"
        "|00011 Hang-Seng-Bank 100 108|00016 SHK-Properties 500 84|00175 Geely 1000 17.2|00386 Sinopec 2000 4.35"
        "|00388 HKEX 100 368|00883 CNOOC 1000 18.9|00939 CCB 1000 6.9|00941 China-Mobile 500 84|01093 CSPC 2000 6.1"
        "|01114 Brilliance 2000 3.2|01177 Sino-Biopharm 1000 4.6|01211 BYD 500 268|01299 AIA 200 66|01398 ICBC 1000 5.6"
        "|01810 Xiaomi 200 42|01833 Ping-An-Health 100 12.4|02018 AAC-Tech 500 39|02318 Ping-An 500 51|02388 BOCHK 500 31"
        "|02601 CPIC 200 29|02628 China-Life 1000 18.1|03690 Meituan 100 128|03988 Bank-of-China 1000 4.1"
        "|09618 JD 50 132|09988 Alibaba 100 118",
    ),
    (HK, Kind.ETF, "02800 Tracker-Fund 500 24.1|02828 HSCEI-ETF 200 86|03033 Hang-Seng-Tech 200 5.2"),
    (HK, Kind.INDEX, "800000 Hang-Seng-Index 0 23800|800100 HSCEI 0 8600|999010 HSI-Volatility 0 22.4"),
    (HK, Kind.BOND, "04246 iBond 100 101.2|04252 Green-Bond 100 100.4"),
    (HK, Kind.PLATE, "BK1001 Dairy-Products 0 1020|BK1107 Banks 0 1540|BK1910 Internet 0 2110"),
    (
        US,
        Kind.STOCK,
        "AAPL Apple 1 228|MSFT Microsoft 1 430|NVDA NVIDIA 1 138|AMZN Amazon 1 205|GOOG Alphabet-C 1 176|META Meta 1 560"
        "|TSLA Tesla 1 330|BABA Alibaba-ADR 1 92|FUTU Futu 1 88|NFLX Netflix 1 780|AMD AMD 1 142|INTC Intel 1 24.5"
        "|JPM JPMorgan 1 240|KO Coca-Cola 1 63|SNDL Sundial 1 0.84",
    ),
    (US, Kind.ETF, "SPY S&P-500-ETF 1 590|QQQ Nasdaq-100-ETF 1 505|IWM Russell-2000-ETF 1 232|TLT Treasury-20Y 1 90"),
    (US, Kind.INDEX, ".DJI Dow-Jones 0 43800|.IXIC Nasdaq-Composite 0 18900|.SPX S&P-500 0 5900"),
    (US, Kind.PLATE, "BK2999 Technology 0 3120"),
    (
        SH,
        Kind.STOCK,
        "600519 Kweichow-Moutai 100 1540|601318 Ping-An-A 100 53.4|600036 CMB 100 38.2|600030 CITIC-Securities 100 29.8"
        "|601398 ICBC-A 100 6.1|600900 Yangtze-Power 100 28.6",
    ),
    (SH, Kind.ETF, "510050 SSE-50-ETF 100 2.75|512310 CSI-500-Industrials 100 0.92|510300 CSI-300-ETF 100 4.05"),
    (SH, Kind.INDEX, "000001 SSE-Composite 0 3380|000300 CSI-300 0 3970"),
    (
        SZ,
        Kind.STOCK,
        "000001 Ping-An-Bank 100 11.6|000979 Zhonghong 100 0.74|000858 Wuliangye 100 146|300750 CATL 100 262|002594 BYD-A 100 288",
    ),
    (SZ, Kind.ETF, "159919 CSI-300-ETF-SZ 100 4.1"),
    (SZ, Kind.INDEX, "399001 SZSE-Component 0 10700|399006 ChiNext 0 2240"),
    (SG, Kind.STOCK, "D05 DBS 100 42.1"),
    (JP, Kind.STOCK, "7203 Toyota 100 2680"),
)
"""Market, kind and `code name lot price` rows."""

_WARRANTS = "21901 00700 1 500 0.182|21902 00700 2 440 0.121|28731 02318 1 55 0.094|57011 00700 3 430 0.255|67022 00700 4 530 0.236"
"""`code owner type strike price` rows: calls, puts, bulls and bears."""

_FUTURES: tuple[tuple[int, str, str, int, str, str], ...] = (
    (HK, "HSI", "Hang-Seng-Futures", 50, "23800", "1"),
    (HK, "MHI", "Mini-Hang-Seng-Futures", 10, "23800", "1"),
    (US, "ES", "E-mini-S&P-500", 50, "5900", "0.25"),
    (US, "MNQ", "Micro-E-mini-Nasdaq-100", 2, "20800", "0.25"),
    (US, "CL", "Crude-Oil", 1000, "69.5", "0.01"),
    (SG, "CN", "FTSE-China-A50", 1, "13500", "1"),
    (JP, "NK225", "Nikkei-225", 1000, "38600", "10"),
)
"""Market, root, name, multiplier, price, tick."""

_OPTION_OWNERS = ((HK, "00700", "TCH", 100, 20), (US, "AAPL", "AAPL", 100, 10), (US, "SPY", "SPY", 100, 10))
"""Market, underlying, class code, multiplier, distance of strikes."""

PLATE_MEMBERS = {
    "BK1001": ("02018", "01093", "01177"),
    "BK1107": ("00005", "00939", "01398", "03988", "02388"),
    "BK1910": ("00700", "09988", "03690", "01810", "09618"),
    "BK2999": ("AAPL", "MSFT", "NVDA", "META"),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """All instruments, by market and code."""

    by_key: dict[tuple[int, str], Instrument] = field(default_factory=dict)

    def find(self, market: int, code: str) -> Instrument | None:
        """`market` is a QotMarket; 2, the retired one for Hong Kong futures, is read as 1."""
        return self.by_key.get((HK if market == 2 else market, code))

    def find_traded(self, trade_market: int, code: str) -> Instrument | None:
        """`trade_market` is a TrdSecMarket."""
        for market, traded in TRADE_MARKET.items():
            if traded == trade_market:
                return self.by_key.get((market, code))
        return None

    def find_symbol(self, symbol: str) -> Instrument | None:
        """`HK.00700`."""
        prefix, _, code = symbol.partition(".")
        return next((self.by_key.get((market, code)) for market, name in PREFIX.items() if name == prefix), None)

    def of(self, market: int, kind: int) -> list[Instrument]:
        """All of one market and SecurityType."""
        return [found for found in self.by_key.values() if found.market == market and found.kind == kind]

    def options_of(self, owner: Instrument) -> list[Instrument]:
        return [found for found in self.by_key.values() if found.kind is Kind.OPTION and found.owner is owner]

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self.by_key.values())


def build(today: date) -> Listing:
    """The listing of a day; `today` decides which option and futures months exist."""
    listing = Listing()
    numbers = count(50_000_001)
    for market, kind, rows in _PLAIN:
        for row in rows.split("|"):
            code, name, lot, price = row.split(" ")
            base = Decimal(price)
            shares = (
                0 if kind in (Kind.INDEX, Kind.PLATE) else int(Decimal(400_000_000_000) / max(base, Decimal(1)) / 10)
            )
            tick = Decimal("0.001") if kind is Kind.ETF and market in (SH, SZ) else None
            tick = Decimal("0.01") if kind in (Kind.INDEX, Kind.PLATE) else tick
            _add(
                listing,
                Instrument(
                    market, code, name.replace("-", " "), kind, int(lot), base, _CURRENCY[market], next(numbers),
                    shares=shares, tick=tick,
                ),
            )  # fmt: skip
    _add_warrants(listing, numbers, today)
    _add_futures(listing, numbers, today)
    _add_options(listing, numbers, today)
    return listing


def _add(listing: Listing, instrument: Instrument) -> None:
    listing.by_key[instrument.market, instrument.code] = instrument


def _add_warrants(listing: Listing, numbers: Iterator[int], today: date) -> None:
    for row in _WARRANTS.split("|"):
        code, owner_code, side, strike, price = row.split(" ")
        owner = listing.by_key[HK, owner_code]
        name = f"{owner.name} {('', 'Call', 'Put', 'Bull', 'Bear')[int(side)]} {code}"
        _add(
            listing,
            Instrument(
                HK, code, name, Kind.WARRANT, 10_000, Decimal(price), Currency.HKD, next(numbers), owner=owner,
                strike=Decimal(strike), side=int(side), expiry=_month_end(today, 6).isoformat(), shares=80_000_000,
            ),
        )  # fmt: skip


def _add_futures(listing: Listing, numbers: Iterator[int], today: date) -> None:
    for market, root, name, multiplier, price, tick in _FUTURES:
        months: list[Instrument] = []
        for ahead in (1, 2):
            expiry = _month_end(today, ahead)
            months.append(
                Instrument(
                    market, f"{root}{expiry:%y%m}", f"{name.replace('-', ' ')} {expiry:%y%m}", Kind.FUTURE, multiplier,
                    Decimal(price) + (Decimal(tick) * 4 if ahead == 2 else 0),
                    Currency.USD if market == SG else _CURRENCY[market], next(numbers),
                    tick=Decimal(tick), expiry=expiry.isoformat(),
                )
            )  # fmt: skip
            _add(listing, months[-1])
        near = months[0]
        _add(
            listing,
            Instrument(
                market, f"{root}main", f"{name.replace('-', ' ')} Main", Kind.FUTURE, multiplier, near.base, near.currency,
                next(numbers), tick=Decimal(tick), owner=near, main=True,
            ),
        )  # fmt: skip


def _add_options(listing: Listing, numbers: Iterator[int], today: date) -> None:
    for market, owner_code, root, multiplier, distance in _OPTION_OWNERS:
        owner = listing.by_key[market, owner_code]
        middle = int(owner.base) // distance * distance
        for ahead in (1, 2):
            expiry = _month_end(today, ahead) if market == HK else _third_friday(today, ahead)
            for offset in range(-2, 3):
                strike = Decimal(middle + offset * distance)
                for side in (1, 2):
                    code = f"{root}{expiry:%y%m%d}{'C' if side == 1 else 'P'}{int(strike * 1000)}"
                    _add(
                        listing,
                        Instrument(
                            market, code, f"{owner.name} {expiry:%y%m%d} {strike} {'C' if side == 1 else 'P'}", Kind.OPTION,
                            multiplier, Decimal(10), owner.currency, next(numbers), tick=Decimal("0.01"), owner=owner,
                            strike=strike, side=side, expiry=expiry.isoformat(),
                        ),
                    )  # fmt: skip


def _month(today: date, ahead: int) -> tuple[int, int]:
    index = today.year * 12 + today.month - 1 + ahead
    return index // 12, index % 12 + 1


def _month_end(today: date, ahead: int) -> date:
    """The last business day but one of the month `ahead` months from now, when Hong Kong contracts end."""
    year, month = _month(today, ahead)
    days = [date(year, month, day) for day in range(1, monthrange(year, month)[1] + 1)]
    return [day for day in days if day.weekday() < 5][-2]


def _third_friday(today: date, ahead: int) -> date:
    year, month = _month(today, ahead)
    first = date(year, month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)
