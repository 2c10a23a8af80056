"""The words by which a model says OpenD's numbers. Reads nothing.

They are those of the official Python SDK, which models know; the numbers are those of the .proto files.
"""

from __future__ import annotations

from collections.abc import Mapping


def _numbered(names: str, first: int = 0) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), first)}


TRD_ENV = {"SIMULATE": 0, "REAL": 1}
TRD_SIDE = _numbered("BUY SELL SELL_SHORT BUY_BACK", 1)
TRD_MARKET = {
    "HK": 1, "US": 2, "CN": 3, "HKCC": 4, "FUTURES": 5, "SG": 6, "CRYPTO": 7, "AU": 8, "FUTURES_SIMULATE_HK": 10,
    "FUTURES_SIMULATE_US": 11, "FUTURES_SIMULATE_SG": 12, "FUTURES_SIMULATE_JP": 13, "JP": 15, "PREDICTION": 17,
    "MY": 111, "CA": 112, "HKFUND": 113, "USFUND": 123, "SGFUND": 124, "MYFUND": 125, "JPFUND": 126,
}  # fmt: skip
ORDER_TYPE = {"NORMAL": 1, "MARKET": 2} | _numbered(
    "ABSOLUTE_LIMIT AUCTION AUCTION_LIMIT SPECIAL_LIMIT SPECIAL_LIMIT_ALL STOP STOP_LIMIT MARKET_IF_TOUCHED "
    "LIMIT_IF_TOUCHED TRAILING_STOP TRAILING_STOP_LIMIT TWAP TWAP_LIMIT VWAP VWAP_LIMIT",
    5,
)
TRAIL_TYPE = {"RATIO": 1, "AMOUNT": 2}
TIME_IN_FORCE = _numbered("DAY GTC IOC GTD")
SESSION = {"NONE": 0, "RTH": 1, "ETH": 2, "ALL": 3, "OVERNIGHT": 4}
MODIFY_OP = _numbered("NORMAL CANCEL DISABLE ENABLE DELETE", 1)
ORDER_STATUS = {
    "UNSUBMITTED": 0, "WAITING_SUBMIT": 1, "SUBMITTING": 2, "SUBMIT_FAILED": 3, "TIMEOUT": 4, "SUBMITTED": 5,
    "FILLED_PART": 10, "FILLED_ALL": 11, "CANCELLING_PART": 12, "CANCELLING_ALL": 13, "CANCELLED_PART": 14,
    "CANCELLED_ALL": 15, "FAILED": 21, "DISABLED": 22, "DELETED": 23, "FILL_CANCELLED": 24,
}  # fmt: skip
CURRENCY = _numbered("HKD USD CNH JPY SGD AUD CAD MYR NZD", 1)
SECURITY_FIRM = _numbered("FUTUSECURITIES FUTUINC FUTUSG FUTUAU FUTUCA FUTUMY FUTUJP", 1)
CASH_FLOW = {"IN": 1, "OUT": 2}
QOT_MARKET = {
    "HK": 1, "US": 11, "SH": 21, "SZ": 22, "SG": 31, "JP": 41, "AU": 51, "MY": 61, "CA": 71, "FX": 81, "CC": 91, "EC": 101,
}  # fmt: skip
TRADE_DATE_MARKET = _numbered("HK US CN NT ST JP_FUTURE SG_FUTURE SG MY JP", 1)
KL_TYPE = {
    "K_1M": 1, "K_3M": 10, "K_5M": 6, "K_10M": 12, "K_15M": 7, "K_30M": 8, "K_60M": 9, "K_120M": 13, "K_180M": 14,
    "K_240M": 15, "K_DAY": 2, "K_WEEK": 3, "K_MON": 4, "K_QUARTER": 11, "K_YEAR": 5,
}  # fmt: skip
REHAB_TYPE = {"NONE": 0, "QFQ": 1, "HFQ": 2}
SUB_TYPE = {
    "QUOTE": 1, "ORDER_BOOK": 2, "TICKER": 4, "RT_DATA": 5, "K_DAY": 6, "K_5M": 7, "K_15M": 8, "K_30M": 9, "K_60M": 10,
    "K_1M": 11, "K_WEEK": 12, "K_MON": 13, "BROKER": 14, "K_QUARTER": 15, "K_YEAR": 16, "K_3M": 17, "K_10M": 18,
    "K_120M": 19, "K_180M": 20, "K_240M": 21, "ORDER_BOOK_ODD": 22,
}  # fmt: skip
SECURITY_TYPE = {
    "BOND": 1, "BWRT": 2, "STOCK": 3, "ETF": 4, "WARRANT": 5, "IDX": 6, "PLATE": 7, "DRVT": 8, "PLATESET": 9, "FUTURE": 10,
    "FOREX": 11, "CRYPTO": 12,
}  # fmt: skip
PLATE_SET = _numbered("ALL INDUSTRY REGION CONCEPT OTHER")
OPTION_TYPE = {"ALL": 0, "CALL": 1, "PUT": 2}
OPTION_CONDITION = {"ALL": 0, "WITHIN": 1, "OUTSIDE": 2}
PERIOD = _numbered("INTRADAY DAY WEEK MONTH", 1)
REFERENCE = {"WARRANT": 1, "FUTURE": 2}
WARRANT_TYPE = _numbered("CALL PUT BULL BEAR INLINE", 1)
WARRANT_ORDER = {
    "CODE": 1, "CUR_PRICE": 2, "CHANGE_RATE": 4, "VOLUME": 10, "TURNOVER": 11, "SCORE": 12, "PREMIUM": 13, "DELTA": 15,
    "IMPLIED_VOLATILITY": 16, "STRIKE_PRICE": 18, "MATURITY_TIME": 20, "STREET_RATE": 28,
}  # fmt: skip

TRADED_IN: Mapping[str, tuple[str, ...]] = {
    "HK": ("HK",), "US": ("US",), "SH": ("CN", "HKCC"), "SZ": ("CN", "HKCC"), "SG": ("SG",), "JP": ("JP",), "AU": ("AU",),
    "MY": ("MY",), "CA": ("CA",), "CC": ("CRYPTO",), "EC": ("PREDICTION",),
}  # fmt: skip
"""What a symbol begins with → the TrdMarkets in which it is traded; futures apart, whose symbols begin like stocks'."""
