"""What an account holds, may sell, and what that is worth (2102), and up to which of the ledger's reservations that is sure to be shown.
Decides nothing: what is reserved beyond it is counted at the moment of the decision.

Why nothing is sold twice. What may be sold is OpenD's `canSellQty`, less every sale that the answer may not show yet:

- sales reserved after the question was *sent* (a question may be answered at any moment after that);
- sales whose fate is not known: they may be filled or working, or not have arrived;
- sales settled after the question was sent: OpenD may have answered it before the order arrived;
- sales settled less than `lag` seconds before: OpenD answers from its own cache, which follows its orders a moment
  later.

An older sale is in the answer itself: `canSellQty` is without what working orders hold back, and a fill takes as much
from the holding as it no longer holds back. Where the answer shows a sale that is subtracted as well, it counts twice
for `lag` seconds and a sale may be refused that would have been right; never the other way round. Only what OpenD has
refused, or reported as failed with nothing filled, is free again before the next answer.

A sale that waits for a trigger or a time may not be held back at all: it is counted whole as long as it is open, in the
step that decides (`gathering`).

Not seen in time: what the owner sells elsewhere, in the broker's own app, within the seconds an answer is used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sidecar.facts.asking import House, Rejected, ask_about, new
from sidecar.facts.lookup import BatchedLookup, Clock, Pace, RequestBudget
from sidecar.intents.markets import security_of_report
from sidecar.intents.model import Security
from sidecar.policy.exact import EXACT
from sidecar.policy.usage import Account, Position
from sidecar.tasks import Tasks
from sidecar.wire.catalog import GET_POSITION_LIST

_LONG, _SHORT = 0, 1
"""Trd_Common.PositionSide."""
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Held:
    """Of one symbol: the units that can be sold, those held net of what is short, and what OpenD says one is worth."""

    sellable: Decimal = _ZERO
    net: Decimal = _ZERO
    price: Decimal | None = None


_NOTHING = Held()


@dataclass(frozen=True, slots=True)
class Holdings:
    """What one account holds, by symbol. `unclear`: codes of which OpenD's answer does not say it."""

    held: Mapping[str, Held]
    unclear: frozenset[str]
    sequence: int
    asked_at: float


class Positions:
    """Holdings by account, asked for once for all who want them at about the same time, and used again for `reused` s.

    OpenD limits only lists that refresh its cache (protocol facts, section 8), which these do not, so clients cannot use
    the limit up; `requests` per `period` is a bound of our own, and more than one key uses that sells in ten accounts
    without pause.
    """

    def __init__(
        self,
        house: House,
        tasks: Tasks,
        sequence_before: Callable[[float], int],
        *,
        timeout: float = 2.0,
        max_age: float = 3.0,
        lag: float = 3.0,
        reused: float = 1.0,
        requests: int = 600,
        period: float = 30.0,
        clock: Clock = time.monotonic,
    ) -> None:
        """Times in seconds. `sequence_before`: the ledger's; `timeout`: how long a caller waits."""
        self._house = house
        self._sequence_before = sequence_before
        self._max_age = max_age
        self._lag = lag
        self._late = max_age  # an answer that took longer than that would be too old to use
        self._clock = clock
        pace = Pace(1, min(reused, max_age), min(reused, max_age), timeout, self._late)
        budget = RequestBudget(requests, period, clock, even=requests // 2)
        self._lookup: BatchedLookup[Account, Holdings] = BatchedLookup(
            self._load, tasks, pace, budget=budget, clock=clock
        )

    async def get(self, account: Account | None, security: Security) -> Position | None:
        """What the account holds and may sell of it, nothing reserved counted yet. Never raises, never hangs.

        None: the account is not known, OpenD does not say, or not in time. Not held is 0 units, not None.
        """
        if account is None:
            return None
        holdings = await self._lookup.get(account)
        if holdings is None or security.code in holdings.unclear:
            return None
        held = holdings.held.get(security.symbol, _NOTHING)
        return Position(held.sellable, None, holdings.sequence, holdings.asked_at, held.net, held.price)

    def fresh(self, position: Position) -> bool:
        """Whether it may still be used: it was asked for less than `max_age` seconds ago."""
        return self._clock() - position.asked_at < self._max_age

    def forget(self) -> None:
        """Drop what is remembered; for when OpenD was away."""
        self._lookup.forget()

    async def _load(self, accounts: Sequence[Account]) -> Mapping[Account, Holdings] | Rejected:
        (account,) = accounts
        # INVARIANT: before the question is sent: what is reserved or settled from here on is never taken as shown
        sequence, asked_at = self._sequence_before(self._lag), self._clock()
        request = new("Trd_GetPositionList.Request")
        reply = await ask_about(self._house, account, GET_POSITION_LIST, request, timeout=self._late)
        if isinstance(reply, Rejected):
            return reply
        held, unclear = read(reply.s2c.positionList)
        return {account: Holdings(held, unclear, sequence, asked_at)}


def read(positions: Iterable[Any]) -> tuple[dict[str, Held], frozenset[str]]:
    """What is held by symbol, and the codes of which that is not clear.

    Several positions of one security are added up; of their prices the highest counts. Never more can be sold than is held
    net of what is short.
    """
    prices: dict[str, Decimal] = {}
    sellable: dict[str, Decimal] = {}
    net: dict[str, Decimal] = {}
    unclear: set[str] = set()
    for reported in positions:
        security = security_of_report(reported.trdMarket, reported.secMarket, reported.code)
        qty, free = _exact(reported.qty), _exact(reported.canSellQty)
        if security is None or qty is None or free is None or reported.positionSide not in (_LONG, _SHORT):
            unclear.add(reported.code)
            continue
        symbol, short = security.symbol, reported.positionSide == _SHORT or qty < 0
        net[symbol] = EXACT.add(net.get(symbol, _ZERO), -abs(qty) if short else qty)
        sellable[symbol] = EXACT.add(sellable.get(symbol, _ZERO), _ZERO if short else max(free, _ZERO))
        price = _exact(reported.price)
        if price is not None and price > prices.get(symbol, _ZERO):
            prices[symbol] = price
    held = {
        symbol: Held(max(_ZERO, min(free, net[symbol])), net[symbol], prices.get(symbol))
        for symbol, free in sellable.items()
    }
    return held, frozenset(unclear)


def _exact(number: float) -> Decimal | None:
    """As its double prints; None for what is no number."""
    return Decimal(repr(number)) if math.isfinite(number) else None
