"""Options, warrants and futures: chains, expirations, references, contract data. Quotes them no differently from anything else."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.answers import Answer, Failure, Handler, response
from sidecar.sandbox.instruments import HK, SG, US, Currency, Kind
from sidecar.sandbox.listing import Listing
from sidecar.sandbox.quote_messages import security
from sidecar.sandbox.session import Session
from sidecar.sandbox.static_data import find_all, static, unknown

_EXCHANGES = {HK: "HKEX", US: "CME", SG: "SGX", 41: "OSE"}


class DerivativesDesk:
    """Handlers of 3206, 3209, 3218 and 3224."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def handlers(self) -> dict[int, Handler]:
        return {
            3206: self.references,
            3209: self.option_chain,
            3218: self.futures,
            3224: self.expirations,
        }

    def references(self, session: Session, c2s: Any) -> Answer:
        """3206: warrants of a stock (type 1) or futures of a main code (type 2)."""
        owner = self._listing.find(c2s.security.market, c2s.security.code)
        if owner is None:
            return unknown(c2s.security)
        answer = response("Qot_GetReference")
        root = owner.code.removesuffix("main") if owner.main else "\0"
        for instrument in self._listing:
            warrant = c2s.referenceType == 1 and instrument.kind is Kind.WARRANT and instrument.owner is owner
            contract = c2s.referenceType == 2 and instrument.kind is Kind.FUTURE and instrument.code[:-4] == root
            if warrant or (contract and instrument.market == owner.market):
                static(answer.s2c.staticInfoList.add(), instrument)
        return answer

    def option_chain(self, session: Session, c2s: Any) -> Answer:
        """3209, without its filters by Greeks; type 1 calls, 2 puts, else both."""
        owner = self._listing.find(c2s.owner.market, c2s.owner.code)
        if owner is None:
            return unknown(c2s.owner)
        answer = response("Qot_GetOptionChain")
        chains: dict[str, dict[str, Any]] = {}
        for option in self._listing.options_of(owner):
            if not c2s.beginTime[:10] <= option.expiry <= c2s.endTime[:10] or c2s.type not in (0, option.side):
                continue
            if option.expiry not in chains:
                chain = answer.s2c.optionChain.add(strikeTime=option.expiry)
                chains[option.expiry] = {"chain": chain}
            items = chains[option.expiry]
            strike = str(option.strike)
            if strike not in items:
                items[strike] = items["chain"].option.add()
            static(items[strike].call if option.side == 1 else items[strike].put, option)
        return answer

    def expirations(self, session: Session, c2s: Any) -> Answer:
        """3224."""
        owner = self._listing.find(c2s.owner.market, c2s.owner.code)
        if owner is None:
            return unknown(c2s.owner)
        answer = response("Qot_GetOptionExpirationDate")
        today = clock.market_day(owner.market, time.time())
        for expiry in sorted({option.expiry for option in self._listing.options_of(owner)}):
            day = date.fromisoformat(expiry)
            answer.s2c.dateList.add(
                strikeTime=expiry,
                strikeTimestamp=clock.timestamp_of(owner.market, day),
                optionExpiryDateDistance=(day - today).days,
                cycle=2,
            )
        return answer

    def futures(self, session: Session, c2s: Any) -> Answer:
        """3218: contract size, currency, smallest step."""
        found = find_all(self._listing, c2s.securityList)
        if isinstance(found, Failure):
            return found
        answer = response("Qot_GetFutureInfo")
        for instrument in found:
            if instrument.kind is not Kind.FUTURE:
                return Failure(f"{instrument.symbol} is not a future")
            info = answer.s2c.futureInfoList.add(security=security(instrument), name=instrument.name)
            info.lastTradeTime = "" if instrument.main else instrument.expiry
            info.ownerOther = instrument.name
            info.exchange = _EXCHANGES.get(instrument.market, "")
            info.contractType = "Index"
            info.contractSize = float(instrument.lot_size)
            info.contractSizeUnit = f"{Currency(instrument.currency).name} x index point"
            info.quoteCurrency = Currency(instrument.currency).name
            info.minVar = float(instrument.step(instrument.base))
            info.minVarUnit = "index point"
            info.quoteUnit = "index point"
            info.tradeTime.add(begin=555.0, end=720.0)
            info.tradeTime.add(begin=780.0, end=990.0)
            info.timeZone = str(clock.zone(instrument.market))
            info.exchangeFormatUrl = ""
            origin = instrument.owner if instrument.main and instrument.owner else instrument
            info.origin.market, info.origin.code = origin.market, origin.code
        return answer
