"""Accounts: their cash, positions, orders and fills, and the arithmetic of funds. Judges no order (`rules`) and matches none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum

from sidecar.sandbox.instruments import SH, SZ, ZERO, Currency, Instrument, Kind
from sidecar.sandbox.listing import Listing
from sidecar.sandbox.margin import FUTURE_MARGIN, SHORT_MARGIN
from sidecar.sandbox.market import Market
from sidecar.sandbox.orders import Fill, Order

_HONG_KONG_DOLLARS = {
    Currency.HKD: Decimal(1),
    Currency.USD: Decimal("7.8"),
    Currency.CNH: Decimal("1.08"),
    Currency.JPY: Decimal("0.052"),
    Currency.SGD: Decimal("5.8"),
}
"""Made-up, fixed exchange rates."""


class TrdMarket(IntEnum):
    """Trd_Common.TrdMarket, as far as the sandbox has accounts for it."""

    HK = 1
    US = 2
    CN = 3
    HKCC = 4
    FUTURES = 5
    FUTURES_SIMULATE_HK = 10
    FUTURES_SIMULATE_US = 11
    FUTURES_SIMULATE_SG = 12
    FUTURES_SIMULATE_JP = 13
    HK_FUND = 113
    US_FUND = 123


SECURITY, FUTURE = 1, 2
"""Trd_Common.TrdCategory."""


def convert(amount: Decimal, source: Currency, target: Currency) -> Decimal:
    return amount if source is target else amount * _HONG_KONG_DOLLARS[source] / _HONG_KONG_DOLLARS[target]


@dataclass(slots=True)
class Position:
    """A holding; negative quantity is short."""

    instrument: Instrument
    number: int
    quantity: Decimal
    cost: Decimal
    """Average price paid or received per unit."""
    bought: Decimal = ZERO
    bought_value: Decimal = ZERO
    sold: Decimal = ZERO
    sold_value: Decimal = ZERO
    realized: Decimal = ZERO

    def trade(self, change: Decimal, price: Decimal) -> Decimal:
        """Add `change` units (negative sells) at `price`; the profit realised, in the instrument's currency."""
        value = abs(change) * price * self.instrument.multiplier
        if change > 0:
            self.bought, self.bought_value = self.bought + change, self.bought_value + value
        else:
            self.sold, self.sold_value = self.sold - change, self.sold_value + value
        closing = ZERO
        if self.quantity and (self.quantity > 0) != (change > 0):
            closing = min(abs(change), abs(self.quantity))
        direction = 1 if self.quantity > 0 else -1
        profit = closing * (price - self.cost) * direction * self.instrument.multiplier
        opening = abs(change) - closing
        left = abs(self.quantity) - closing
        if opening:
            self.cost = (left * self.cost + opening * price) / (left + opening)
        self.quantity += change
        self.realized += profit
        return profit


@dataclass(eq=False, slots=True)
class Account:
    """One trading account."""

    acc_id: int
    real: bool
    markets: tuple[TrdMarket, ...]
    category: int
    cash: dict[Currency, Decimal]
    firm: int = 1
    """Trd_Common.SecurityFirm."""
    margin: bool = True
    sim_type: int = 0
    card: str = ""
    universal_card: str = ""
    disabled: bool = False
    positions: dict[Instrument, Position] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    by_text_id: dict[str, Order] = field(default_factory=dict)
    history: list[Order] = field(default_factory=list)
    """Orders of earlier days."""
    fills: list[Fill] = field(default_factory=list)
    frozen_money: dict[Currency, Decimal] = field(default_factory=dict)
    """What working orders hold back, by the currency of their instruments."""
    offered: dict[Instrument, Decimal] = field(default_factory=dict)
    """Units in working sell orders."""
    flows: list[tuple[float, Currency, Decimal, str]] = field(default_factory=list)
    """Time, currency, signed amount and remark of every movement of cash."""

    @property
    def universal(self) -> bool:
        return self.real and len(self.markets) > 1

    @property
    def home(self) -> Currency:
        return next(iter(self.cash))

    def held(self, instrument: Instrument) -> Decimal:
        position = self.positions.get(instrument)
        return position.quantity if position is not None else ZERO

    def working(self) -> Iterable[Order]:
        return (order for order in self.orders.values() if order.working)

    def reserve(self, order: Order) -> None:
        """Bring what the account holds back up to date with an order that has just come or changed."""
        working = order.working
        money = order.reserved() if working else ZERO
        units = order.left if working and not order.buy else ZERO
        currency, instrument = order.instrument.currency, order.instrument
        self.frozen_money[currency] = self.frozen_money.get(currency, ZERO) + money - order.money_held
        self.offered[instrument] = self.offered.get(instrument, ZERO) + units - order.units_held
        order.money_held, order.units_held = money, units

    def sellable(self, instrument: Instrument, besides: Order | None = None) -> Decimal:
        """What is held and not yet offered by a working sell order; of mainland shares, none that were bought today."""
        held = self.held(instrument)
        if instrument.market in (SH, SZ) and instrument in self.positions:
            held -= self.positions[instrument].bought
        offered = self.offered.get(instrument, ZERO) - (besides.units_held if besides is not None else ZERO)
        return max(held - offered, ZERO)

    def frozen(self, currency: Currency, besides: Order | None = None) -> Decimal:
        """What working orders hold back, in `currency`."""
        total = sum((convert(amount, held, currency) for held, amount in self.frozen_money.items()), ZERO)
        if besides is not None:
            total -= convert(besides.money_held, besides.instrument.currency, currency)
        return total

    def margin_used(self, market: Market, currency: Currency) -> Decimal:
        """What open futures and short positions hold back, in `currency`."""
        used = ZERO
        for position in self.positions.values():
            instrument = position.instrument
            value = abs(position.quantity) * market.quotes[instrument].last * instrument.multiplier
            if instrument.kind is Kind.FUTURE:
                used += convert(value * FUTURE_MARGIN, instrument.currency, currency)
            elif position.quantity < 0:
                used += convert(value * SHORT_MARGIN, instrument.currency, currency)
        return used

    def total_cash(self, currency: Currency) -> Decimal:
        return sum((convert(amount, held, currency) for held, amount in self.cash.items()), ZERO)

    def power(self, market: Market, currency: Currency, besides: Order | None = None) -> Decimal:
        """Buying power in `currency`: all cash at fixed rates, less what orders and short positions hold back."""
        return self.total_cash(currency) - self.frozen(currency, besides) - self.margin_used(market, currency)

    def market_value(self, market: Market, currency: Currency, long: bool | None = None) -> Decimal:
        """Value of securities and options; futures have none. `long` True or False takes only that side."""
        total = ZERO
        for position in self.positions.values():
            instrument = position.instrument
            if instrument.kind is Kind.FUTURE or (long is not None and (position.quantity > 0) is not long):
                continue
            value = position.quantity * market.quotes[instrument].last * instrument.multiplier
            total += convert(value, instrument.currency, currency)
        return total

    def pay(self, currency: Currency, amount: Decimal, remark: str, now: float) -> None:
        """Add `amount` (negative takes) to the cash."""
        self.cash[currency] = self.cash.get(currency, ZERO) + amount
        self.flows.append((now, currency, amount, remark))


