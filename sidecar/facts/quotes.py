"""The live reference price of a security (3203). Knows prices only: what an order is worth is decided elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sidecar.facts.asking import House, Rejected, new, rejection
from sidecar.facts.lookup import BatchedLookup, Clock, Pace, RequestBudget
from sidecar.intents.model import Security
from sidecar.tasks import Tasks
from sidecar.wire.catalog import GET_SECURITY_SNAPSHOT

MAX_CODES = 400
"""Codes OpenD takes in one snapshot request."""


class Quotes:
    """Last prices by security, in its quote currency, at most `max_age` seconds after they were asked for.

    Requests stay inside `budget` (OpenD takes 60 snapshots in 30 s from all clients together, protocol facts, section 8);
    once it is used up a caller waits for its turn inside its timeout and then gets None.
    """

    def __init__(
        self,
        house: House,
        tasks: Tasks,
        budget: RequestBudget | None = None,
        *,
        timeout: float = 2.0,
        max_age: float = 3.0,
        negative_age: float = 1.0,
        max_entries: int = 10_000,
        clock: Clock = time.monotonic,
    ) -> None:
        """`timeout`: seconds a caller waits. Without a `budget` the whole of what OpenD takes."""
        self._house = house
        self._late = max_age  # an answer that took longer than that would be too old to use
        pace = Pace(MAX_CODES, max_age, negative_age, timeout, self._late, max_entries=max_entries)
        self._lookup: BatchedLookup[tuple[int, str], Decimal] = BatchedLookup(
            self._load, tasks, pace, budget=budget or RequestBudget(60, 30.0, clock), clock=clock
        )

    async def get(self, security: Security) -> Decimal | None:
        """None: no such security, suspended, no positive price, or not to be had in time. Never raises, never hangs."""
        return await self._lookup.get((security.qot_market, security.code))

    def has(self, security: Security) -> bool:
        """Whether `get` has it at once, from memory."""
        return self._lookup.has((security.qot_market, security.code))

    def forget(self) -> None:
        """Drop what is remembered; for when OpenD was away."""
        self._lookup.forget()

    async def _load(self, codes: Sequence[tuple[int, str]]) -> Mapping[tuple[int, str], Decimal] | Rejected:
        request = new("Qot_GetSecuritySnapshot.Request")
        for market, code in codes:
            request.c2s.securityList.add(market=market, code=code)
        reply: Any = await self._house.ask(GET_SECURITY_SNAPSHOT, request, timeout=self._late)
        if (refused := rejection(reply)) is not None:
            return refused
        priced = (
            ((snapshot.basic.security.market, snapshot.basic.security.code), price_of(snapshot.basic))
            for snapshot in reply.s2c.snapshotList
        )
        return {code: price for code, price in priced if price is not None}


def price_of(basic: Any) -> Decimal | None:
    """`curPrice` of a SnapshotBasicData, exactly as its double prints; None unless it is a positive, finite number.

    A suspended security has no live price: its last one may be weeks old. Negative prices of futures are not
    references either, so orders that need one are refused.
    """
    price: float = basic.curPrice
    if basic.isSuspend or not math.isfinite(price) or price <= 0:
        return None
    return Decimal(repr(price))
