"""The order behind a change (2201), as OpenD lists it at this moment. Nothing is remembered, and nothing decided.

What it says of quantity and price may be a moment old. Nothing rests on that: what a change leaves out is filled in from
it and sent along, so OpenD is told the very order that was judged, and what was approved meanwhile the ledger knows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from sidecar.facts.asking import House, Rejected, ask_about, new
from sidecar.facts.lookup import BatchedLookup, Clock, Pace, RequestBudget
from sidecar.intents.model import AccountRef, OrderRef, RestingOrder
from sidecar.intents.resting import read_resting
from sidecar.policy.usage import Account
from sidecar.tasks import Tasks
from sidecar.wire.catalog import GET_ORDER_LIST

_Asked = tuple[Account, OrderRef]


class Orders:
    """Orders by account and either id. OpenD limits only lists that refresh its cache (protocol facts, section 8), which
    these do not; `requests` per `period` seconds is a bound of our own, and more than
    any one key may use up (`gathering`).
    """

    def __init__(
        self,
        house: House,
        tasks: Tasks,
        *,
        timeout: float = 2.0,
        negative_age: float = 0.5,
        requests: int = 600,
        period: float = 30.0,
        clock: Clock = time.monotonic,
    ) -> None:
        """`timeout`: seconds a caller waits."""
        self._house = house
        self._timeout = timeout
        pace = Pace(1, 0.0, negative_age, timeout, timeout)
        budget = RequestBudget(requests, period, clock)
        self._lookup: BatchedLookup[_Asked, RestingOrder] = BatchedLookup(
            self._load, tasks, pace, budget=budget, clock=clock
        )

    async def get(self, account: Account | None, order: OrderRef) -> RestingOrder | None:
        """None: no such order in this account, one that cannot be read whole, or not in time. Never raises, never hangs."""
        return None if account is None else await self._lookup.get((account, order))

    async def _load(self, asked: Sequence[_Asked]) -> Mapping[_Asked, RestingOrder] | Rejected:
        ((account, order),) = asked
        request = new("Trd_GetOrderList.Request")
        if order.order_id:
            request.c2s.filterConditions.idList.append(order.order_id)
        else:
            request.c2s.filterConditions.orderIDExList.append(order.order_id_ex)
        reply = await ask_about(self._house, account, GET_ORDER_LIST, request, timeout=self._timeout)
        if isinstance(reply, Rejected):
            return reply
        named = [
            each
            for each in reply.s2c.orderList
            if (order.order_id and each.orderID == order.order_id)
            or (order.order_id_ex and each.orderIDEx == order.order_id_ex)
        ]
        if len(named) != 1:
            return {}
        ref = AccountRef(account.acc_id, account.env)
        resting = read_resting(ref, named[0], reply.s2c.header.trdMarket)
        return {} if resting is None else {asked[0]: resting}
