"""Static data, snapshots, plates, watch lists, calendars, market states. Derivatives and history are in modules of their own."""

from __future__ import annotations

from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.answers import Answer, Failure, Handler, response, wrapped
from sidecar.sandbox.instruments import HK, SG, SH, SZ, US, Kind
from sidecar.sandbox.listing import PLATE_MEMBERS
from sidecar.sandbox.market import Market
from sidecar.sandbox.quote_messages import cached, security, snapshot
from sidecar.sandbox.screener import StockFilter
from sidecar.sandbox.session import Session
from sidecar.sandbox.sessions import Sessions
from sidecar.sandbox.static_data import find_all, static, unknown

_SNAPSHOT_MAX = 400
_PAGE = 1000
_TRADE_DATE_MARKETS = {1: HK, 2: US, 3: SH, 4: SH, 5: HK, 6: 41, 7: SG, 8: SG, 10: 41}
_EXCHANGES = {HK: "HKEX", US: "CME", SG: "SGX", 41: "OSE"}
_EXCHANGE_TYPE = {HK: 1, US: 5, SH: 14, SZ: 15, SG: 17, 41: 21}


class ReferenceDesk:
    """Handlers of the basic data requests, 3201 to 3223 but for derivatives."""

    def __init__(self, market: Market, sessions: Sessions) -> None:
        self._market = market
        self._listing = market.listing
        self._sessions = sessions
        self._screener = StockFilter(market)

    def handlers(self) -> dict[int, Handler]:
        return {
            3201: self.suspensions,
            3202: self.static_info,
            3203: self.snapshots,
            3204: self.plates,
            3205: self.plate_members,
            3207: self.owner_plates,
            3213: self.watch_list,
            3215: self._screener.answer,
            3219: self.trade_dates,
            3222: self.watch_list_groups,
            3223: self.market_states,
        }

    def suspensions(self, session: Session, c2s: Any) -> Answer:
        """3201: nothing is ever suspended here."""
        found = find_all(self._listing, c2s.securityList)
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
        found = find_all(self._listing, c2s.securityList)
        if isinstance(found, Failure):
            return found
        answer = response("Qot_GetMarketState")
        for instrument in found:
            state = self._sessions.state(instrument.market, instrument.kind)
            answer.s2c.marketInfoList.add(security=security(instrument), name=instrument.name, marketState=state)
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
        found = find_all(self._listing, c2s.securityList)
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

    def watch_list(self, session: Session, c2s: Any) -> Answer:
        """3213: every group is empty."""
        return response("Qot_GetUserSecurity")

    def watch_list_groups(self, session: Session, c2s: Any) -> Answer:
        """3222: the groups every user has."""
        answer = response("Qot_GetUserSecurityGroup")
        for name in ("All", "HK", "US"):
            answer.s2c.groupList.add(groupName=name, groupType=2)
        return answer
