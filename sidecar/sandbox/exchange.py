"""The life of orders: taken, confirmed, matched against moving quotes, changed, cancelled, failed. Judges no request (`rules`)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from random import Random
from typing import Any

from sidecar.sandbox.accounts import Account, Position
from sidecar.sandbox.answers import Failure
from sidecar.sandbox.instruments import HK, ZERO, Instrument, Kind
from sidecar.sandbox.legs import ComboQuote, strategy
from sidecar.sandbox.market import Market, Quote
from sidecar.sandbox.orders import (
    IF_TOUCHED,
    IOC,
    LIMIT_IF_TOUCHED,
    MATCHABLE,
    STOP,
    STOP_LIMIT,
    TRAILED,
    TRAILING_LIMIT,
    Fill,
    Order,
    Status,
)  # fmt: skip
from sidecar.sandbox.rules import Terms, exact

_ABSURD = 9
"""A limit at this many times the market price is taken and then fails at the exchange."""

_REJECTED = {
    Status.FAILED: "The exchange rejected the order",
    Status.SUBMIT_FAILED: "The order could not be submitted",
}
"""What `lastErrMsg` says then; made up."""

_PARTS = 4

_COMMISSION = Decimal("0.0003")
_PLATFORM_FEE = {1: Decimal(15), 2: Decimal(1), 3: Decimal(15), 4: Decimal(100), 5: Decimal(2)}
"""Made-up fees of real accounts: a share of the value and a fixed sum per order, by currency. Paper trading is free."""

NEW_CHANCE = 1 / 3
"""How often the first 2208 of an order comes before its 2202 reply (that it may is documented)."""


class Exchange:
    """Every working order of a sandbox.

    `publish_order` and `publish_fill` are called after each change; `later(delay, action)` runs an action in so many seconds;
    `trades` says whether the market of an order would trade it now. Of `rejections` orders in a hundred the end is one.
    """

    def __init__(
        self,
        market: Market,
        accounts: dict[int, Account],
        seed: int,
        latency: float,
        partial_fills: bool,
        rejections: float,
        trades: Callable[[Order], bool],
        later: Callable[[float, Callable[[], None]], None],
        publish_order: Callable[[Order], None],
        publish_fill: Callable[[Fill], None],
    ) -> None:
        self._market = market
        self._accounts = accounts
        self._random = Random(f"exchange {seed}")  # noqa: S311 - a seed must give the same again
        self._latency = latency
        self._partial = partial_fills
        self._rejections = rejections
        self._trades = trades
        self.reject_next: deque[Status] = deque()
        """How the next orders end instead of resting: FAILED or SUBMIT_FAILED; for tests."""
        self._later = later
        self._publish_order = publish_order
        self._publish_fill = publish_fill
        self._resting: dict[Instrument, dict[int, Order]] = {}
        self._next_order = 8_400_000_000 + self._random.randrange(10**9)
        self._next_fill = 5_100_000_000 + self._random.randrange(10**9)
        self._next_position = 7_100_001

    # --- taking, changing, cancelling ---

    def take(self, account: Account, terms: Terms, c2s: Any, after_reply: list[Callable[[], None]]) -> Order:
        """A new order. Its first push comes before the reply or, through `after_reply`, after it: the seed decides."""
        now = time.time()
        self._next_order += 1 + self._random.randrange(900)
        number = self._next_order
        order = Order(
            acc_id=account.acc_id,
            instrument=terms.instrument,
            number=number,
            text_id=f"F{number:X}{self._random.randrange(16**6):06X}" if account.real else str(number),
            buy=terms.buy,
            order_type=c2s.orderType,
            quantity=terms.quantity,
            price=terms.price,
            quote=ComboQuote(terms.instrument, terms.legs) if terms.legs else self._market.quotes[terms.instrument],
            trd_market=c2s.header.trdMarket,
            created=now,
            updated=now,
            remark=c2s.remark if c2s.HasField("remark") else None,
            time_in_force=c2s.timeInForce,
            expires=c2s.expireTime,
            jp_acc_type=c2s.header.jpAccType,
            short=terms.short,
            legs=terms.legs,
        )
        if terms.legs:
            order.strategy = strategy(terms.legs)
        else:
            order.outside_hours, order.session, order.trail_type = c2s.fillOutsideRTH, c2s.session, c2s.trailType
            order.aux_price = exact(c2s.auxPrice) if c2s.HasField("auxPrice") else None
            order.trail_value = exact(c2s.trailValue) if c2s.HasField("trailValue") else None
            order.trail_spread = exact(c2s.trailSpread) if c2s.HasField("trailSpread") else None
        account.orders[number] = order
        account.by_text_id[order.text_id] = order
        account.reserve(order)
        if self._random.random() < NEW_CHANCE:
            self._publish_order(order)
        else:
            after_reply.append(self._unless_overtaken(order))
        self._later(self._latency, lambda: self._confirm(order))
        return order

    def change(self, order: Order, terms: Terms, c2s: Any, after_reply: list[Callable[[], None]]) -> None:
        """New terms for a working order; it is matched again once the exchange has them."""
        order.quantity, order.price, order.short = terms.quantity, terms.price, terms.short
        for name, attribute in (
            ("auxPrice", "aux_price"),
            ("trailValue", "trail_value"),
            ("trailSpread", "trail_spread"),
        ):
            if c2s.HasField(name):
                setattr(order, attribute, exact(getattr(c2s, name)))
        if c2s.HasField("trailType"):
            order.trail_type = c2s.trailType
        self._accounts[order.acc_id].reserve(order)
        order.updated = time.time()
        after_reply.append(self._unless_overtaken(order))
        self._later(self._latency, lambda: self._match(order))

    def cancel(self, order: Order, after_reply: list[Callable[[], None]]) -> None:
        order.status = Status.CANCELLING_PART if order.filled else Status.CANCELLING_ALL
        order.updated = time.time()
        after_reply.append(self._unless_overtaken(order))
        self._later(self._latency, lambda: self._cancelled(order))

    def disable(self, order: Order, after_reply: list[Callable[[], None]]) -> None:
        self._settle(order, Status.DISABLED)
        after_reply.append(self._unless_overtaken(order))

    def enable(self, order: Order, after_reply: list[Callable[[], None]]) -> None:
        order.status, order.updated = Status.SUBMITTING, time.time()
        self._accounts[order.acc_id].reserve(order)
        after_reply.append(self._unless_overtaken(order))
        self._later(self._latency, lambda: self._confirm(order))

    def delete(self, order: Order, after_reply: list[Callable[[], None]]) -> None:
        self._settle(order, Status.DELETED)
        after_reply.append(self._unless_overtaken(order))

    def _unless_overtaken(self, order: Order) -> Callable[[], None]:
        """Publishes the order as it is now, if nothing newer has been published by then."""
        state = order.updated

        def publish() -> None:
            if order.updated == state:
                self._publish_order(order)

        return publish

    # --- at the exchange ---

    def match_moved(self, moved: Iterable[Quote]) -> None:
        """Look at the orders in everything that moved."""
        if not self._resting:
            return
        for quote in moved:
            orders = self._resting.get(quote.instrument)
            if orders:
                for order in list(orders.values()):
                    self._match(order)

    def _confirm(self, order: Order) -> None:
        if order.status is not Status.SUBMITTING:
            return
        rejection = self._rejection(order)
        if rejection is not None:
            status, order.error = rejection
            self._settle(order, status)
            self._publish_order(order)
            return
        order.status, order.updated = (Status.FILLED_PART if order.filled else Status.SUBMITTED), time.time()
        order.extreme = order.quote.last
        for instrument in order.watched():
            self._resting.setdefault(instrument, {})[order.number] = order
        self._publish_order(order)
        self._match(order)
        if order.time_in_force == IOC and order.working:
            self._cancelled(order)

    def _rejection(self, order: Order) -> tuple[Status, str] | None:
        """How an order ends that the exchange, or OpenD on the way there, does not take after all."""
        if not order.legs and order.price is not None and order.price >= order.quote.last * _ABSURD:
            return Status.FAILED, "The price is outside the range that the exchange takes"
        status: Status | None = None
        if self.reject_next:
            status = self.reject_next.popleft()
        elif self._rejections and self._random.random() * 100 < self._rejections:
            status = Status.FAILED if self._random.random() < 0.5 else Status.SUBMIT_FAILED
        return None if status is None else (status, _REJECTED[status])

    def _cancelled(self, order: Order) -> None:
        if order.working:
            self._settle(order, Status.CANCELLED_PART if order.filled else Status.CANCELLED_ALL)
            self._publish_order(order)

    def _settle(self, order: Order, status: Status) -> None:
        order.status, order.updated = status, time.time()
        self._accounts[order.acc_id].reserve(order)
        for instrument in order.watched():
            resting = self._resting.get(instrument)
            if resting is not None and resting.pop(order.number, None) is not None and not resting:
                del self._resting[instrument]

    def _match(self, order: Order) -> None:
        """Trade what the quote gives: the whole volume at the touch, at the touch's price."""
        if order.status not in MATCHABLE or not self._trades(order) or not self._awake(order):
            return
        quote = order.quote
        touch = quote.ask if order.buy else quote.bid
        if order.price is not None and (order.price < touch if order.buy else order.price > touch):
            return
        volume = quote.ask_volume if order.buy else quote.bid_volume
        traded = min(order.left, Decimal(volume), self._part(order))
        if traded <= 0:
            return
        quote.take(order.buy, traded)
        self._trade(order, traded, touch)

    def _part(self, order: Order) -> Decimal:
        """The most that one trade fills: all, or where fills take time about a quarter of the order."""
        if not self._partial:
            return order.left
        step = order.instrument.quantity_step
        return max(Decimal(int(order.quantity / _PARTS) // step * step), Decimal(step))

    def _trade(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        now = time.time()
        first = not order.filled
        order.filled += quantity
        order.filled_value += quantity * price
        account = self._accounts[order.acc_id]
        fills = []
        for instrument, buy, units, each in order.executions(quantity, price):
            self._execute(order, instrument, buy, units, each, now)
            if account.real:
                value = units * each * instrument.multiplier
                fee = value * _COMMISSION + (_PLATFORM_FEE[instrument.currency] if first else ZERO)
                fee, first = fee.quantize(Decimal("0.01")), False
                order.fees += fee
                account.pay(instrument.currency, -fee, f"fees {instrument.code}", now)
            self._next_fill += 1 + self._random.randrange(50)
            fills.append(Fill(order, self._next_fill, instrument, buy, units, each, now))
        if order.left:
            order.status, order.updated = Status.FILLED_PART, now
            account.reserve(order)
        else:
            self._settle(order, Status.FILLED_ALL)
        account.fills.extend(fills)
        self._publish_order(order)
        for fill in fills:
            self._publish_fill(fill)

    def _execute(
        self, order: Order, instrument: Instrument, buy: bool, units: Decimal, price: Decimal, now: float
    ) -> None:
        """Move holding and cash by one trade."""
        account = self._accounts[order.acc_id]
        position = account.positions.get(instrument)
        if position is None:
            self._next_position += 1
            position = account.positions[instrument] = Position(instrument, self._next_position, ZERO, ZERO)
        profit = position.trade(units if buy else -units, price)
        if instrument.kind is Kind.FUTURE:
            account.pay(instrument.currency, profit, f"settlement {instrument.code}", now)
        else:
            value = units * price * instrument.multiplier
            account.pay(instrument.currency, -value if buy else value, f"trade {instrument.code}", now)

    def _awake(self, order: Order) -> bool:
        """Whether a conditional order has been set off; it stays so."""
        if order.triggered:
            return True
        last, kind = order.quote.last, order.order_type
        if kind in TRAILED:
            order.triggered = self._trail_reached(order, last)
            if order.triggered and kind == TRAILING_LIMIT:
                spread = order.trail_spread or ZERO
                order.price = order.instrument.rounded(last + spread if order.buy else last - spread)
            return order.triggered
        if kind not in (STOP, STOP_LIMIT, IF_TOUCHED, LIMIT_IF_TOUCHED) or order.aux_price is None:
            return True
        rising = order.buy == (kind in (STOP, STOP_LIMIT))
        order.triggered = last >= order.aux_price if rising else last <= order.aux_price
        return order.triggered

    @staticmethod
    def _trail_reached(order: Order, last: Decimal) -> bool:
        extreme = order.extreme if order.extreme is not None else last
        order.extreme = extreme = min(extreme, last) if order.buy else max(extreme, last)
        value = order.trail_value or ZERO
        distance = extreme * value / 100 if order.trail_type == 1 else value
        return last >= extreme + distance if order.buy else last <= extreme - distance


def change_refusal(order: Order, operation: int) -> Failure | None:
    """Why an operation of 2205 does not fit the order as it is."""
    if operation in (1, 2, 3) and order.status not in (Status.SUBMITTING, *MATCHABLE):
        return Failure(f"Order {order.text_id} is {order.status.name}, it cannot be changed")
    if operation in (3, 4, 5) and order.instrument.market != HK:
        return Failure("Disabling, enabling and deleting orders is possible in Hong Kong only")
    if operation == 4 and order.status is not Status.DISABLED:
        return Failure(f"Order {order.text_id} is {order.status.name}, only a disabled order can be enabled")
    if operation == 5 and order.status not in (Status.DISABLED, Status.FAILED):
        return Failure(f"Order {order.text_id} is {order.status.name}, only a disabled or failed order can be deleted")
    return None
