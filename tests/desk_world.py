"""Askers at the desks of a running sidecar, in the test's own loop: what the desk tests stand on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidecar.asked import Refused
from sidecar.desk import Stream
from sidecar.desks import Desks, ReadBody, Reply
from sidecar.grants import Caller
from sidecar.policy.decision import Code
from sidecar.sandbox import SandboxSettings
from sidecar.settings import Upstream
from sidecar.wire.catalog import Row
from sidecar.wire.messages import message_class
from tests.faults.faults_world import HK_PAPER, World, about_account, change, global_state, order, running

GLOBAL_STATE, ACC_LIST, SUB_ACC_PUSH, UNLOCK = 1002, 2001, 2008, 2005
PLACE, MODIFY, ORDERS = 2202, 2205, 2201


def given(message: Any) -> ReadBody:
    """A body as a door reads it."""

    def read_body(_row: Row, prepare: Any) -> Any:
        prepare(message)
        return message

    return read_body


@dataclass
class Listener:
    """One push stream's client."""

    pushes: list[tuple[int, Any]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    stream: Stream | None = None

    def show(self, row: Row, body: bytes) -> None:
        self.pushes.append((row.id, message_class(row.response or "").FromString(body)))

    def orders(self) -> list[int]:
        """The ids of the orders it was shown, in order, each once."""
        seen = [push.s2c.order.orderID for number, push in self.pushes if number == 2208]
        return list(dict.fromkeys(seen))


@dataclass
class Asking:
    """A world, and who asks in it. `delays` may be changed while it runs: proto id → seconds a reply is held back."""

    world: World
    delays: dict[int, float]

    @property
    def desks(self) -> Desks:
        return self.world.app.desks

    def caller(self, key: str, address: str = "127.0.0.1") -> Caller:
        return self.desks.gate.grants.identify("rest", key, address)

    async def ask(self, key: str, proto_id: int, message: Any, token: str | None = None) -> Reply | Refused:
        return await self.desks.ask(self.caller(key), proto_id, given(message), idempotency_key=token)

    async def state(self, key: str) -> Reply | Refused:
        return await self.ask(key, GLOBAL_STATE, global_state())

    async def place(self, key: str, token: str | None = None, **changes: Any) -> Reply | Refused:
        return await self.ask(key, PLACE, order(**changes), token)

    async def cancel(self, key: str, order_id: int, token: str | None = None) -> Reply | Refused:
        return await self.ask(key, MODIFY, change(0, 0, order_id=order_id), token)

    async def orders(self, key: str) -> list[int]:
        """The ids of the orders the key is shown."""
        reply = await self.ask(key, ORDERS, about_account(ORDERS))
        return [one.orderID for one in opened(reply).s2c.orderList]

    async def listen(self, key: str, address: str = "127.0.0.1") -> Listener:
        """A stream that is open, of all account pushes the key may have."""
        made = Listener()
        stream = await self.desks.listen(self.caller(key, address), made.show, made.ended.append)
        assert isinstance(stream, Stream), stream
        made.stream = stream
        return made

    async def subscribe(self, key: str, *acc_ids: int) -> None:
        request: Any = message_class("Trd_SubAccPush.Request")()
        request.c2s.accIDList.extend(acc_ids or (HK_PAPER,))
        opened(await self.ask(key, SUB_ACC_PUSH, request))

    def conns(self, proto_id: int) -> set[int]:
        """The connections over which an id came to OpenD."""
        return {record.conn for record in self.world.sandbox.received.of(proto_id)}

    def audited(self, **wanted: Any) -> list[dict[str, Any]]:
        return [line for line in self.world.audit() if all(line.get(name) == value for name, value in wanted.items())]

    def used(self, key_id: str) -> int:
        """Orders of the last minute."""
        return self.world.app.ledger.usage(key_id, 0).orders_last_minute

    def house_hears_nothing(self) -> None:
        """No push says what became of an order; only its answer does."""
        self.world.app.returns.learn = lambda *_: None  # type: ignore[method-assign]

    @property
    def sessions(self) -> int:
        """Of all desks together."""
        return sum(desk._session is not None for desk in self.desks._desks.values())

    @property
    def unanswered(self) -> int:
        return self.world.app.returns.unanswered

    async def at_opend(self, count: int = 1, proto_id: int = PLACE) -> None:
        await self.world.until(lambda: len(self.world.sandbox.received.of(proto_id)) >= count)


@contextlib.asynccontextmanager
async def asking(
    folder: Path, *, upstream: Upstream | None = None, calm: bool = True, **settings: Any
) -> AsyncIterator[Asking]:
    """As `faults_world.running`, and at its end: nothing is counted as unanswered, and no session lost sight of."""
    delays: dict[int, float] = {}
    changes = settings.pop("sandbox_changes", {})
    sandbox = SandboxSettings(port=0, tick_interval=0.0, limits=False, delays=delays, **changes)
    async with running(folder, sandbox=sandbox, upstream=upstream, calm=calm, **settings) as world:
        made = Asking(world, delays)
        yield made
        assert made.unanswered == 0
        await world.until(lambda: world.app.pool.count == int(world.app.house.up) + made.sessions)


def opened(answer: Reply | Refused) -> Any:
    """The Response of an answer that is no refusal."""
    assert isinstance(answer, Reply), answer
    return message_class(answer.row.response or "").FromString(answer.body)


def code_of(answer: Reply | Refused) -> Code:
    assert isinstance(answer, Refused), answer
    return answer.code


async def soon(seconds: float = 0.05) -> None:
    await asyncio.sleep(seconds)
