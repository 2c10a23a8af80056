"""Which contract a continuous futures code (`HSImain`) stands for now (3218 `origin`). Rewrites no request."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.errors import BodyError
from sidecar.facts.asking import House, Rejected, new, rejection
from sidecar.facts.lookup import BatchedLookup, Clock, Pace, RequestBudget
from sidecar.intents.markets import security_of_leg
from sidecar.intents.model import Security
from sidecar.tasks import Tasks
from sidecar.wire.catalog import GET_FUTURE_INFO

MAX_CODES = 200
"""Codes OpenD takes in one 3218."""

KEPT = 15
"""Of the 30 requests OpenD takes in 30 s, so many are not for clients."""

_Code = tuple[int, str]


class Contracts:
    """Contracts by continuous code, asked for in batches and remembered for `max_age` seconds.

    What is remembered may be a roll-over late; what is judged and what is sent is the same contract either way.
    """

    def __init__(
        self,
        house: House,
        tasks: Tasks,
        budget: RequestBudget | None = None,
        *,
        timeout: float = 2.0,
        max_age: float = 60.0,
        negative_age: float = 5.0,
        max_entries: int = 1_000,
        clock: Clock = time.monotonic,
    ) -> None:
        """Times in seconds; `timeout` is how long a caller waits. Without a `budget` the whole of what OpenD takes."""
        self._house = house
        self._late = max(timeout, 10.0)
        pace = Pace(MAX_CODES, max_age, negative_age, timeout, self._late, max_entries=max_entries)
        self._lookup: BatchedLookup[_Code, _Code] = BatchedLookup(
            self._load, tasks, pace, budget=budget or RequestBudget(30, 30.0, clock), clock=clock
        )

    async def get(self, security: Security) -> Security | None:
        """The contract behind a continuous code. None: there is none, it is not to be had in time, or what OpenD names
        is no contract of the same market. Never raises, never hangs."""
        found = await self._lookup.get((security.qot_market, security.code))
        if found is None or found[0] != security.qot_market:
            return None
        try:
            contract = security_of_leg(security.trd_market, *found)
        except BodyError:
            return None
        return None if contract.continuous else contract

    def forget(self) -> None:
        """Drop what is remembered; for when OpenD was away."""
        self._lookup.forget()

    async def _load(self, codes: Sequence[_Code]) -> Mapping[_Code, _Code] | Rejected:
        request = new("Qot_GetFutureInfo.Request")
        for market, code in codes:
            request.c2s.securityList.add(market=market, code=code)
        reply: Any = await self._house.ask(GET_FUTURE_INFO, request, timeout=self._late)
        if (refused := rejection(reply)) is not None:
            return refused
        return {
            (info.security.market, info.security.code): (info.origin.market, info.origin.code)
            for info in reply.s2c.futureInfoList
            if info.HasField("origin")
        }
