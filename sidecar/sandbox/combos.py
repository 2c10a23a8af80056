"""Combo orders (2227): which are taken and which changes of them. What their legs cost is in `legs`; matches none (`exchange`).

| behaviour | mark |
|---|---|
| legs with side and ratio, a leg trades quantity × ratio; the price is the net price, negative for a credit | documented |
| the reply names orderIDEx only; change and cancel go through 2205 | documented |
| lists and pushes carry comboLegs and strategyType | documented |
| code and name of the order are made of underlying and strategy, its side is buy | inferred |
| the net price is per unit of the largest leg's multiplier, in steps of 0.01 | inferred |
| two to four legs, stocks, funds and options of one market and currency, each once, ratios whole; limit and market orders | inferred |
| paper accounts take none | inferred (paper trading lists limit and market orders of single securities) |
| all legs trade at once or none does | inferred |
| a debit is held back until it is paid, a credit holds nothing back | made up |
| what 2112 says a combo would change of funds and margin | made up |
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sidecar.sandbox.accounts import Account
from sidecar.sandbox.answers import Failure
from sidecar.sandbox.instruments import ZERO, Instrument, Kind
from sidecar.sandbox.legs import STEP, ComboQuote, Leg, combo_instrument
from sidecar.sandbox.listing import Listing
from sidecar.sandbox.margin import SHORT_MARGIN
from sidecar.sandbox.market import Market
from sidecar.sandbox.orders import DAY, GTD, LIMIT, MARKET, Order
from sidecar.sandbox.rules import MAX_REMARK, SIDES, Terms, exact, fits, quantity_refusal, whole

_LEGS = range(2, 5)
_KINDS = (Kind.STOCK, Kind.ETF, Kind.OPTION)


def judge_combo(account: Account, c2s: Any, listing: Listing, market: Market, relaxed: bool) -> Terms | Failure:
    """Whether a 2227 is taken."""
    if account.disabled:
        return Failure(f"Account {account.acc_id} is disabled")
    if not account.real and not relaxed:
        return Failure("Paper trading does not support combo orders")
    legs = _legs(c2s, listing, market)
    if isinstance(legs, Failure):
        return legs
    if c2s.orderType not in (LIMIT, MARKET):
        return Failure("Combo orders are limit or market orders")
    if not DAY <= c2s.timeInForce <= GTD:
        return Failure(f"Unknown time in force {c2s.timeInForce}")
    if len(c2s.remark.encode()) > MAX_REMARK:
        return Failure(f"The remark is longer than {MAX_REMARK} bytes")
    return _terms(account, c2s, combo_instrument(legs), legs, c2s.orderType, market, None)


@dataclass(frozen=True, slots=True)
class ComboEffect:
    """What a combo would change of an account, in the currency of its legs."""

    net_value: Decimal
    initial_margin: Decimal
    power_used: Decimal
    power: Decimal
    """Buying power as it is without it."""


def combo_effect(account: Account, c2s: Any, listing: Listing, market: Market) -> ComboEffect | Failure:
    """What 2112 tells of a combo, whether or not 2227 would take it."""
    legs = _legs(c2s, listing, market)
    if isinstance(legs, Failure):
        return legs
    instrument = combo_instrument(legs)
    quantity = whole(c2s.qty)
    refusal = quantity_refusal(instrument, quantity)
    if refusal is not None or quantity is None:
        return refusal or Failure("The quantity is wrong")
    quote = ComboQuote(instrument, legs)
    price = exact(c2s.price) if c2s.HasField("price") and c2s.orderType != MARKET else None
    paid = (quote.ask if price is None else price) * quantity * instrument.multiplier
    margin = ZERO
    for leg in legs:
        short = ZERO if leg.buy else quantity * leg.ratio - account.sellable(leg.instrument)
        margin += max(short, ZERO) * leg.quote.last * leg.instrument.multiplier * SHORT_MARGIN
    return ComboEffect(
        net_value=quote.last * quantity * instrument.multiplier - paid,
        initial_margin=margin,
        power_used=max(paid, ZERO) + margin,
        power=account.power(market, instrument.currency),
    )


def judge_combo_change(account: Account, order: Order, c2s: Any, market: Market) -> Terms | Failure:
    """Whether a 2205 with op 1 on a combo order is taken. `qty` is the new total."""
    return _terms(account, c2s, order.instrument, order.legs, order.order_type, market, order)


def _legs(c2s: Any, listing: Listing, market: Market) -> tuple[Leg, ...] | Failure:
    if len(c2s.comboLegs) not in _LEGS:
        return Failure(f"A combo order has {_LEGS.start} to {_LEGS.stop - 1} legs")
    legs: list[Leg] = []
    for wanted in c2s.comboLegs:
        instrument = listing.find(wanted.security.market, wanted.security.code)
        if instrument is None or instrument.kind not in _KINDS or not fits(c2s.header.trdMarket, instrument):
            return Failure(f"{wanted.security.code} cannot be a leg in trading market {c2s.header.trdMarket}")
        if wanted.side not in SIDES:
            return Failure(f"Unknown trading side {wanted.side} of leg {instrument.code}")
        ratio = exact(wanted.qtyRatio)
        if ratio is None or ratio <= 0 or ratio != ratio.to_integral_value():
            return Failure(f"The ratio of leg {instrument.code} must be a positive whole number")
        legs.append(Leg(instrument, market.quotes[instrument], SIDES[wanted.side], int(ratio)))
    if len({leg.instrument for leg in legs}) < len(legs):
        return Failure("A security can be a leg once only")
    if len({(leg.instrument.market, leg.instrument.currency) for leg in legs}) > 1:
        return Failure("The legs must be of one market and currency")
    return tuple(legs)


def _terms(
    account: Account,
    c2s: Any,
    instrument: Instrument,
    legs: tuple[Leg, ...],
    order_type: int,
    market: Market,
    changed: Order | None,
) -> Terms | Failure:
    price = None if order_type == MARKET else exact(c2s.price)
    if order_type != MARKET and (price is None or price % STEP):
        return Failure(f"The net price must be a multiple of {STEP}")
    quantity = whole(c2s.qty)
    refusal = quantity_refusal(instrument, quantity)
    if refusal is not None or quantity is None:
        return refusal or Failure("The quantity is wrong")
    filled = changed.filled if changed is not None else ZERO
    if quantity <= filled:
        return Failure(f"The new quantity must be above what is filled already, {filled.normalize():f}")
    for leg in legs:
        sold = (quantity - filled) * leg.ratio if not leg.buy else ZERO
        if not account.margin and sold > account.sellable(leg.instrument):
            return Failure(f"Insufficient holdings of leg {leg.instrument.code}")
    expected = price if price is not None else ComboQuote(instrument, legs).ask * Decimal("1.05")
    cost = max(expected, ZERO) * (quantity - filled) * instrument.multiplier
    power = account.power(market, instrument.currency, changed)
    if cost > power:
        return Failure(
            f"Insufficient buying power: {cost:.2f} needed, {max(power, ZERO):.2f} {instrument.currency.name} available"
        )
    return Terms(instrument, True, quantity, price, short=False, legs=legs)
