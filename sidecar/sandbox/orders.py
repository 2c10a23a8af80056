"""An order and a fill, and their protobuf forms. Knows its account by number only; how they come about is in `exchange`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Any

from sidecar.sandbox import clock
from sidecar.sandbox.instruments import TRADE_MARKET, ZERO, Instrument, Kind
from sidecar.sandbox.legs import ComboQuote, Leg
from sidecar.sandbox.margin import needed
from sidecar.sandbox.market import Quote


class Status(IntEnum):
    """Trd_Common.OrderStatus."""

    SUBMITTING = 2
    SUBMIT_FAILED = 3
    SUBMITTED = 5
    FILLED_PART = 10
    FILLED_ALL = 11
    CANCELLING_PART = 12
    CANCELLING_ALL = 13
    CANCELLED_PART = 14
    CANCELLED_ALL = 15
    FAILED = 21
    DISABLED = 22
    DELETED = 23


_WORKING = frozenset(
    {Status.SUBMITTING, Status.SUBMITTED, Status.FILLED_PART, Status.CANCELLING_PART, Status.CANCELLING_ALL}
)
MATCHABLE = frozenset({Status.SUBMITTED, Status.FILLED_PART})

LIMIT, MARKET, ABSOLUTE_LIMIT, AUCTION, AUCTION_LIMIT, SPECIAL_LIMIT, SPECIAL_LIMIT_ALL = 1, 2, 5, 6, 7, 8, 9
STOP, STOP_LIMIT, IF_TOUCHED, LIMIT_IF_TOUCHED, TRAILING, TRAILING_LIMIT = 10, 11, 12, 13, 14, 15
TWAP_MARKET, TWAP_LIMIT, VWAP_MARKET, VWAP_LIMIT = 16, 17, 18, 19

ORDER_TYPES = frozenset({LIMIT, MARKET, *range(ABSOLUTE_LIMIT, VWAP_LIMIT + 1)})
UNPRICED = frozenset({MARKET, AUCTION, STOP, IF_TOUCHED, TRAILING, TRAILING_LIMIT, TWAP_MARKET, VWAP_MARKET})
"""Types whose price field OpenD ignores (protocol facts, section 5)."""
TRIGGERED = frozenset({STOP, STOP_LIMIT, IF_TOUCHED, LIMIT_IF_TOUCHED})
TRAILED = frozenset({TRAILING, TRAILING_LIMIT})
AUCTIONS = frozenset({AUCTION, AUCTION_LIMIT})

DAY, GTC, IOC, GTD = 0, 1, 2, 3
"""Trd_Common.TimeInForce."""

_SELL, _SELL_SHORT = 2, 3


@dataclass(eq=False, slots=True)
class Order:
    """One order, from being taken to its end."""

    acc_id: int
    instrument: Instrument
    number: int
    text_id: str
    """orderIDEx."""
    buy: bool
    order_type: int
    quantity: Decimal
    price: Decimal | None
    """None for types whose price OpenD ignores."""
    quote: Quote | ComboQuote
    trd_market: int
    created: float
    updated: float
    status: Status = Status.SUBMITTING
    filled: Decimal = ZERO
    filled_value: Decimal = ZERO
    """Sum of price × quantity of the fills."""
    error: str = ""
    remark: str | None = None
    time_in_force: int = DAY
    outside_hours: bool = False
    session: int = 0
    aux_price: Decimal | None = None
    trail_type: int = 0
    trail_value: Decimal | None = None
    trail_spread: Decimal | None = None
    expires: str = ""
    jp_acc_type: int = 0
    triggered: bool = False
    extreme: Decimal | None = None
    """The best price since a trailing order was taken."""
    fees: Decimal = ZERO
    short: bool = False
    """A sell of more than was held when it came."""
    legs: tuple[Leg, ...] = ()
    """Of a combo order; `instrument` and `quote` then stand for all of them together."""
    strategy: int = 0
    """OptionStrategyType of a combo order."""
    money_held: Decimal = ZERO
    units_held: Decimal = ZERO
    """What the account holds back for this order, kept by `Account.reserve`."""

    @property
    def working(self) -> bool:
        return self.status in _WORKING

    @property
    def left(self) -> Decimal:
        return self.quantity - self.filled

    def reserved(self) -> Decimal:
        """What the order holds back, in the currency of its instrument; of a combo what it may cost, never below nothing."""
        if self.legs:
            return max(self.expected_price(), ZERO) * self.left * self.instrument.multiplier
        return needed(self.instrument, self.left, self.buy, self.short, self.expected_price())

    def expected_price(self) -> Decimal:
        """The limit, or for orders without one the price that the market asks now and 5 % more."""
        if self.price is not None:
            return self.price
        return self.quote.ask * Decimal("1.05") if self.buy else self.quote.bid

    def watched(self) -> tuple[Instrument, ...]:
        """The instruments whose prices it waits for."""
        return tuple(leg.instrument for leg in self.legs) or (self.instrument,)

    def executions(self, quantity: Decimal, price: Decimal) -> list[tuple[Instrument, bool, Decimal, Decimal]]:
        """What a trade of `quantity` at `price` moves: instrument, bought or sold, units and price, one a leg."""
        if not self.legs:
            return [(self.instrument, self.buy, quantity, price)]
        return [
            (leg.instrument, leg.buy, quantity * leg.ratio, leg.quote.ask if leg.buy else leg.quote.bid)
            for leg in self.legs
        ]


@dataclass(frozen=True, slots=True)
class Fill:
    """One trade of an order, of a combo order one trade of a leg."""

    order: Order
    number: int
    instrument: Instrument
    buy: bool
    quantity: Decimal
    price: Decimal
    time: float


def fill_order_message(message: Any, order: Order) -> None:
    """Fill a Trd_Common.Order. OpenD reports a US short sale as side 3 (protocol facts, section 5)."""
    instrument = order.instrument
    message.trdSide = 1 if order.buy else (_SELL_SHORT if order.short and instrument.kind is Kind.STOCK else _SELL)
    message.orderType, message.orderStatus = order.order_type, int(order.status)
    message.orderID, message.orderIDEx = order.number, order.text_id
    message.code, message.name = instrument.code, instrument.name
    message.qty = float(order.quantity)
    message.price = float(order.price) if order.price is not None else 0.0
    message.createTime = clock.text(instrument.market, order.created)
    message.updateTime = clock.text(instrument.market, order.updated)
    message.createTimestamp, message.updateTimestamp = order.created, order.updated
    message.fillQty = float(order.filled)
    message.fillAvgPrice = float(order.filled_value / order.filled) if order.filled else 0.0
    message.lastErrMsg = order.error
    message.secMarket, message.trdMarket = TRADE_MARKET[instrument.market], order.trd_market
    if order.remark is not None:
        message.remark = order.remark
    message.timeInForce, message.fillOutsideRTH, message.session = (
        order.time_in_force,
        order.outside_hours,
        order.session,
    )
    message.currency = int(instrument.currency)
    if order.aux_price is not None:
        message.auxPrice = float(order.aux_price)
    if order.trail_type:
        message.trailType = order.trail_type
    if order.trail_value is not None:
        message.trailValue = float(order.trail_value)
    if order.trail_spread is not None:
        message.trailSpread = float(order.trail_spread)
    if order.expires:
        message.expireTime = order.expires
    if order.jp_acc_type:
        message.jpAccType = order.jp_acc_type
    if order.legs:
        message.strategyType = order.strategy
    for leg in order.legs:
        entry = message.comboLegs.add(side=1 if leg.buy else _SELL, qtyRatio=float(leg.ratio))
        entry.security.market, entry.security.code = leg.instrument.market, leg.instrument.code


def fill_fill_message(message: Any, fill: Fill) -> None:
    """Fill a Trd_Common.OrderFill."""
    order, instrument = fill.order, fill.instrument
    message.trdSide = 1 if fill.buy else (_SELL_SHORT if order.short and instrument.kind is Kind.STOCK else _SELL)
    message.fillID, message.fillIDEx = fill.number, str(fill.number)
    message.orderID, message.orderIDEx = order.number, order.text_id
    message.code, message.name = instrument.code, instrument.name
    message.qty, message.price = float(fill.quantity), float(fill.price)
    message.createTime = clock.millisecond_text(instrument.market, fill.time)
    message.createTimestamp = message.updateTimestamp = fill.time
    message.counterBrokerID, message.counterBrokerName = 7, "Sandbox Securities"
    message.secMarket, message.trdMarket = TRADE_MARKET[instrument.market], order.trd_market
    message.status = 0
