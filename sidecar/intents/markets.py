"""Which markets exist, how their codes are written and which belong together; holds no whitelist and asks nobody.

Three numberings meet here (protocol facts, section 5): an account's TrdMarket, the TrdSecMarket of a security in an
order, and the QotMarket under which its quotes are asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sidecar.errors import BodyError
from sidecar.intents.model import Security
from sidecar.wire.symbols import PREFIXES

HK, US, SH, SZ, SG, JP, AU, MY, CA, CRYPTO, EVENT = 1, 2, 31, 32, 41, 51, 61, 71, 81, 101, 111
HKCC = 4
"""The TrdMarket of Stock Connect."""
FUTURES = frozenset({5, 10, 11, 12, 13})
"""TrdMarkets of futures, whose prices may be zero or negative."""


@dataclass(frozen=True, slots=True)
class _Market:
    """One TrdSecMarket. `word` as keys.json says it, `prefix` as symbols begin, `code` the only accepted spelling."""

    word: str
    prefix: str
    code: re.Pattern[str]
    example: str

    @property
    def qot_market(self) -> int:
        return PREFIXES[self.prefix].qot


# Upper case as OpenD writes it; the lower-case endings are those of continuous futures (`HSImain`).
_CODE = re.compile(r"[A-Z0-9._@/-]{1,47}(?:main|current|next)?")
# HK digits are five (stocks, warrants); anything else in HK starts with a letter (options, futures).
_CODE_HK = re.compile(r"[0-9]{5}|[A-Z][A-Z0-9._@/-]{0,46}(?:main|current|next)?")
_CODE_CN = re.compile(r"[0-9]{6}")

_MARKETS: dict[int, _Market] = {
    HK: _Market("HK", "HK", _CODE_HK, "00700"),
    US: _Market("US", "US", _CODE, "AAPL"),
    SH: _Market("CN", "SH", _CODE_CN, "600519"),
    SZ: _Market("CN", "SZ", _CODE_CN, "000001"),
    SG: _Market("SG", "SG", _CODE, "D05"),
    JP: _Market("JP", "JP", _CODE, "7203"),
    AU: _Market("AU", "AU", _CODE, "BHP"),
    MY: _Market("MY", "MY", _CODE, "1155"),
    CA: _Market("CA", "CA", _CODE, "RY"),
    CRYPTO: _Market("CC", "CC", _CODE, "BTCUSD"),
    EVENT: _Market("EC", "EC", _CODE, "KXHIGH-26"),
}

_ROUTES: dict[int, frozenset[int]] = {
    1: frozenset({HK}),
    2: frozenset({US}),
    3: frozenset({SH, SZ}),
    HKCC: frozenset({SH, SZ}),
    5: frozenset({HK, US, SG, JP}),
    6: frozenset({SG}),
    7: frozenset({CRYPTO}),
    8: frozenset({AU}),
    10: frozenset({HK}),
    11: frozenset({US}),
    12: frozenset({SG}),
    13: frozenset({JP}),
    15: frozenset({JP}),
    17: frozenset({EVENT}),
    111: frozenset({MY}),
    112: frozenset({CA}),
}
"""TrdMarket → the TrdSecMarkets an order in it may name. Fund markets (113, 123-126) are only read: not here."""

_SEC_MARKET_OF_QOT: dict[int, int] = {market.qot_market: number for number, market in _MARKETS.items()} | {2: HK}

_PREFIXES = frozenset(market.prefix for market in _MARKETS.values())


def security_of_order(trd_market: int, sec_market: int, code: object) -> tuple[Security, int]:
    """The security of a single-leg order, and its TrdSecMarket, to be set in the order where the client left it out.

    `sec_market` 0 means absent. Raises BodyError `malformed_request` when the two markets do not name exactly one.
    """
    allowed = _ROUTES.get(trd_market)
    if allowed is None:
        raise BodyError("malformed_request", f"no order can be placed in trdMarket `{trd_market}`")
    if not sec_market:
        if len(allowed) != 1:
            choices = " or ".join(f"{number} ({_MARKETS[number].prefix})" for number in sorted(allowed))
            raise BodyError(
                "malformed_request", f"secMarket is missing and trdMarket `{trd_market}` leaves it open: set {choices}"
            )
        (sec_market,) = allowed
    elif sec_market not in allowed:
        raise BodyError("malformed_request", f"secMarket `{sec_market}` does not belong to trdMarket `{trd_market}`")
    return _security(_MARKETS[sec_market], trd_market, code), sec_market


def takes_orders(trd_market: int) -> bool:
    """Whether there can be orders in it; fund markets, for one, are only read."""
    return trd_market in _ROUTES


def security_of_leg(trd_market: int, qot_market: int, code: object) -> Security:
    """The security of one leg of a combo. Raises BodyError as `security_of_order` does."""
    sec_market = _SEC_MARKET_OF_QOT.get(qot_market)
    if sec_market is None:
        raise BodyError("malformed_request", f"market `{qot_market}` of a leg is not known")
    return security_of_order(trd_market, sec_market, code)[0]


def security_of_report(trd_market: int, sec_market: int, code: object) -> Security | None:
    """The security of an order as OpenD reports it, in any spelling; None where it cannot be told. Never raises."""
    market = _MARKETS.get(sec_market)
    if market is None or not isinstance(code, str) or not code:
        return None
    return Security(market.word, f"{market.prefix}.{code}", market.qot_market, code, trd_market)


def security_of_leg_report(trd_market: int, qot_market: int, code: object) -> Security | None:
    """As `security_of_report`, for a leg, which OpenD names by QotMarket."""
    return security_of_report(trd_market, _SEC_MARKET_OF_QOT.get(qot_market, 0), code)


def symbol_of_quote(qot_market: int, code: str) -> str | None:
    """The symbol of a security that OpenD names by QotMarket and code, e.g. an option's underlying; None for no market of ours."""
    sec_market = _SEC_MARKET_OF_QOT.get(qot_market)
    return None if sec_market is None else f"{_MARKETS[sec_market].prefix}.{code}"


def _security(market: _Market, trd_market: int, code: object) -> Security:
    if not isinstance(code, str) or not market.code.fullmatch(code) or ("." in code and _prefixed(code)):
        raise BodyError("malformed_request", _code_refused(market, code))
    return Security(market.word, f"{market.prefix}.{code}", market.qot_market, code, trd_market)


def _prefixed(code: str) -> bool:
    """`US.AAPL` in place of `AAPL`: a dot is part of some codes (`BRK.B`), a market before it is not."""
    return code.partition(".")[0] in _PREFIXES


def _code_refused(market: _Market, code: object) -> str:
    """SECURITY: a code in another spelling could mean, to OpenD, a security other than the one the rules looked at."""
    if not isinstance(code, str):
        return "code is not valid UTF-8"
    if not code:
        return "code is empty"
    shown = ascii(code[:60])[1:-1]
    wanted = code.strip().upper()
    if _prefixed(wanted):
        wanted = wanted.partition(".")[2]
    if market.code is _CODE_HK and wanted.isdigit() and len(wanted) < 5:
        wanted = wanted.zfill(5)
    if wanted != code and market.code.fullmatch(wanted):
        return f"code `{shown}` is not in OpenD's spelling, write `{wanted}`"
    return f"code `{shown}` is not a code of the market {market.prefix}, which writes them like `{market.example}`"