def build_accounts(listing: Listing, now: float) -> dict[int, Account]:
    """The accounts of every sandbox, by accID; the same whatever the seed."""
    hkd, usd, cnh, jpy = Currency.HKD, Currency.USD, Currency.CNH, Currency.JPY
    million = Decimal(1_000_000)
    accounts = [
        Account(1001001, False, (TrdMarket.HK,), SECURITY, {hkd: million}, sim_type=1),
        Account(1001002, False, (TrdMarket.US,), SECURITY, {usd: million}, sim_type=4),
        Account(1001003, False, (TrdMarket.CN,), SECURITY, {cnh: million}, sim_type=1, margin=False),
        Account(1001004, False, (TrdMarket.HK,), SECURITY, {hkd: million}, sim_type=2),
        Account(1001010, False, (TrdMarket.FUTURES_SIMULATE_HK,), FUTURE, {hkd: million}, sim_type=3),
        Account(1001011, False, (TrdMarket.FUTURES_SIMULATE_US,), FUTURE, {usd: million}, sim_type=3),
        Account(1001012, False, (TrdMarket.FUTURES_SIMULATE_SG,), FUTURE, {usd: million}, sim_type=3),
        Account(1001013, False, (TrdMarket.FUTURES_SIMULATE_JP,), FUTURE, {jpy: million * 50}, sim_type=3),
        Account(
            281756455000000001, True, (TrdMarket.HK, TrdMarket.US, TrdMarket.HKCC, TrdMarket.HK_FUND, TrdMarket.US_FUND),
            SECURITY, {hkd: million * 3, usd: Decimal(200_000), cnh: Decimal(500_000)},
            card="1001100100011234", universal_card="1001200100011234",
        ),
        Account(
            281756455000000002, True, (TrdMarket.HK, TrdMarket.US), SECURITY, {hkd: Decimal(80_000), usd: Decimal(5_000)},
            margin=False, card="1001100100025678", universal_card="1001200100025678",
        ),
        Account(
            281756455000000003, True, (TrdMarket.FUTURES,), FUTURE, {hkd: million, usd: Decimal(100_000)},
            card="1001100100039012",
        ),
        Account(
            281756455000000009, True, (TrdMarket.HK,), SECURITY, {hkd: ZERO}, card="1001100100090000", disabled=True,
        ),
    ]  # fmt: skip
    for account in accounts:
        for currency, amount in account.cash.items():
            if amount:
                account.flows.append((now - 90 * 86_400, currency, amount, "deposit"))
    book = {account.acc_id: account for account in accounts}
    for number, (acc_id, symbol, quantity, cost) in enumerate(_HOLDINGS):
        instrument = listing.find_symbol(symbol)
        if instrument is not None:
            book[acc_id].positions[instrument] = Position(
                instrument, 7_000_001 + number, Decimal(quantity), Decimal(cost)
            )
    return book


_HOLDINGS = (
    (1001001, "HK.00700", 1000, "455.4"),
    (1001001, "HK.00123", 4000, "5.05"),
    (1001001, "HK.02800", 2000, "22.9"),
    (1001002, "US.AAPL", 200, "196.2"),
    (1001003, "SH.600519", 100, "1490"),
    (281756455000000001, "HK.00700", 800, "391.8"),
    (281756455000000001, "HK.00005", 1200, "71.2"),
    (281756455000000001, "US.AAPL", 150, "181.35"),
    (281756455000000001, "SZ.300750", 200, "231.1"),
    (281756455000000002, "HK.00939", 2000, "5.4"),
)
"""Account, symbol, quantity and cost of what is held at the start."""
