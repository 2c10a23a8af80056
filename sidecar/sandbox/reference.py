"""What does not move by the second: static data, snapshots, plates, option chains, history, calendars. Real-time quotes are in `quotes`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import date
from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.answers import Answer, Failure, Handler, response, wrapped
from sidecar.sandbox.history import KL_TYPES, History
from sidecar.sandbox.instruments import HK, PREFIX, SG, SH, SZ, US, Currency, Instrument, Kind
from sidecar.sandbox.listing import PLATE_MEMBERS
from sidecar.sandbox.market import Market
from sidecar.sandbox.quote_messages import cached, security, snapshot
from sidecar.sandbox.quotes import unknown
from sidecar.sandbox.screener import StockFilter
from sidecar.sandbox.session import Session
from sidecar.sandbox.system import SystemDesk

_SNAPSHOT_MAX = 400
_PAGE = 1000
_TRADE_DATE_MARKETS = {1: HK, 2: US, 3: SH, 4: SH, 5: HK, 6: 41, 7: SG, 8: SG, 10: 41}
_EXCHANGES = {HK: "HKEX", US: "CME", SG: "SGX", 41: "OSE"}
_EXCHANGE_TYPE = {HK: 1, US: 5, SH: 14, SZ: 15, SG: 17, 41: 21}


class ReferenceDesk:
    """Handlers of the basic data requests, 3103 to 3224."""

    def __init__(
        self, market: Market, history: History, system: SystemDesk, history_quota: int, enforced: bool
    ) -> None:
        self._market = market
        self._listing = market.listing
        self._history = history
        self._system = system
        self._history_quota = history_quota
        self._enforced = enforced
        self._history_used: dict[Instrument, float] = {}
        self._screener = StockFilter(market)

    def handlers(self) -> dict[int, Handler]:
        return {
            3103: self.history_bars,
            3104: self.history_quota,
            3105: self.rehabilitations,
            3201: self.suspensions,
            3202: self.static_info,
            3203: self.snapshots,
            3204: self.plates,
            3205: self.plate_members,
            3206: self.references,
            3207: self.owner_plates,
            3209: self.option_chain,
            3213: self.watch_list,
            3215: self._screener.answer,
            3218: self.futures,
            3219: self.trade_dates,
            3222: self.watch_list_groups,
            3223: self.market_states,
            3224: self.expirations,
        }

    def _instruments(self, wanted: Iterable[Any]) -> list[Instrument] | Failure:
        found: list[Instrument] = []
        for one in wanted:
            instrument = self._listing.find(one.market, one.code)
            if instrument is None:
                return unknown(one)
            found.append(instrument)
        return found

    # --- history ---

    def history_bars(self, session: Session, c2s: Any) -> Answer:
        """3103: K-lines by page. nextReqKey is the number of lines already sent; OpenD's is opaque as well."""
        instrument = self._listing.find(c2s.security.market, c2s.security.code)
        if instrument is None:
            return unknown(c2s.security)
        begin, end = clock.parse_day(c2s.beginTime), clock.parse_day(c2s.endTime)
        if begin is None or end is None or c2s.klType not in KL_TYPES:
            return Failure("beginTime, endTime or klType is wrong")
        if instrument not in self._history_used:
            if self._enforced and len(self._history_used) >= self._history_quota:
                return Failure(f"Insufficient historical K-line quota: all {self._history_quota} are used")
            self._history_used[instrument] = time.time()
        start = int.from_bytes(c2s.nextReqKey, "big") if c2s.HasField("nextReqKey") else 0
        size = min(c2s.maxAckKLNum, _PAGE) if c2s.maxAckKLNum > 0 else _PAGE
        answer = response("Qot_RequestHistoryKL")
        answer.s2c.security.CopyFrom(security(instrument))
        answer.s2c.name = instrument.name
        bars = self._history.bars(self._market.quotes[instrument], c2s.klType, begin, end, time.time())
        for index, bar in enumerate(bars):
            if index >= start + size:
                answer.s2c.nextReqKey = (start + size).to_bytes(8, "big")
                break
            if index >= start:
                answer.s2c.klList.append(bar)
        return answer

    def history_quota(self, session: Session, c2s: Any) -> Answer:
        """3104: one security counts once, however often its history is asked for (documented)."""
        answer = response("Qot_RequestHistoryKLQuota")
        answer.s2c.usedQuota = len(self._history_used)
        answer.s2c.remainQuota = max(self._history_quota - len(self._history_used), 0)
        if c2s.bGetDetail:
            for instrument, when in self._history_used.items():
                answer.s2c.detailList.add(
                    security=security(instrument),
                    name=instrument.name,
                    requestTime=clock.text(HK, when),
                    requestTimeStamp=int(when),
                )
        return answer

    def rehabilitations(self, session: Session, c2s: Any) -> Answer:
        """3105: one made-up dividend a year, 2 % of the price, for stocks."""
        instrument = self._listing.find(c2s.security.market, c2s.security.code)
        if instrument is None:
            return unknown(c2s.security)
        answer = response("Qot_RequestRehab")
        if instrument.kind is Kind.STOCK:
            this_year = clock.market_day(instrument.market, time.time()).year
            for year in range(this_year - 3, this_year):
                dividend = round(float(instrument.base) * 0.02, 3)
                stamp = clock.timestamp_of(instrument.market, clock.last_trading_day(date(year, 6, 15)))
                answer.s2c.rehabList.add(
                    time=clock.text(instrument.market, stamp)[:10],
                    companyActFlag=64,
                    fwdFactorA=1.0,
                    fwdFactorB=-dividend,
                    bwdFactorA=1.0,
                    bwdFactorB=dividend,
                    dividend=dividend,
                    timestamp=stamp,
                )
        return answer

    def suspensions(self, session: Session, c2s: Any) -> Answer:
        """3201: nothing is ever suspended here."""
        found = self._instruments(c2s.securityList)
        if isinstance(found, Failure):
            return found
        return response("Qot_GetSuspend")

    # --- static data and snapshots ---

    def static_info(self, session: Session, c2s: Any) -> Answer:
        """3202: by list, which wins when both are given (documented), or by market and type."""
        answer = response("Qot_GetStaticInfo")
        if c2s.securityList:
            found = [self._listing.find(wanted.market, wanted.code) for wanted in c2s.securityList]
            for instrument in found:
                if instrument is not None:  # OpenD leaves out what it does not know (inferred)
                    static(answer.s2c.staticInfoList.add(), instrument)
            if not answer.s2c.staticInfoList:
                return unknown(c2s.securityList[0])
            return answer
        for instrument in self._listing.of(HK if c2s.market == 2 else c2s.market, c2s.secType):
            static(answer.s2c.staticInfoList.add(), instrument)
        return answer

    def snapshots(self, session: Session, c2s: Any) -> Answer:
        """3203: at most 400 at once (documented), answered from bytes made once for each move of a price."""
        if not 0 < len(c2s.securityList) <= _SNAPSHOT_MAX:
            return Failure(f"A snapshot takes 1 to {_SNAPSHOT_MAX} securities")
        quotes, find = self._market.quotes, self._listing.find
        parts: list[bytes] = []
        for wanted in c2s.securityList:
            instrument = find(wanted.market, wanted.code)
            if instrument is None:
                return unknown(wanted)
            parts.append(cached(quotes[instrument], "snapshot", snapshot))
        return wrapped(parts)

    def market_states(self, session: Session, c2s: Any) -> Answer:
        """3223."""
        found = self._instruments(c2s.securityList)
        if isinstance(found, Failure):
            return found
        answer = response("Qot_GetMarketState")
        for instrument in found:
            answer.s2c.marketInfoList.add(
                security=security(instrument), name=instrument.name, marketState=self._system.state_of(instrument)
            )
        return answer

    def trade_dates(self, session: Session, c2s: Any) -> Answer:
        """3219: Monday to Friday; the sandbox has no holidays."""
        begin, end = clock.parse_day(c2s.beginTime), clock.parse_day(c2s.endTime)
        market = _TRADE_DATE_MARKETS.get(c2s.market)
        if begin is None or end is None or market is None:
            return Failure("market, beginTime or endTime is wrong")
        answer = response("Qot_RequestTradeDate")
        for day in clock.trading_days(begin, end):
            answer.s2c.tradeDateList.add(
                time=day.isoformat(), timestamp=clock.timestamp_of(market, day), tradeDateType=0
            )
        return answer

    # --- plates, warrants, watch lists ---

    def plates(self, session: Session, c2s: Any) -> Answer:
        """3204."""
        answer = response("Qot_GetPlateSet")
        for plate in self._listing.of(c2s.market, Kind.PLATE):
            answer.s2c.plateInfoList.add(plate=security(plate), name=plate.name, plateType=1)
        return answer

    def plate_members(self, session: Session, c2s: Any) -> Answer:
        """3205."""
        if c2s.plate.code not in PLATE_MEMBERS:
            return unknown(c2s.plate)
        answer = response("Qot_GetPlateSecurity")
        for code in PLATE_MEMBERS[c2s.plate.code]:
            member = self._listing.find(c2s.plate.market, code)
            if member is not None:
                static(answer.s2c.staticInfoList.add(), member)
        return answer

    def owner_plates(self, session: Session, c2s: Any) -> Answer:
        """3207."""
        found = self._instruments(c2s.securityList)
        if isinstance(found, Failure):
            return found
        answer = response("Qot_GetOwnerPlate")
        for instrument in found:
            entry = answer.s2c.ownerPlateList.add(security=security(instrument), name=instrument.name)
            for code, members in PLATE_MEMBERS.items():
                plate = self._listing.find(instrument.market, code)
                if plate is not None and instrument.code in members:
                    entry.plateInfoList.add(plate=security(plate), name=plate.name, plateType=1)
        return answer

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

    def watch_list(self, session: Session, c2s: Any) -> Answer:
        """3213: every group is empty."""
        return response("Qot_GetUserSecurity")

    def watch_list_groups(self, session: Session, c2s: Any) -> Answer:
        """3222: the groups every user has."""
        answer = response("Qot_GetUserSecurityGroup")
        for name in ("All", "HK", "US"):
            answer.s2c.groupList.add(groupName=name, groupType=2)
        return answer

    # --- derivatives ---

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
        found = self._instruments(c2s.securityList)
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
