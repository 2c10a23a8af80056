"""The protobuf messages of one quote: basic quote, snapshot, order book, ticker, broker queue. Decides nothing.

Prices turn from Decimal to double here and only here, because the protocol's fields are doubles.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.instruments import HK, US, Instrument, Kind
from sidecar.sandbox.market import Quote
from sidecar.wire.messages import module

_BROKERS = (
    (700, "Sandbox Securities"),
    (1860, "Harbour Brokers"),
    (2848, "Kowloon Capital"),
    (9036, "Peak Markets"),
    (6998, "Star Ferry"),
)
_NORMAL = 1
_BOOK_LEVELS = 10


def security(instrument: Instrument) -> Any:
    return module("Qot_Common").Security(market=instrument.market, code=instrument.code)


def cached(quote: Quote, name: str, make: Callable[[Quote], Any]) -> bytes:
    """The serialised message of the quote as it is now, made at most once for each state."""
    found = quote.cache.get(name)
    if found is not None and found[0] == quote.version:
        return found[1]
    body: bytes = make(quote).SerializeToString()
    quote.cache[name] = (quote.version, body)
    return body


def basic(quote: Quote) -> Any:
    """Qot_Common.BasicQot."""
    instrument = quote.instrument
    message = module("Qot_Common").BasicQot(
        security=security(instrument),
        name=instrument.name,
        isSuspended=False,
        listTime=instrument.listed,
        priceSpread=float(quote.step),
        updateTime=clock.text(instrument.market, quote.updated),
        highPrice=float(quote.high),
        openPrice=float(quote.open),
        lowPrice=float(quote.low),
        curPrice=float(quote.last),
        lastClosePrice=float(quote.previous_close),
        volume=quote.volume,
        turnover=float(quote.turnover),
        turnoverRate=quote.volume / instrument.shares * 100 if instrument.shares else 0.0,
        amplitude=_amplitude(quote),
        darkStatus=0,
        listTimestamp=0.0,
        updateTimestamp=quote.updated,
        secStatus=_NORMAL,
    )
    if instrument.kind is Kind.OPTION:
        _fill_option(message.optionExData, quote)
    elif instrument.kind is Kind.FUTURE:
        message.futureExData.lastSettlePrice = float(quote.previous_close)
        message.futureExData.position = 100_000 + instrument.number % 9_973
        message.futureExData.positionChange = instrument.number % 501 - 250
        message.futureExData.expiryDateDistance = _days_left(instrument)
    elif instrument.kind is Kind.WARRANT:
        message.warrantExData.delta = 0.42
        message.warrantExData.impliedVolatility = 34.5
        message.warrantExData.premium = 6.2
    return message


def _amplitude(quote: Quote) -> float:
    return float((quote.high - quote.low) / quote.previous_close * 100) if quote.previous_close else 0.0


def _days_left(instrument: Instrument) -> int:
    expiry = clock.parse_day((instrument.owner or instrument).expiry if instrument.main else instrument.expiry)
    return (expiry - date.fromtimestamp(time.time())).days if expiry else 0  # noqa: DTZ012 - whole days, shown only


def _fill_option(extra: Any, quote: Quote) -> None:
    """The fields that BasicQot and the snapshot share for options."""
    instrument = quote.instrument
    extra.strikePrice = float(instrument.strike)
    extra.contractSize = instrument.lot_size
    extra.contractSizeFloat = float(instrument.lot_size)
    extra.openInterest = 500 + instrument.number % 4_001
    extra.impliedVolatility = 28.4
    extra.premium = 4.1
    extra.delta = 0.5 if instrument.side == 1 else -0.5
    extra.gamma, extra.vega, extra.theta, extra.rho = 0.011, 0.24, -0.09, 0.05
    extra.expiryDateDistance = _days_left(instrument)
    extra.contractNominalValue = float(quote.last * instrument.lot_size)
    extra.ownerLotMultiplier = 1.0
    extra.optionAreaType = 1
    extra.contractMultiplier = float(instrument.lot_size)


def snapshot(quote: Quote) -> Any:
    """Qot_GetSecuritySnapshot.Snapshot."""
    instrument = quote.instrument
    last = float(quote.last)
    message = module("Qot_GetSecuritySnapshot").Snapshot()
    data = message.basic
    data.security.market = instrument.market
    data.security.code = instrument.code
    data.name = instrument.name
    data.type = int(instrument.kind)
    data.isSuspend = False
    data.listTime = instrument.listed
    data.lotSize = instrument.lot_size
    data.priceSpread = float(quote.step)
    data.updateTime = clock.text(instrument.market, quote.updated)
    data.highPrice = float(quote.high)
    data.openPrice = float(quote.open)
    data.lowPrice = float(quote.low)
    data.lastClosePrice = float(quote.previous_close)
    data.curPrice = last
    data.volume = quote.volume
    data.turnover = float(quote.turnover)
    data.turnoverRate = quote.volume / instrument.shares * 100 if instrument.shares else 0.0
    data.updateTimestamp = quote.updated
    data.amplitude = _amplitude(quote)
    data.avgPrice = round((last + float(quote.open)) / 2, 3)
    data.volumeRatio = 1.0
    data.highest52WeeksPrice = round(max(float(instrument.base) * 1.2, data.highPrice), 3)
    data.lowest52WeeksPrice = round(min(float(instrument.base) * 0.8, data.lowPrice), 3)
    data.highestHistoryPrice = round(max(float(instrument.base) * 1.6, data.highPrice), 3)
    data.lowestHistoryPrice = round(float(instrument.base) * 0.3, 3)
    data.secStatus = _NORMAL
    data.closePrice5Minute = float(quote.open)
    if instrument.tradable:
        data.askPrice, data.bidPrice = float(quote.ask), float(quote.bid)
        data.askVol, data.bidVol = quote.ask_volume, quote.bid_volume
        data.enableMargin = instrument.kind is Kind.STOCK
        data.mortgageRatio = 50.0
        data.longMarginInitialRatio = 50.0
        data.enableShortSell = instrument.market == US and instrument.kind is Kind.STOCK
        data.shortSellRate, data.shortAvailableVolume, data.shortMarginInitialRatio = 1.5, 1_000_000, 60.0
    _fill_snapshot_extra(message, quote)
    return message


def _fill_snapshot_extra(message: Any, quote: Quote) -> None:
    instrument, last = quote.instrument, float(quote.last)
    kind = instrument.kind
    if kind is Kind.STOCK:
        extra = message.equityExData
        extra.issuedShares = extra.outstandingShares = instrument.shares
        extra.issuedMarketVal = extra.outstandingMarketVal = instrument.shares * last
        extra.netAsset = extra.issuedMarketVal * 0.4
        extra.netProfit = extra.issuedMarketVal / 17.5
        extra.earningsPershare = round(last / 17.5, 4)
        extra.netAssetPershare = round(last * 0.4, 4)
        extra.eyRate, extra.peRate, extra.pbRate, extra.peTTMRate = 5.7, 17.5, 2.5, 16.9
        extra.dividendTTM, extra.dividendRatioTTM = round(last * 0.02, 4), 2.0
    elif kind is Kind.WARRANT and instrument.owner is not None:
        warrant = message.warrantExData
        warrant.conversionRate, warrant.warrantType = 100.0, instrument.side
        warrant.strikePrice = float(instrument.strike)
        warrant.maturityTime = warrant.endTradeTime = instrument.expiry
        warrant.owner.market, warrant.owner.code = instrument.owner.market, instrument.owner.code
        warrant.recoveryPrice = float(instrument.strike) if instrument.side in (3, 4) else 0.0
        warrant.streetVolumn, warrant.issueVolumn, warrant.streetRate = 8_000_000, instrument.shares, 10.0
        warrant.delta, warrant.impliedVolatility, warrant.premium = 0.42, 34.5, 6.2
    elif kind is Kind.OPTION and instrument.owner is not None:
        option = message.optionExData
        _fill_option(option, quote)
        option.type = instrument.side
        option.owner.market, option.owner.code = instrument.owner.market, instrument.owner.code
        option.strikeTime = instrument.expiry
        option.indexOptionType = 0
    elif kind in (Kind.INDEX, Kind.PLATE):
        counts = message.indexExData if kind is Kind.INDEX else message.plateExData
        counts.raiseCount, counts.fallCount, counts.equalCount = 41, 33, 8
    elif kind is Kind.FUTURE:
        future = message.futureExData
        future.lastSettlePrice = float(quote.previous_close)
        future.position, future.positionChange = 100_000 + instrument.number % 9_973, instrument.number % 501 - 250
        future.lastTradeTime = "" if instrument.main else instrument.expiry
        future.isMainContract = instrument.main
    elif kind is Kind.ETF:
        trust = message.trustExData
        trust.dividendYield, trust.aum, trust.outstandingUnits = 2.6, instrument.shares * last, instrument.shares
        trust.netAssetValue, trust.premium, trust.assetClass = last, 0.1, 1


def fill_order_book(s2c: Any, quote: Quote, levels: int, book_type: int = 0) -> None:
    """The content of Qot_GetOrderBook and Qot_UpdateOrderBook."""
    instrument = quote.instrument
    s2c.security.market, s2c.security.code, s2c.name = instrument.market, instrument.code, instrument.name
    for level in range(min(levels, _BOOK_LEVELS)):
        ask = s2c.orderBookAskList.add()
        ask.price, ask.volume = float(quote.ask + quote.step * level), quote.level_volume(level, bids=False)
        ask.orederCount = 1 + (quote.sequence + level) % 9
        price = quote.bid - quote.step * level
        if price > 0:
            bid = s2c.orderBookBidList.add()
            bid.price, bid.volume = float(price), quote.level_volume(level, bids=True)
            bid.orederCount = 1 + (quote.sequence + level * 3) % 9
    moment = clock.millisecond_text(instrument.market, quote.updated)
    s2c.svrRecvTimeBid = s2c.svrRecvTimeAsk = moment
    s2c.svrRecvTimeBidTimestamp = s2c.svrRecvTimeAskTimestamp = quote.updated
    s2c.orderBookType = book_type


def add_ticker(tickers: Any, quote: Quote, back: int = 0, cached_data: bool = False) -> None:
    """One Qot_Common.Ticker, the trade `back` trades before the last one."""
    step = float(quote.step)
    price = float(quote.last) + step * ((back % 3) - 1 if back else 0)
    volume = quote.last_volume if not back else quote.last_volume + (back % 5) * max(quote.instrument.quantity_step, 1)
    moment = quote.updated - back * 1.7
    ticker = tickers.add()
    ticker.time = clock.millisecond_text(quote.instrument.market, moment)
    ticker.sequence = int(quote.updated) * 1_000 * 1_000 + quote.sequence - back
    ticker.dir = quote.direction if not back else 1 + back % 2
    ticker.price, ticker.volume = max(price, step), volume
    ticker.turnover = ticker.price * volume * quote.instrument.multiplier
    ticker.recvTime = ticker.timestamp = moment
    ticker.type, ticker.typeSign = 1, 0
    ticker.pushDataType = 3 if cached_data else 1


def fill_brokers(s2c: Any, quote: Quote) -> None:
    """The content of Qot_GetBroker and Qot_UpdateBroker; only Hong Kong has broker queues."""
    instrument = quote.instrument
    s2c.security.market, s2c.security.code, s2c.name = instrument.market, instrument.code, instrument.name
    if instrument.market != HK or not instrument.tradable:
        return
    for position in range(1, 11):
        for queue, offset in ((s2c.brokerAskList, 0), (s2c.brokerBidList, 2)):
            number, name = _BROKERS[(position + offset + quote.sequence) % len(_BROKERS)]
            broker = queue.add()
            broker.id, broker.name, broker.pos = number, name, position
