"""Subscriptions and real-time quotes, requests 3001 to 3015 and their pushes. History and reference data are elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.answers import Answer, Failure, Handler, response, wrapped
from sidecar.sandbox.history import KL_TYPES, MINUTES, History
from sidecar.sandbox.instruments import Instrument
from sidecar.sandbox.listing import Listing
from sidecar.sandbox.market import Market, Quote
from sidecar.sandbox.quote_messages import add_ticker, basic, cached, fill_brokers, fill_order_book, security
from sidecar.sandbox.session import Session
from sidecar.sandbox.static_data import unknown
from sidecar.sandbox.subscriptions import (
    BASIC,
    BROKER,
    KL_TYPE,
    ODD_BOOK,
    ORDER_BOOK,
    RT,
    SUB_TYPES,
    TICKER,
    Subscriptions,
    Topic,
)  # fmt: skip

_MAX_BARS = 1000
_FIRST_DAY = date(1990, 1, 1)
_SUB_TYPE_OF_KL = {kl_type: sub_type for sub_type, kl_type in KL_TYPE.items()}

Push = Callable[[Iterable[Session], int, bytes], None]
"""Sends one push body, protobuf bytes, to these sessions."""


class QuoteDesk:
    """Handlers of the real-time requests, and the pushes that follow every move of the market."""

    def __init__(self, market: Market, history: History, subscriptions: Subscriptions, push: Push) -> None:
        self._market = market
        self._listing: Listing = market.listing
        self._history = history
        self._subscriptions = subscriptions
        self._push = push

    def handlers(self) -> dict[int, Handler]:
        return {
            3001: self.subscribe,
            3002: self.register_push,
            3003: self.subscription_info,
            3004: self.basic_quotes,
            3006: self.bars,
            3008: self.intraday,
            3010: self.tickers,
            3012: self.order_book,
            3014: self.brokers,
        }

    # --- subscribing ---

    def subscribe(self, session: Session, c2s: Any) -> Answer:
        """3001. Limits and the minute before unsubscribing: protocol facts, section 8 (documented)."""
        now = time.time()
        if c2s.isUnsubAll:
            refusal = self._subscriptions.unsubscribe(session, self._subscriptions.topics_of(session), now)
            return refusal or response("Qot_Sub")
        topics = self._topics(c2s)
        if isinstance(topics, Failure):
            return topics
        if not c2s.isSubOrUnSub:
            return self._subscriptions.unsubscribe(session, topics, now) or response("Qot_Sub")
        refusal = self._subscriptions.subscribe(session, topics, c2s.isRegOrUnRegPush, now)
        if refusal is not None:
            return refusal
        if c2s.isRegOrUnRegPush and (c2s.isFirstPush or not c2s.HasField("isFirstPush")):
            session.after_reply.append(lambda: self._first_push(session, topics))
        return response("Qot_Sub")

    def register_push(self, session: Session, c2s: Any) -> Answer:
        """3002."""
        topics = self._topics(c2s)
        if isinstance(topics, Failure):
            return topics
        refusal = self._subscriptions.register(session, topics, c2s.isRegOrUnReg)
        if refusal is not None:
            return refusal
        if c2s.isRegOrUnReg and c2s.isFirstPush:
            session.after_reply.append(lambda: self._first_push(session, topics))
        return response("Qot_RegQotPush")

    def _topics(self, c2s: Any) -> list[Topic] | Failure:
        instruments: list[Instrument] = []
        for wanted in c2s.securityList:
            found = self._listing.find(wanted.market, wanted.code)
            if found is None:
                return unknown(wanted)
            instruments.append(found)
        if not instruments or not c2s.subTypeList:
            return Failure("securityList and subTypeList must not be empty")
        for sub_type in c2s.subTypeList:
            if sub_type not in SUB_TYPES:
                return Failure(f"Unknown subscription type {sub_type}")
        return [(instrument, sub_type) for instrument in instruments for sub_type in c2s.subTypeList]

    def subscription_info(self, session: Session, c2s: Any) -> Answer:
        """3003: this connection's subscriptions, or with isReqAllConn those of every connection."""
        now = time.time()
        answer = response("Qot_GetSubInfo")
        every = list(self._subscriptions.sessions()) if c2s.isReqAllConn else []
        for owner in every if session in every else [session, *every]:
            topics = self._subscriptions.topics_of(owner)
            info = answer.s2c.connSubInfoList.add(usedQuota=len(topics), isOwnConnData=owner is session)
            by_type: dict[int, list[Instrument]] = {}
            for instrument, sub_type in topics:
                by_type.setdefault(sub_type, []).append(instrument)
            for sub_type, instruments in by_type.items():
                part = info.subInfoList.add(subType=sub_type)
                part.securityList.extend(security(instrument) for instrument in instruments)
        used = self._subscriptions.used(now)
        answer.s2c.totalUsedQuota = used
        answer.s2c.remainQuota = max(self._subscriptions.quota - used, 0)
        answer.s2c.optionUsedQuota = self._subscriptions.options_used()
        answer.s2c.optionRemainQuota = max(self._subscriptions.quota - used, 0)
        return answer

    # --- reading what is subscribed ---

    def _subscribed(self, session: Session, wanted: Any, sub_type: int, what: str) -> Quote | Failure:
        instrument = self._listing.find(wanted.market, wanted.code)
        if instrument is None:
            return unknown(wanted)
        if not self._subscriptions.has(session, (instrument, sub_type)):
            return Failure(f"Please subscribe to the {what} of {instrument.symbol} first")
        return self._market.quotes[instrument]

    def basic_quotes(self, session: Session, c2s: Any) -> Answer:
        """3004, answered from bytes that are made once for each move of a price."""
        parts: list[bytes] = []
        for wanted in c2s.securityList:
            quote = self._subscribed(session, wanted, BASIC, "basic quote")
            if isinstance(quote, Failure):
                return quote
            parts.append(cached(quote, "basic", basic))
        return wrapped(parts)

    def bars(self, session: Session, c2s: Any) -> Answer:
        """3006: the last reqNum K-lines."""
        sub_type = _SUB_TYPE_OF_KL.get(c2s.klType)
        if c2s.klType not in KL_TYPES or sub_type is None:
            return Failure(f"Unknown K-line type {c2s.klType}")
        quote = self._subscribed(session, c2s.security, sub_type, "K-line")
        if isinstance(quote, Failure):
            return quote
        if not 0 < c2s.reqNum <= _MAX_BARS:
            return Failure(f"reqNum must be 1 to {_MAX_BARS}")
        answer = response("Qot_GetKL")
        self._fill_bars(answer.s2c, quote, c2s.klType, c2s.reqNum)
        return answer

    def _fill_bars(self, s2c: Any, quote: Quote, kl_type: int, wanted: int) -> None:
        now = time.time()
        today = clock.market_day(quote.instrument.market, now)
        days = {3: 7, 4: 31, 11: 92, 5: 366}.get(kl_type, 2)
        per_day = 330 // MINUTES[kl_type] if kl_type in MINUTES else 1
        begin = max(_FIRST_DAY, today - timedelta(days=(wanted // max(per_day, 1) + 4) * days))
        bars = list(self._history.bars(quote, kl_type, begin, today, now))
        _name(s2c, quote.instrument)
        s2c.klList.extend(bars[-wanted:])

    def intraday(self, session: Session, c2s: Any) -> Answer:
        """3008: the points of today so far."""
        quote = self._subscribed(session, c2s.security, RT, "intraday points")
        if isinstance(quote, Failure):
            return quote
        answer = response("Qot_GetRT")
        self._fill_points(answer.s2c, quote, last_only=False)
        return answer

    def _fill_points(self, s2c: Any, quote: Quote, *, last_only: bool) -> None:
        now = time.time()
        instrument = quote.instrument
        _name(s2c, instrument)
        today = clock.market_day(instrument.market, now)
        if last_only:
            points: Iterable[tuple[float, float, float]] = [(now - now % 60 + 60, float(quote.last), float(quote.last))]
        else:
            points = self._history.points(quote, today, 1, today, now)
        midnight = clock.timestamp_of(instrument.market, today)
        for stamp, price, _before in points:
            point = s2c.rtList.add(time=clock.text(instrument.market, stamp), isBlank=False)
            point.minute = int(stamp - midnight) // 60 % 1440
            point.price, point.lastClosePrice = round(price, 3), float(quote.previous_close)
            point.avgPrice = round((price + float(quote.open)) / 2, 3)
            point.volume = quote.last_volume * 3
            point.turnover = point.volume * point.price
            point.timestamp = stamp

    def tickers(self, session: Session, c2s: Any) -> Answer:
        """3010: the last maxRetNum trades."""
        quote = self._subscribed(session, c2s.security, TICKER, "ticker")
        if isinstance(quote, Failure):
            return quote
        if not 0 <= c2s.maxRetNum <= _MAX_BARS:
            return Failure(f"maxRetNum must be 0 to {_MAX_BARS}")
        answer = response("Qot_GetTicker")
        _name(answer.s2c, quote.instrument)
        for back in reversed(range(c2s.maxRetNum)):
            add_ticker(answer.s2c.tickerList, quote, back)
        return answer

    def order_book(self, session: Session, c2s: Any) -> Answer:
        """3012."""
        sub_type = ODD_BOOK if c2s.orderBookType == 1 else ORDER_BOOK
        quote = self._subscribed(session, c2s.security, sub_type, "order book")
        if isinstance(quote, Failure):
            return quote
        answer = response("Qot_GetOrderBook")
        fill_order_book(answer.s2c, quote, c2s.num, c2s.orderBookType)
        return answer

    def brokers(self, session: Session, c2s: Any) -> Answer:
        """3014."""
        quote = self._subscribed(session, c2s.security, BROKER, "broker queue")
        if isinstance(quote, Failure):
            return quote
        answer = response("Qot_GetBroker")
        fill_brokers(answer.s2c, quote)
        return answer

    # --- pushes ---

    def push_moved(self, moved: Iterable[Quote]) -> None:
        """Tell everybody who listens; each push is made once, however many receive it."""
        wanted = self._subscriptions.pushed_types()
        if not wanted:
            return
        for quote in moved:
            for sub_type in wanted.get(quote.instrument, ()):
                listeners = self._subscriptions.listeners((quote.instrument, sub_type))
                proto_id, body = self._push_body(quote, sub_type, first=False)
                self._push(listeners, proto_id, body)

    def _first_push(self, session: Session, topics: list[Topic]) -> None:
        for instrument, sub_type in topics:
            proto_id, body = self._push_body(self._market.quotes[instrument], sub_type, first=True)
            self._push((session,), proto_id, body)

    def _push_body(self, quote: Quote, sub_type: int, *, first: bool) -> tuple[int, bytes]:
        if sub_type == BASIC:
            return 3005, wrapped([cached(quote, "basic", basic)])
        if sub_type in (ORDER_BOOK, ODD_BOOK):
            proto_id, answer = 3013, response("Qot_UpdateOrderBook")
            fill_order_book(answer.s2c, quote, 10, int(sub_type == ODD_BOOK))
        elif sub_type == TICKER:
            proto_id, answer = 3011, response("Qot_UpdateTicker")
            _name(answer.s2c, quote.instrument)
            add_ticker(answer.s2c.tickerList, quote, cached_data=first)
        elif sub_type == RT:
            proto_id, answer = 3009, response("Qot_UpdateRT")
            self._fill_points(answer.s2c, quote, last_only=True)
        elif sub_type == BROKER:
            proto_id, answer = 3015, response("Qot_UpdateBroker")
            fill_brokers(answer.s2c, quote)
        else:
            proto_id, answer = 3007, response("Qot_UpdateKL")
            answer.s2c.rehabType, answer.s2c.klType = 1, KL_TYPE[sub_type]
            self._fill_bars(answer.s2c, quote, KL_TYPE[sub_type], 1)
        body: bytes = answer.SerializeToString()
        return proto_id, body


def _name(s2c: Any, instrument: Instrument) -> None:
    s2c.security.market, s2c.security.code, s2c.name = instrument.market, instrument.code, instrument.name
