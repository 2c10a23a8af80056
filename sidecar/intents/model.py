"""What a client wants, in the words of the trade; holds no rule, reads no bytes, imports only the standard library."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum, StrEnum


class TrdEnv(IntEnum):
    SIMULATE = 0
    REAL = 1


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"
    SELL_SHORT = "SELL_SHORT"
    BUY_BACK = "BUY_BACK"

    @property
    def sells(self) -> bool:
        return self in (Side.SELL, Side.SELL_SHORT)


class OrderType(IntEnum):
    """OpenD's order types (Trd_Common.OrderType)."""

    NORMAL = 1
    MARKET = 2
    ABSOLUTE_LIMIT = 5
    AUCTION = 6
    AUCTION_LIMIT = 7
    SPECIAL_LIMIT = 8
    SPECIAL_LIMIT_ALL = 9
    STOP = 10
    STOP_LIMIT = 11
    MARKET_IF_TOUCHED = 12
    LIMIT_IF_TOUCHED = 13
    TRAILING_STOP = 14
    TRAILING_STOP_LIMIT = 15
    TWAP = 16
    TWAP_LIMIT = 17
    VWAP = 18
    VWAP_LIMIT = 19

    @property
    def priced(self) -> bool:
        """Whether OpenD uses the order's price; for the others it is ignored, whatever the client sends."""
        return self not in _UNPRICED

    @property
    def waits(self) -> bool:
        """Whether it is kept back until a trigger or a time comes, and goes to the market only then, whole or in parts."""
        return self >= OrderType.STOP


_UNPRICED = frozenset(
    {
        OrderType.MARKET,
        OrderType.AUCTION,
        OrderType.STOP,
        OrderType.MARKET_IF_TOUCHED,
        OrderType.TRAILING_STOP,
        OrderType.TRAILING_STOP_LIMIT,
        OrderType.TWAP,
        OrderType.VWAP,
    }
)


class ModifyOp(IntEnum):
    """OpenD's ModifyOrderOp."""

    NORMAL = 1
    CANCEL = 2
    DISABLE = 3
    ENABLE = 4
    DELETE = 5


@dataclass(frozen=True, slots=True)
class AccountRef:
    """An account as a request names it; whether it exists, and in that environment, is a fact."""

    acc_id: int
    env: TrdEnv


@dataclass(frozen=True, slots=True)
class Security:
    """A security: `market` as keys.json says it (HK, US, CN, SG), `symbol` as users write it (`US.AAPL`, `SH.600519`).

    `qot_market` is OpenD's QotMarket number, the form in which quotes and static data are asked for. `trd_market` is
    the TrdMarket by which an order trades it (0 where no order names it): Shanghai and Shenzhen are `CN` by every
    route, and `HKCC` besides when that route is Stock Connect.
    """

    market: str
    symbol: str
    qot_market: int
    code: str
    trd_market: int = field(default=0, compare=False)

    @property
    def continuous(self) -> bool:
        """Whether its code stands for a contract (`HSImain`, `HSIcurrent`, `HSInext`) instead of naming one."""
        return self.code.endswith(("main", "current", "next"))


@dataclass(frozen=True, slots=True)
class OrderRef:
    """The order a request names: OpenD takes either id. `order_id` 0 and `order_id_ex` "" mean not given."""

    order_id: int
    order_id_ex: str


@dataclass(frozen=True, slots=True)
class Trail:
    """How a trailing stop follows the market: `value` behind it, in per cent of its price (`ratio`) or in its currency.

    `spread`: how far beyond its trigger a trailing stop with a limit may be filled.
    """

    value: Decimal
    ratio: bool
    spread: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """One single-leg order. Quantities in shares, contracts or coins; prices in the security's quote currency."""

    account: AccountRef
    security: Security
    side: Side
    order_type: OrderType
    qty: Decimal
    price: Decimal | None
    """None for the types whose price OpenD ignores."""
    aux_price: Decimal | None = None
    adjust_limit: Decimal | None = None
    """Signed fraction by which OpenD may move the price (adjustPrice + adjustSideAndLimit); None = may not."""
    outside_rth: bool = False
    session: int = 0
    remark: str = ""
    time_in_force: int = 0
    amount: Decimal | None = None
    """The stake of an event contract; None for everything else. Such an order is not worth quantity × price."""
    trail: Trail | None = None
    """None where the order does not say both how and how far it trails."""


@dataclass(frozen=True, slots=True)
class ComboLeg:
    security: Security
    side: Side
    qty_ratio: Decimal


@dataclass(frozen=True, slots=True)
class PlaceCombo:
    """One order over several legs."""

    account: AccountRef
    legs: tuple[ComboLeg, ...]
    order_type: OrderType
    qty: Decimal
    price: Decimal | None
    remark: str = ""
    time_in_force: int = 0

    @property
    def symbol(self) -> str:
        """What it trades, in the order of its legs: `BUY 1 US.AAPL + SELL 1 US.MSFT`."""
        return " + ".join(f"{leg.side} {leg.qty_ratio.normalize():f} {leg.security.symbol}" for leg in self.legs)


@dataclass(frozen=True, slots=True)
class ModifyOrder:
    """A change to a resting order, other than its cancel."""

    account: AccountRef
    op: ModifyOp
    order: OrderRef
    qty: Decimal | None = None
    """The new total quantity, what is filled already included."""
    price: Decimal | None = None
    aux_price: Decimal | None = None
    adjust_limit: Decimal | None = None
    trail: Trail | None = None


@dataclass(frozen=True, slots=True)
class RestingOrder:
    """An order as OpenD lists it (2201), with both of its ids: what a change names, and what it would change."""

    order: PlaceOrder | PlaceCombo
    order_id: int
    order_id_ex: str
    filled: Decimal = Decimal(0)
    """Units filled so far, part of the order's quantity."""
    fill_price: Decimal | None = None
    """What a unit of them was filled at on average; None where OpenD does not say."""
    status: int = 0
    """OpenD's OrderStatus."""


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """The cancel of one order, or (`for_all`) of every order of the account, optionally of one trade market."""

    account: AccountRef
    order: OrderRef
    for_all: bool = False
    for_all_market: int = 0


@dataclass(frozen=True, slots=True)
class ReconfirmOrder:
    """2209: the answer to OpenD's warning about an order. No SDK sends it, and no rule can read what it confirms."""

    account: AccountRef
    order: OrderRef


@dataclass(frozen=True, slots=True)
class ReadAccount:
    """Any read that names one account. `own_orders`: its reply can be narrowed to the key's own orders."""

    account: AccountRef
    own_orders: bool = False


@dataclass(frozen=True, slots=True)
class ListAccounts:
    """2001: the reply is filtered, so the request itself names nothing."""


@dataclass(frozen=True, slots=True)
class SubscribeAccounts:
    """2008: the accounts whose pushes the connection wants; narrowed to those the key may see."""

    acc_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadSubscriptions:
    """3003: the quote subscriptions of the asker's own connection; the reading has taken out those of others."""


@dataclass(frozen=True, slots=True)
class Unlock:
    """2005: unlock (or lock) real trading."""

    unlock: bool
    password_md5: str = field(repr=False)
    """SECURITY: as good as the trade password; kept out of every printed form."""


Order = PlaceOrder | PlaceCombo | ModifyOrder | CancelOrder
Intent = Order | ReconfirmOrder | ReadAccount | ListAccounts | SubscribeAccounts | ReadSubscriptions | Unlock
