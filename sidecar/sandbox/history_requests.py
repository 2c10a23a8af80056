"""Requests for the past: K-lines by page, their quota, rehabilitation factors. The past itself is in `history`."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.answers import Answer, Failure, Handler, response
from sidecar.sandbox.history import KL_TYPES, History
from sidecar.sandbox.instruments import HK, Instrument, Kind
from sidecar.sandbox.market import Market
from sidecar.sandbox.quote_messages import security
from sidecar.sandbox.session import Session
from sidecar.sandbox.static_data import unknown

_PAGE = 1000


class HistoryDesk:
    """Handlers of 3103, 3104 and 3105."""

    def __init__(self, market: Market, history: History, quota: int, enforced: bool) -> None:
        self._market = market
        self._listing = market.listing
        self._history = history
        self._history_quota = quota
        self._enforced = enforced
        self._history_used: dict[Instrument, float] = {}

    def handlers(self) -> dict[int, Handler]:
        return {3103: self.history_bars, 3104: self.history_quota, 3105: self.rehabilitations}

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
