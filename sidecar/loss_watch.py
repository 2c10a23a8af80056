"""Looks at the day's loss of the accounts in which orders were placed, and tells the breakers. Halts nothing itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

import structlog

from sidecar.breakers import Breakers
from sidecar.errors import UpstreamError
from sidecar.facts.accounts import Accounts
from sidecar.facts.asking import House, Rejected
from sidecar.facts.day_profit import day_profit
from sidecar.policy.currency import Rates, exchange_into
from sidecar.policy.exact import EXACT

LOOK_EVERY = 30.0
"""Seconds between two looks at one account."""

log = structlog.get_logger("sidecar.breakers")


class LossWatch:
    """`currency` is that of the limit; `day_start` gives the start of the day that a moment belongs to, both in unix seconds;
    `unknown` is told how many accounts could not be judged."""

    def __init__(
        self,
        house: House,
        accounts: Accounts,
        breakers: Breakers,
        *,
        currency: str | None,
        rates: Rates | None,
        day_start: Callable[[float], float],
        unknown: Callable[[float], None],
        timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._house = house
        self._accounts = accounts
        self._breakers = breakers
        self._currency = currency
        self._rates = rates
        self._day_start = day_start
        self._unknown = unknown
        self._timeout = timeout
        self._clock = clock
        self._why: dict[int, str] = {}
        """Of the accounts that could not be judged at the last look."""

    def use(self, currency: str | None, rates: Rates | None) -> None:
        """Another limit's currency (None: there is no limit) and other rates, from the next look on."""
        self._currency, self._rates = currency, rates
        if currency is None:
            self._why = {}
            self._unknown(0.0)

    async def run(self) -> None:
        """Look every LOOK_EVERY seconds while there is a limit. Does not return."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._currency is None:
                continue
            try:
                await self.look(self._currency)
            except Exception:
                # INVARIANT: whatever is the matter, it is looked at again
                log.exception("the look at the day's losses failed")

    async def look(self, currency: str) -> None:
        """At every account in which a key that may trade has placed an order today."""
        day = self._day_start(self._clock())
        why: dict[int, str] = {}
        for acc_id in self._breakers.traded_since(day):
            lost = await self._lost(acc_id, currency)
            if isinstance(lost, Rejected):
                why[acc_id] = lost.message
            else:
                self._breakers.day_lost(acc_id, lost, day)
        self._tell(why)

    def _tell(self, why: dict[int, str]) -> None:
        for acc_id, message in why.items():
            if self._why.get(acc_id) != message:
                log.error(
                    "the day's loss of an account is not known, so no breaker judges it", acc_id=acc_id, why=message
                )
        for acc_id in self._why.keys() - why.keys():
            log.info("the day's loss of an account is known again", acc_id=acc_id)
        self._why = why
        self._unknown(float(len(why)))

    async def _lost(self, acc_id: int, currency: str) -> Decimal | Rejected:
        account = self._accounts.get(acc_id)
        if account is None:
            return Rejected("the account is not known")
        try:
            profit = await day_profit(self._house, account, self._timeout)
        except UpstreamError as error:
            return Rejected(str(error))
        if isinstance(profit, Rejected):
            return profit
        return loss_in(currency, profit, self._rates, datetime.fromtimestamp(self._clock(), UTC))


def loss_in(currency: str, profit: Mapping[str, Decimal], rates: Rates | None, now: datetime) -> Decimal | Rejected:
    """One amount, above 0 where it is a loss; what does not come out even is rounded to more of one. Rejected where a
    currency has no rate, or the rates cannot be used.
    """
    into, total = exchange_into(currency, rates, now), Decimal(0)
    for one, amount in profit.items():
        if not amount:
            continue
        loss = into.convert(EXACT.minus(amount), one)
        if loss is None:
            return Rejected(f"{into.lacks(one)}")
        total = EXACT.add(total, loss)
    return total
