"""A house connection made of data: answers what facts ask, and notes what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sidecar.errors import UpstreamError
from sidecar.intents.model import Security
from sidecar.tasks import Tasks
from sidecar.wire.messages import message_class

NAMES = {
    1002: "GetGlobalState", 2001: "Trd_GetAccList", 3202: "Qot_GetStaticInfo", 3203: "Qot_GetSecuritySnapshot",
    3218: "Qot_GetFutureInfo", 3223: "Qot_GetMarketState",
}  # fmt: skip


def security(code: str, qot_market: int = 1, market: str = "HK") -> Security:
    return Security(market, f"{market}.{code}", qot_market, code)


@asynccontextmanager
async def own_tasks() -> AsyncIterator[Tasks]:
    """Tasks that must all have ended by themselves a moment after the test's last word."""
    tasks = Tasks()
    yield tasks
    async with asyncio.timeout(5.0):
        while len(tasks):
            await asyncio.sleep(0.005)


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeHouse:
    """`delay` seconds before an answer; `away` raises; `refuse_codes` refuse a whole batch; `answer` fills the s2c."""

    def __init__(self, answer: Callable[[int, Any, Any], None]) -> None:
        self.answer = answer
        self.asked: list[tuple[int, list[str]]] = []
        self.requests: list[Any] = []
        self.delay = 0.0
        self.away = False
        self.refuse_codes: set[str] = set()
        self.refuse_all: str | None = None

    async def ask(self, proto_id: int, request: Any, *, timeout: float) -> Any:
        codes = [one.code for one in getattr(request.c2s, "securityList", ())]
        self.asked.append((proto_id, codes))
        self.requests.append(request)
        assert request.IsInitialized()
        if self.away:
            raise UpstreamError("OpenD is away")
        if self.delay > timeout:
            await asyncio.sleep(timeout)
            raise UpstreamError("OpenD did not answer")
        await asyncio.sleep(self.delay)
        reply: Any = message_class(f"{NAMES[proto_id]}.Response")()
        if self.refuse_all is not None or self.refuse_codes & set(codes):
            reply.retType = -1
            reply.retMsg = self.refuse_all or f"unknown stock {codes}"
            return reply
        reply.retType = 0
        reply.s2c.SetInParent()
        self.answer(proto_id, request, reply.s2c)
        return reply
