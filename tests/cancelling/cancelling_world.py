"""An OpenD that knows nothing but working orders, as the house connection sees it: what the tests of cancelling stand on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sidecar.cancelling.account import Means
from sidecar.change_budget import ChangeBudget, ChangeLimit
from sidecar.errors import UpstreamError
from sidecar.intents.model import TrdEnv
from sidecar.policy.usage import Account
from sidecar.wire.messages import message_class

SUBMITTED, FILLED, CANCELLING, CANCELLED, ODD = 5, 11, 13, 15, 77
HK, HKCC = 1, 4
REAL = Account(1, TrdEnv.REAL, frozenset({HK, HKCC}))
PAPER = Account(2, TrdEnv.SIMULATE, frozenset({HK}))


@dataclass
class Resting:
    order_id: int
    status: int = SUBMITTED
    market: int = HK
    remark: str = ""
    refuses: str = ""
    """OpenD's words to every cancel of it."""


@dataclass
class FakeOpenD:
    """Orders by account. `limit`: changes of one account in `period` s beyond which it refuses; what it refuses counts nothing."""

    books: dict[int, list[Resting]]
    limit: int = 1_000
    period: float = 30.0
    up: bool = True
    trouble: str = ""
    refuses_all_at_once: bool = False
    refuses_lists: dict[int, str] = field(default_factory=dict)
    silent: bool = False
    """Whether it takes requests and never answers."""
    changes: list[tuple[float, int, Any]] = field(default_factory=list)
    """Every 2205 it took: when, account, c2s."""
    refused: int = 0
    before_list: Callable[[], None] = lambda: None

    async def ask(self, proto_id: int, request: Any, *, timeout: float) -> Any:
        if not self.up:
            raise UpstreamError(self.trouble or "OpenD is away")
        await asyncio.sleep(0.001)
        if self.silent:
            raise UpstreamError(f"OpenD did not answer within {timeout:g} s")
        return self._list(request.c2s) if proto_id == 2201 else self._change(request.c2s)

    def _list(self, c2s: Any) -> Any:
        self.before_list()
        acc_id = c2s.header.accID
        if acc_id in self.refuses_lists:
            return message_class("Trd_GetOrderList.Response")(retType=-1, retMsg=self.refuses_lists[acc_id])
        reply: Any = message_class("Trd_GetOrderList.Response")(retType=0)
        reply.s2c.header.CopyFrom(c2s.header)
        for one in self.books.get(acc_id, []):
            reply.s2c.orderList.add(
                orderID=one.order_id, orderIDEx=f"X{one.order_id}", orderStatus=one.status, code="00700", name="", trdSide=1,
                orderType=1, qty=1, createTime="", updateTime="", trdMarket=one.market,
                secMarket=31 if one.market == HKCC else 1, remark=one.remark,
            )  # fmt: skip
        return reply

    def _change(self, c2s: Any) -> Any:
        acc_id = c2s.header.accID
        now = time.monotonic()
        if sum(now - at < self.period and account == acc_id for at, account, _ in self.changes) >= self.limit:
            return self._no("too frequent")
        self.changes.append((now, acc_id, c2s))
        assert c2s.modifyOrderOp == 2 and c2s.HasField("packetID")
        if c2s.forAll:
            if self.refuses_all_at_once:
                return self._no("cancelling all orders is not supported")
            for one in self.books[acc_id]:
                if one.status == SUBMITTED and one.market != HKCC and not one.refuses:
                    self._cancel(one)
            return message_class("Trd_ModifyOrder.Response")(retType=0)
        order = next(one for one in self.books[acc_id] if f"X{one.order_id}" == c2s.orderIDEx)
        if order.refuses:
            return self._no(order.refuses)
        self._cancel(order)
        return message_class("Trd_ModifyOrder.Response")(retType=0)

    def _cancel(self, order: Resting) -> None:
        order.status = CANCELLING

        def confirmed() -> None:
            order.status = CANCELLED

        asyncio.get_running_loop().call_later(0.02, confirmed)

    def _no(self, words: str) -> Any:
        self.refused += 1
        return message_class("Trd_ModifyOrder.Response")(retType=-1, retMsg=words)

    # -- what was asked -------------------------------------------------------------------------------------------

    def singles(self, acc_id: int) -> int:
        return sum(account == acc_id and not c2s.forAll for _, account, c2s in self.changes)

    def at_once(self, acc_id: int) -> list[int]:
        """The markets of the cancels of all at once."""
        return [c2s.trdMarket for _, account, c2s in self.changes if account == acc_id and c2s.forAll]


def book(count: int, first: int = 1, **fields: Any) -> list[Resting]:
    return [Resting(first + number, **fields) for number in range(count)]


def means(opend: FakeOpenD, **limit: Any) -> Means:
    """In test time: a period of a second."""

    async def settled(patience: float) -> None:
        await asyncio.sleep(0)

    def spawn(work: Any) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)

    budget = ChangeBudget(ChangeLimit(**{"most": 20, "period": 1.0, "gap": 0.0, "kept": 5, **limit}))
    return Means(opend, budget, spawn, settled)
