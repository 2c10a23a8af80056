"""Which orders OpenD takes: the checks on an order, a change of it, and an account. Changes nothing; says why not.

What is imitated, and how sure that is (protocol facts, section 5; "documented" for paper accounts is OpenD's own
description of paper trading):

| behaviour | mark |
|---|---|
| paper: limit and market orders only | documented |
| paper: changing and cancelling only; no disable, enable, delete | documented |
| paper: no fills (2211, 2222) and no pushes of them (2218) | documented |
| paper: day orders only, no extended hours | documented |
| paper: short selling for US stocks, options and futures only | documented |
| paper and Stock Connect: no cancelling of all orders at once | documented |
| paper needs no unlock; real accounts need one for placing and changing orders | documented |
| disable, enable and delete exist for Hong Kong only | documented (US: change and cancel only) |
| quantity of a change is the new total, including what is filled | documented |
| a quantity's fraction is dropped | documented |
| a price's places after the third are dropped; futures: the ninth, US: below 1 the fourth, options the second | documented |
| selling beyond what is held takes two orders, one for what is held and one short; buying back beyond what is owed too | documented |
| absolute limit and auction orders exist for Hong Kong only | documented |
| Stock Connect takes no order without a limit | documented by the exchange |
| mainland shares are sold from the day after they were bought | documented by the exchange |
| good till date needs an expireTime | inferred |
| quantities in whole board lots, prices on the price ladder unless adjustPrice moves them | inferred |
| missing buying power or holdings are refused at once, with no order | inferred |
| a price nine times the market's or more is taken, then fails with a 2208 | inferred (the exchange's rule) |
| trdEnv and trdMarket must fit the account, secMarket must fit trdMarket | inferred |
| secMarket absent: taken from trdMarket and the code | documented |
| orderID and orderIDEx that name different orders are refused | unknown |
| cancelling needs an unlock as well | inferred |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

from sidecar.sandbox.accounts import Account, TrdMarket
from sidecar.sandbox.answers import Failure
from sidecar.sandbox.instruments import HK, SH, SZ, TRADE_MARKET, US, ZERO, Instrument, Kind
from sidecar.sandbox.legs import Leg
from sidecar.sandbox.listing import Listing
from sidecar.sandbox.margin import needed
from sidecar.sandbox.market import Market
from sidecar.sandbox.orders import (
    ABSOLUTE_LIMIT,
    AUCTIONS,
    DAY,
    GTD,
    LIMIT,
    MARKET,
    ORDER_TYPES,
    TRAILED,
    TRAILING_LIMIT,
    TRIGGERED,
    UNPRICED,
    Order,
)  # fmt: skip

MAX_REMARK = 64
HONG_KONG_ONLY = AUCTIONS | {ABSOLUTE_LIMIT}
SIDES = {1: True, 2: False, 3: False, 4: True}
"""TrdSide: buy, sell, sell short, buy back; True buys."""

_SECURITY_MARKETS: dict[int, tuple[int, ...]] = {
    TrdMarket.HK: (1,),
    TrdMarket.US: (2,),
    TrdMarket.CN: (31, 32),
    TrdMarket.HKCC: (31, 32),
    TrdMarket.FUTURES: (1, 2, 41, 51),
    TrdMarket.FUTURES_SIMULATE_HK: (1,),
    TrdMarket.FUTURES_SIMULATE_US: (2,),
    TrdMarket.FUTURES_SIMULATE_SG: (41,),
    TrdMarket.FUTURES_SIMULATE_JP: (51,),
}
"""TrdSecMarkets that belong to a TrdMarket."""

_FUTURES = frozenset(range(TrdMarket.FUTURES_SIMULATE_HK, TrdMarket.FUTURES_SIMULATE_JP + 1)) | {TrdMarket.FUTURES}


@dataclass(frozen=True, slots=True)
class Terms:
    """An order that may be taken."""

    instrument: Instrument
    buy: bool
    quantity: Decimal
    price: Decimal | None
    short: bool
    legs: tuple[Leg, ...] = ()
    """Of a combo order; then `instrument` stands for all of them together."""


def find_account(accounts: dict[int, Account], head: Any) -> Account | Failure:
    """The account of a TrdHeader, where environment and market fit it."""
    account = accounts.get(head.accID)
    if account is None or head.trdEnv != int(account.real):
        return Failure(f"Nonexisting acc_id {head.accID} in this trading environment")
    if head.trdMarket not in account.markets:
        return Failure(f"Account {head.accID} has no authority for trading market {head.trdMarket}")
    return account


def find_instrument(listing: Listing, trd_market: int, sec_market: int, code: str) -> Instrument | Failure:
    """The instrument of an order; a futures main code becomes its contract (documented)."""
    markets = _SECURITY_MARKETS.get(trd_market, ())
    if sec_market and sec_market not in markets:
        return Failure(f"Security market {sec_market} does not belong to trading market {trd_market}")
    for market in (sec_market,) if sec_market else markets:
        found = listing.find_traded(market, code)
        if found is None:
            continue
        if (found.kind is Kind.FUTURE) != (trd_market in _FUTURES) or not found.tradable:
            return Failure(f"{code} cannot be traded in trading market {trd_market}")
        return found.owner if found.main and found.owner is not None else found
    return Failure(f"Unknown stock {code} in trading market {trd_market}")


def exact(value: float) -> Decimal | None:
    """The double as the decimal it was meant to be; None for NaN, infinities and what no order could need."""
    return Decimal(repr(value)) if math.isfinite(value) and abs(value) < 1e12 else None


def whole(quantity: float) -> Decimal | None:
    """A quantity without its fraction; None where `exact` has none."""
    meant = exact(quantity)
    return None if meant is None else meant.to_integral_value(ROUND_DOWN)


def _priced(price: float, instrument: Instrument) -> Decimal | None:
    """A price without the places that OpenD drops."""
    meant = exact(price)
    if meant is None:
        return None
    places = 9 if instrument.kind is Kind.FUTURE else 3
    if instrument.market == US and instrument.kind is not Kind.FUTURE:
        places = 2 if instrument.kind is Kind.OPTION else 4 if meant < 1 else 3
    kept = meant.quantize(Decimal(1).scaleb(-places), ROUND_DOWN)
    return meant if kept == meant else kept


def paper_refusal(account: Account, order_type: int, time_in_force: int, extended: bool) -> Failure | None:
    """What paper accounts do not take."""
    if order_type not in (LIMIT, MARKET):
        return Failure("Paper trading supports limit and market orders only")
    if time_in_force != DAY:
        return Failure("Paper trading supports day orders only")
    if extended:
        return Failure("Paper trading supports regular trading hours only")
    return None


def judge(account: Account, c2s: Any, listing: Listing, market: Market, relaxed: bool) -> Terms | Failure:
    """Whether a 2202 is taken."""
    if account.disabled:
        return Failure(f"Account {account.acc_id} is disabled")
    instrument = find_instrument(listing, c2s.header.trdMarket, c2s.secMarket, c2s.code)
    if isinstance(instrument, Failure):
        return instrument
    if c2s.orderType not in ORDER_TYPES:
        return Failure(f"Unknown order type {c2s.orderType}")
    if c2s.orderType in HONG_KONG_ONLY and instrument.market != HK:
        return Failure("Absolute limit and auction orders exist in Hong Kong only")
    if c2s.orderType in UNPRICED and c2s.orderType != TRAILING_LIMIT and is_stock_connect(account, instrument):
        return Failure("Stock Connect takes orders with a limit only")
    if c2s.trdSide not in SIDES:
        return Failure(f"Unknown trading side {c2s.trdSide}")
    if not DAY <= c2s.timeInForce <= GTD:
        return Failure(f"Unknown time in force {c2s.timeInForce}")
    if c2s.timeInForce == GTD and not c2s.expireTime:
        return Failure("Good till date needs an expireTime")
    if len(c2s.remark.encode()) > MAX_REMARK:
        return Failure(f"The remark is longer than {MAX_REMARK} bytes")
    if not account.real and not relaxed:
        refusal = paper_refusal(account, c2s.orderType, c2s.timeInForce, c2s.fillOutsideRTH)
        if refusal is not None:
            return refusal
    if c2s.orderType in TRIGGERED and not (exact(c2s.auxPrice) or ZERO) > 0:
        return Failure("This order type needs a trigger price in auxPrice")
    if c2s.orderType in TRAILED and (c2s.trailType not in (1, 2) or not (exact(c2s.trailValue) or ZERO) > 0):
        return Failure("This order type needs trailType and trailValue")
    price = _price(c2s, c2s.orderType, instrument)
    if isinstance(price, Failure):
        return price
    quantity = whole(c2s.qty)
    buy = SIDES[c2s.trdSide]
    refusal = quantity_refusal(instrument, quantity)
    if refusal is not None or quantity is None:
        return refusal or Failure("The quantity is wrong")
    return _affordable(account, market, Terms(instrument, buy, quantity, price, short=False), relaxed, None)


def judge_change(account: Account, order: Order, c2s: Any, market: Market, relaxed: bool) -> Terms | Failure:
    """Whether a 2205 with op 1 is taken. `qty` is the new total (documented)."""
    price = _price(c2s, order.order_type, order.instrument)
    if isinstance(price, Failure):
        return price
    quantity = whole(c2s.qty)
    refusal = quantity_refusal(order.instrument, quantity)
    if refusal is not None or quantity is None:
        return refusal or Failure("The quantity is wrong")
    if quantity <= order.filled:
        return Failure(f"The new quantity must be above what is filled already, {order.filled.normalize():f}")
    return _affordable(
        account, market, Terms(order.instrument, order.buy, quantity, price, short=False), relaxed, order
    )


def quantity_refusal(instrument: Instrument, quantity: Decimal | None) -> Failure | None:
    if quantity is None or quantity <= 0 or quantity != quantity.to_integral_value():
        return Failure("The quantity must be a positive whole number")
    if quantity % instrument.quantity_step:
        return Failure(f"The quantity must be a multiple of the lot size {instrument.quantity_step}")
    return None


def _price(c2s: Any, order_type: int, instrument: Instrument) -> Decimal | Failure | None:
    if order_type in UNPRICED:
        return None
    price = _priced(c2s.price, instrument)
    if price is None or price <= 0:
        return Failure("The price must be above 0")
    step = instrument.step(price)
    if not price % step:
        return price
    if not c2s.adjustPrice:
        return Failure(
            f"The price {price} is not a multiple of the price step {step}; set adjustPrice to have it moved"
        )
    down = price - price % step
    bound = exact(c2s.adjustSideAndLimit) or ZERO
    moved = down + step if bound > 0 else down
    if moved <= 0 or abs(moved - price) > abs(price * bound):
        return Failure(f"The price {price} cannot be moved to a price step within {bound}")
    return moved


def _affordable(
    account: Account, market: Market, terms: Terms, relaxed: bool, changed: Order | None
) -> Terms | Failure:
    instrument = terms.instrument
    filled = changed.filled if changed is not None else ZERO
    left = terms.quantity - filled
    short = False
    if not terms.buy and instrument.kind is not Kind.FUTURE:
        held = account.sellable(instrument, changed)
        if left > held:
            allowed = account.margin and (
                instrument.kind is Kind.OPTION
                or (instrument.market == US and instrument.kind in (Kind.STOCK, Kind.ETF))
            )
            if not allowed and not (relaxed and not account.real):
                return Failure(
                    f"Insufficient holdings: {held.normalize():f} can be sold, {left.normalize():f} are offered"
                )
            if held > 0:
                return Failure(
                    f"{held.normalize():f} are held: sell those first, and short what is beyond them in a second order"
                )
            short = True
    owed = -account.held(instrument)
    if terms.buy and 0 < owed < left and instrument.kind is not Kind.FUTURE:
        return Failure(
            f"{owed.normalize():f} were sold short: buy those back first, and what is beyond them in a second order"
        )
    quote = market.quotes[instrument]
    expected = terms.price or (quote.ask * Decimal("1.05") if terms.buy else quote.bid)
    cost = needed(instrument, left, terms.buy, short, expected)
    if instrument.kind is Kind.FUTURE and _closes(account, instrument, terms.buy, left):
        cost = ZERO
    if terms.buy and account.held(instrument) < 0 and left <= -account.held(instrument):
        cost = ZERO  # buying back frees more than it takes
    power = account.power(market, instrument.currency, changed)
    if cost > power:
        return Failure(
            f"Insufficient buying power: {cost:.2f} needed, {max(power, ZERO):.2f} {instrument.currency.name} available"
        )
    return Terms(instrument, terms.buy, terms.quantity, terms.price, short)


def _closes(account: Account, instrument: Instrument, buy: bool, quantity: Decimal) -> bool:
    held = account.held(instrument)
    return (held < 0 and buy and quantity <= -held) or (held > 0 and not buy and quantity <= held)


def is_stock_connect(account: Account, instrument: Instrument) -> bool:
    return account.real and instrument.market in (SH, SZ)


def fits(market: int, instrument: Instrument) -> bool:
    """Whether an instrument belongs to a TrdMarket."""
    if (instrument.kind is Kind.FUTURE) != (market in _FUTURES):
        return False
    return TRADE_MARKET[instrument.market] in _SECURITY_MARKETS.get(market, ())


def trade_market_of(account: Account, instrument: Instrument) -> int:
    """The TrdMarket of the account that an instrument belongs to, its first one where none does."""
    return int(next((market for market in account.markets if fits(market, instrument)), account.markets[0]))
