"""The made-up past of real accounts: for every holding one filled order, so that history queries have something to show."""

from __future__ import annotations

from decimal import Decimal

from sidecar.sandbox.accounts import Account
from sidecar.sandbox.market import Market
from sidecar.sandbox.orders import LIMIT, Fill, Order, Status
from sidecar.sandbox.rules import trade_market_of

_DAY = 86_400


def add_past_orders(accounts: dict[int, Account], market: Market, now: float) -> None:
    """Give every holding of a real account the order that bought it, some weeks ago."""
    number = 7_900_000_000
    for account in accounts.values():
        if not account.real:
            continue
        for days, position in enumerate(account.positions.values(), start=20):
            number += 1_000 + days
            when = now - days * _DAY
            order = Order(
                acc_id=account.acc_id,
                instrument=position.instrument,
                number=number,
                text_id=f"F{number:X}",
                buy=True,
                order_type=LIMIT,
                quantity=position.quantity,
                price=position.cost,
                quote=market.quotes[position.instrument],
                trd_market=trade_market_of(account, position.instrument),
                created=when,
                updated=when,
                status=Status.FILLED_ALL,
                filled=position.quantity,
                filled_value=position.quantity * position.cost,
                fees=Decimal("45.00"),
            )
            account.history.append(order)
            account.by_text_id[order.text_id] = order
            account.fills.append(
                Fill(order, number + 1, position.instrument, True, position.quantity, position.cost, when)
            )
