"""The whitelists of markets, symbols and sides (check 6), one function each. They know no amounts and ask nobody."""

from __future__ import annotations

import re

from sidecar.intents.model import CancelOrder, Intent, Security
from sidecar.policy.case import Case, passed, refused
from sidecar.policy.decision import Code, Finding
from sidecar.policy.key import Key
from sidecar.policy.usage import Account, Instrument, InstrumentKind

OPTIONS = "@options"
_HKCC = 4
"""The TrdMarket of Stock Connect."""
_CANNOT_CANCEL_ALL = "cannot cancel every order of an account at once; cancel one by one"


def market(case: Case) -> Finding | None:
    allowed = case.key.allowed_markets
    if allowed is None:
        return None
    if _cancels_everything(case.intent):
        return refused(
            "market",
            Code.MARKET,
            f"a key with allowed_markets {_CANNOT_CANCEL_ALL}",
        )
    seen = ""
    for security in (leg.security for leg in case.legs):
        if not _in_markets(allowed, security, case.facts.account):
            return refused(
                "market",
                Code.MARKET,
                f"market {security.market} is not allowed, this key has {', '.join(sorted(allowed))}",
            )
        seen = security.market
    return passed("market", f"{seen} is allowed") if seen else None


def symbol(case: Case) -> Finding | None:
    return _symbol(case, last=True)


def symbol_so_far(case: Case) -> Finding | None:
    """As `symbol`, but where only OpenD can tell (the kind for `@options`, the contract behind `HSImain`), lets the order
    go on to be asked for."""
    return _symbol(case, last=False)


def _symbol(case: Case, *, last: bool) -> Finding | None:
    allowed = case.key.allowed_symbols
    if allowed is None:
        return None
    if _cancels_everything(case.intent):
        return refused(
            "symbol",
            Code.SYMBOL,
            f"a key with allowed_symbols {_CANNOT_CANCEL_ALL}",
        )
    detail = ""
    for leg in case.legs:
        security, instrument = leg.security, leg.known.instrument
        if named(allowed, security):
            detail = f"{security.symbol} is allowed"
            continue
        if security.continuous and not last:
            detail = f"{security.symbol} may stand for an allowed contract"
            continue
        entries = _option_entries(allowed, security)
        if entries and _underlying_open(security, instrument):
            if instrument is None and not last:
                detail = f"{security.symbol} may be an allowed option"
                continue
            return refused(
                "symbol",
                Code.INSTRUMENT_UNKNOWN,
                f"whether `{security.symbol}` is an option of {_underlyings(entries)} could not be found out",
            )
        if not any(_is_option_of(entry, security, instrument) for entry in entries):
            return refused("symbol", Code.SYMBOL, f"`{security.symbol}` is not one of this key's allowed_symbols")
        detail = f"{security.symbol} is an allowed option"
    return passed("symbol", detail) if detail else None


def named(allowed: frozenset[str], security: Security) -> bool:
    """Whether a symbol is allowed by its name alone: `US.AAPL`, or `US.*` for all of a market."""
    return security.symbol in allowed or f"{security.symbol.partition('.')[0]}.*" in allowed


def asks_for_kind(key: Key, security: Security) -> bool:
    """Whether only the instrument's kind can tell if the symbol is allowed."""
    allowed = key.allowed_symbols
    return allowed is not None and not named(allowed, security) and bool(_option_entries(allowed, security))


def _option_entries(allowed: frozenset[str], security: Security) -> tuple[str, ...]:
    """The `@options` entries of the security's market."""
    prefix = security.symbol.partition(".")[0] + "."
    return tuple(sorted(entry for entry in allowed if entry.endswith(OPTIONS) and entry.startswith(prefix)))


def _underlying_open(security: Security, instrument: Instrument | None) -> bool:
    """Whether facts are missing to tell what a security is an option of. In the US the code alone tells."""
    if instrument is None:
        return True
    return instrument.kind is InstrumentKind.OPTION and instrument.underlying is None and security.market != "US"


def _is_option_of(entry: str, security: Security, instrument: Instrument | None) -> bool:
    """By the underlying OpenD names; else by the code, which in the US is the underlying's, expiry, C or P, strike."""
    if instrument is None or instrument.kind is not InstrumentKind.OPTION:
        return False
    wanted = entry.removesuffix(OPTIONS)
    if instrument.underlying is not None:
        return instrument.underlying == wanted
    return re.fullmatch(re.escape(wanted) + r"[0-9]{6}[CP][0-9]+", security.symbol) is not None


def _underlyings(entries: tuple[str, ...]) -> str:
    return " or ".join(entry.removesuffix(OPTIONS) for entry in entries)


def side(case: Case) -> Finding | None:
    allowed = case.key.allowed_trd_sides
    if allowed is None:
        return None
    seen = ""
    for one in (leg.side for leg in case.legs):
        if one not in allowed:
            return refused("side", Code.SIDE, f"side {one} is not allowed, this key has {', '.join(sorted(allowed))}")
        seen = one
    return passed("side", f"{seen} is allowed") if seen else None


def _cancels_everything(intent: Intent) -> bool:
    return isinstance(intent, CancelOrder) and intent.for_all


def _in_markets(allowed: frozenset[str], security: Security, account: Account | None) -> bool:
    """`CN` is Shanghai and Shenzhen by every route; `HKCC` is a route, which the account must have besides."""
    if security.market in allowed:
        return True
    by_connect = security.market == "CN" and security.trd_market == _HKCC
    return "HKCC" in allowed and by_connect and account is not None and _HKCC in account.markets
