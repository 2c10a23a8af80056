"""What a decision needs besides the key: the facts the request does not say, and what the key has used already."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sidecar.intents.model import RestingOrder, Side, TrdEnv
from sidecar.policy.currency import Rates
from sidecar.policy.market_state import MarketState
from sidecar.policy.trading import Standing


@dataclass(frozen=True, slots=True)
class Account:
    """One account of OpenD's own list (2001). `markets` are TrdMarket numbers."""

    acc_id: int
    env: TrdEnv
    markets: frozenset[int]


class InstrumentKind(StrEnum):
    STOCK = "stock"
    ETF = "etf"
    WARRANT = "warrant"
    OPTION = "option"
    FUTURE = "future"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Instrument:
    """Static data of one security (3202). `multiplier` is contract size; 1 for stocks and ETFs; None when not known."""

    kind: InstrumentKind
    multiplier: Decimal | None
    currency: str
    underlying: str | None = None
    """The symbol an option is written on, e.g. `HK.00700`; None when not known or not an option."""


@dataclass(frozen=True, slots=True)
class OrderOwner:
    """Who placed the order a request names. `key_id` None: an order of no known key (placed outside the sidecar)."""

    key_id: str | None


@dataclass(frozen=True, slots=True)
class Approved:
    """What the ledger has of an order that is to be changed; None: nothing of the kind."""

    qty: Decimal | None = None
    """The smallest total it may have by what was approved. OpenD's list may not show it yet."""
    value: Decimal | None = None
    """What was counted for it so far and is not given back, in `currency`: at least the highest total it ever had."""
    currency: str | None = None
    side: Side | None = None
    """On which it was placed; None for a combo. OpenD lists a plain sale of what is not held as a short one."""


@dataclass(frozen=True, slots=True)
class Position:
    """What an account may sell of one security without going short, and what is already promised of it."""

    sellable: Decimal
    """Units OpenD says can be sold, and never more than are held net; 0 where nothing is held."""
    reserved: Decimal | None = None
    """Units of the sells of every key that `sellable` may not show; None: not counted, and refused."""
    sequence: int = 0
    """Of the ledger, up to which `sellable` is sure to show what was reserved."""
    asked_at: float = 0.0
    """When OpenD was asked, on the clock of who asked."""
    net: Decimal | None = None
    """Units held, below 0 where it is short; None: not clear."""
    price: Decimal | None = None
    """What OpenD says one unit held is worth now; None where it does not say."""
    open_buys: Decimal | None = None
    """Units of all buys of every key that are on the market or under way; None: not counted, and refused."""
    open_sells: Decimal | None = None


@dataclass(frozen=True, slots=True)
class LegFacts:
    """What was found out about one security of an order."""

    instrument: Instrument | None = None
    quote: Decimal | None = None
    position: Position | None = None
    market_state: MarketState | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out for one request; None: not asked for or not to be had, and refused where needed."""

    account: Account | None = None
    instrument: Instrument | None = None
    quote: Decimal | None = None
    """The live reference price (3203), in the instrument's currency."""
    order_owner: OrderOwner | None = None
    position: Position | None = None
    """The account's holding of what the order trades."""
    market_state: MarketState | None = None
    """What the market of the order's security is doing now."""
    trading: Standing | None = None
    """The strictest trading state that holds for the key."""
    locked_since: datetime | None = None
    """Since when (aware) real trading under the key is locked by a client of its own; None: it is not."""
    legs: tuple[LegFacts, ...] = ()
    """Of a combo order, in the order of its legs."""
    resting: RestingOrder | None = None
    """The order that is to be changed."""
    approved: Approved | None = None
    """What the ledger has of it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the key has used at the moment of decision, reservations included."""

    orders_last_minute: int = 0
    oldest_order_age: float = 0.0
    """Seconds since the oldest order still inside the 60 s window; tells the client when to retry."""
    cancels_last_minute: int = 0
    daily_value: dict[str, Decimal] = field(default_factory=dict)
    """Reserved and accepted value of the running day, per currency."""
    open_orders: int = 0
    """Orders of the key that may still be on the market, or on their way there."""
    same_order_age: float | None = None
    """Seconds since the key last placed an order like the one being judged; None: not within a day, or not asked."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator set for the orders of every key."""

    price_buffer_pct: Decimal = Decimal(5)
    """Per cent on top of the price of an order that has none of its own: it may be filled at a worse one."""
    rates: Rates | None = None
    """For keys with cap_currency; None: the operator gave none, and what needs one is refused."""


class Need(StrEnum):
    """A fact that must be asked from OpenD before an order can be decided."""

    INSTRUMENT = "instrument"
    QUOTE = "quote"
    POSITION = "position"
    MARKET_STATE = "market state"
