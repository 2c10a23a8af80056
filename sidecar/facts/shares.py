"""OpenD's limits that hold for all its clients together, and which part of them is the sidecar's own. Sends nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import MappingProxyType

from sidecar.facts.lookup import Clock, RequestBudget
from sidecar.policy.decision import Code, Refusal
from sidecar.wire.catalog import CATALOG, Row

_CLOSE = 0.1
"""Seconds added to OpenD's period: what leaves here in order arrives a little closer together, or later."""


class SharedBudget(RequestBudget):
    """`kept` of them only the sidecar's own look-ups may use, which go out evenly; of the rest whoever comes first.

    SECURITY: a key that asks for quotes without pause must not keep the sidecar from the prices by which it judges orders.
    """

    __slots__ = ()

    def __init__(self, requests: int, period: float, kept: int, clock: Clock = time.monotonic) -> None:
        """`requests` in `period` seconds is what OpenD takes."""
        super().__init__(requests, period + _CLOSE, clock, even=kept)

    def delay_of_keys(self) -> float:
        """Seconds until the next request of a key may be sent; 0.0 when it may be now."""
        return self._delay_of_rest()

    def spend_by_key(self) -> None:
        self._spend_of_rest()


class Shares:
    """One SharedBudget for each id that has such a limit and of which the sidecar keeps a part."""

    def __init__(self, kept: Mapping[int, int] = MappingProxyType({}), clock: Clock = time.monotonic) -> None:
        """`kept`: proto id → the requests of a period that only the sidecar's own look-ups may use."""
        self._kept = kept
        self._budgets: dict[int, SharedBudget] = {}
        for row in CATALOG.values():
            if row.shared_limit is not None:
                self._budgets[row.id] = SharedBudget(*row.shared_limit, kept.get(row.id, 0), clock)

    def of(self, proto_id: int) -> SharedBudget:
        """Raises KeyError for an id without such a limit."""
        return self._budgets[proto_id]

    def take(self, row: Row) -> Refusal | None:
        """Count a request of a key that goes upstream now, or say why it cannot; what is refused is not counted."""
        budget = self._budgets.get(row.id)
        if budget is None:
            return None
        wait = budget.delay_of_keys()
        if wait <= 0:
            budget.spend_by_key()
            return None
        assert row.shared_limit is not None
        requests, period = row.shared_limit
        seconds = max(1, math.ceil(wait))
        message = (
            f"OpenD takes {requests} {row.name} in {period} s from everybody together, {self._kept.get(row.id, 0)} of them are "
            f"kept for judging orders, and the rest is used up; try again in {seconds} s"
        )
        return Refusal(Code.UPSTREAM_FULL, message, retry_after=seconds)
