"""Finding instruments by what a request names, and their static description. Answers nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.answers import Failure
from sidecar.sandbox.instruments import HK, PREFIX, SG, SH, SZ, US, Instrument, Kind
from sidecar.sandbox.listing import Listing

_EXCHANGE_TYPE = {HK: 1, US: 5, SH: 14, SZ: 15, SG: 17, 41: 21}
"""Qot_Common.ExchType by QotMarket."""


def find_all(listing: Listing, wanted: Iterable[Any]) -> list[Instrument] | Failure:
    """The instruments of a securityList, or the refusal of the first that is not listed."""
    found: list[Instrument] = []
    for one in wanted:
        instrument = listing.find(one.market, one.code)
        if instrument is None:
            return unknown(one)
        found.append(instrument)
    return found


def unknown(wanted: Any) -> Failure:
    """The refusal of a security that the sandbox does not list."""
    return Failure(f"Unknown stock {wanted.code} in market {wanted.market}")


def static(info: Any, instrument: Instrument) -> None:
    """Fill a Qot_Common.SecurityStaticInfo."""
    data = info.basic
    data.security.market, data.security.code = instrument.market, instrument.code
    data.id, data.lotSize, data.secType = instrument.number, instrument.lot_size, int(instrument.kind)
    data.name, data.listTime, data.delisting = instrument.name, instrument.listed, False
    data.listTimestamp = 0.0
    data.exchType = _EXCHANGE_TYPE.get(instrument.market, 0)
    owner = instrument.owner
    if instrument.kind is Kind.WARRANT and owner is not None:
        info.warrantExData.type = instrument.side
        info.warrantExData.owner.market, info.warrantExData.owner.code = owner.market, owner.code
    elif instrument.kind is Kind.OPTION and owner is not None:
        option = info.optionExData
        option.type, option.owner.market, option.owner.code = instrument.side, owner.market, owner.code
        option.strikeTime, option.strikePrice = instrument.expiry, float(instrument.strike)
        option.suspend, option.market = False, PREFIX[instrument.market]
        option.strikeTimestamp = clock.timestamp_of(instrument.market, date.fromisoformat(instrument.expiry))
        option.expirationCycle = 2
    elif instrument.kind is Kind.FUTURE:
        info.futureExData.lastTradeTime = "" if instrument.main else instrument.expiry
        info.futureExData.isMainContract = instrument.main
