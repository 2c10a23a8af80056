"""Locks as the gate meets them, told as transcripts: OpenD's, which is opened after the record and before the order, and a
key's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sidecar.asked import Answered, Asked, Forward, Refused
from sidecar.errors import UpstreamError
from sidecar.intents.model import TrdEnv
from sidecar.policy.decision import Code
from sidecar.unlocking import TradePassword
from sidecar.wire import catalog
from sidecar.wire.messages import message_class
from tests.test_gate import World

MD5 = hashlib.md5(b"654321", usedforsecurity=False).hexdigest()
REAL: dict[str, Any] = {"scopes": ["qot:read", "acc:read", "trade:real"]}


class RealWorld(World):
    """The account is a real one, and OpenD a house that unlocks."""

    def __init__(self, folder: Path, *, holds_password: bool = True, **limits: Any) -> None:
        super().__init__(folder, **REAL, **limits)
        self.env = TrdEnv.REAL
        self.answer: Any = 0
        if holds_password:
            self.unlocking._password = TradePassword(MD5)

    async def ask(self, proto_id: int, request: Any, *, timeout: float) -> Any:
        assert proto_id == catalog.UNLOCK_TRADE
        self.transcript.append("unlocked" if request.c2s.unlock else "locked")
        if isinstance(self.answer, Exception):
            raise self.answer
        reply: Any = message_class("Trd_UnlockTrade.Response")()
        reply.retType, reply.retMsg = (0, "") if self.answer == 0 else (-1, self.answer)
        return reply

    def client_asks(self, *, unlock: bool) -> None:
        request: Any = message_class("Trd_UnlockTrade.Request")()
        request.c2s.unlock = unlock
        asked = self.gate.understand(self.caller, catalog.CATALOG[catalog.UNLOCK_TRADE], lambda: request)
        assert isinstance(asked, Asked) and isinstance(self.gate.decide_now(asked), Answered)


async def test_opend_is_unlocked_after_the_record_and_before_the_order_and_only_for_the_first(tmp_path: Path) -> None:
    world = RealWorld(tmp_path)
    await world.decide(world.place())
    await world.decide(world.place())
    assert world.transcript == ["written", "unlocked", "forwarded", "written", "forwarded"]


async def test_an_order_in_a_paper_account_unlocks_nothing(tmp_path: Path) -> None:
    world = RealWorld(tmp_path)
    world.write_keys({"id": "bot", "hash": world.keys.ring.records()[0].hash.hex(), "scopes": ["trade:simulate"]})
    world.keys.reload()
    world.env = TrdEnv.SIMULATE
    await world.decide(world.place())
    assert world.transcript == ["written", "forwarded"]


async def test_an_order_that_is_refused_unlocks_nothing(tmp_path: Path) -> None:
    world = RealWorld(tmp_path, max_order_qty=10)
    verdict = await world.decide(world.place())
    assert verdict.code is Code.ORDER_QTY
    assert "unlocked" not in world.transcript


async def test_where_opend_cannot_be_unlocked_nothing_is_sent_and_the_reservation_is_given_back(tmp_path: Path) -> None:
    for answer in ("The trade password is wrong", UpstreamError("not connected to OpenD")):
        world = RealWorld(tmp_path)
        world.answer = answer
        verdict = await world.decide(world.place())
        assert isinstance(verdict, Refused) and verdict.code is Code.UPSTREAM_UNAVAILABLE
        assert world.transcript == ["written", "unlocked", "noted reject upstream_unavailable", "refused"]
        assert world.orders_used == 0
        assert MD5 not in verdict.text


async def test_a_halt_while_opend_is_being_unlocked_stops_the_order(tmp_path: Path) -> None:
    world = RealWorld(tmp_path)
    asked = world.place()

    async def ask(*question: Any, **options: Any) -> Any:
        world.freeze()
        return await RealWorld.ask(world, *question, **options)

    world.unlocking._house.ask = ask  # type: ignore[method-assign]
    verdict = await world.decide(asked)
    assert verdict.code is Code.KEY_FROZEN
    assert world.orders_used == 0


async def test_a_cancel_of_a_real_order_unlocks_opend_first_and_goes_on_even_where_that_fails(tmp_path: Path) -> None:
    world = RealWorld(tmp_path)
    world.answer = "The trade password is wrong"
    asked = world.cancel()
    assert isinstance(asked, Asked) and world.gate.waits(asked)
    assert isinstance(await world.decide(asked), Forward)
    assert world.transcript == ["unlocked", "noted allow", "forwarded"]


async def test_a_cancel_waits_for_nothing_where_opend_is_open_or_the_owner_opens_it(tmp_path: Path) -> None:
    world = RealWorld(tmp_path)
    await world.decide(world.place())
    asked = world.cancel()
    assert isinstance(asked, Asked) and not world.gate.waits(asked)
    world = RealWorld(tmp_path, holds_password=False)
    asked = world.cancel()
    assert isinstance(asked, Asked) and not world.gate.waits(asked)


async def test_a_cancel_that_the_key_may_not_make_unlocks_nothing(tmp_path: Path) -> None:
    world = RealWorld(tmp_path, allowed_acc_ids=[77])
    verdict = await world.decide(world.cancel())
    assert verdict.code is Code.ACCOUNT
    assert "unlocked" not in world.transcript


async def test_a_key_that_its_client_locked_places_no_real_orders_until_it_unlocks_and_cancels_go_on(
    tmp_path: Path,
) -> None:
    for holds_password in (True, False):
        world = RealWorld(tmp_path, holds_password=holds_password)
        world.client_asks(unlock=False)
        assert world.transcript == ["noted allow"], "nothing is sent to OpenD"
        verdict = await world.decide(world.place())
        assert verdict.code is Code.TRADING_HALTED
        assert "real trading under this key was locked by one of its own clients since" in verdict.text
        assert isinstance(await world.decide(world.cancel()), Forward)
        world.client_asks(unlock=True)
        assert isinstance(await world.decide(world.place()), Forward)


async def test_a_lock_while_an_order_is_being_written_stops_it(tmp_path: Path) -> None:
    world = RealWorld(tmp_path)
    world.during_commit = lambda: world.client_asks(unlock=False)
    verdict = await world.decide(world.place())
    assert verdict.code is Code.TRADING_HALTED
    assert world.orders_used == 0


async def test_a_key_locked_by_its_client_trades_on_paper(tmp_path: Path) -> None:
    world = RealWorld(tmp_path)
    scopes = ["trade:simulate", "trade:real"]
    world.write_keys({"id": "bot", "hash": world.keys.ring.records()[0].hash.hex(), "scopes": scopes})
    world.keys.reload()
    world.client_asks(unlock=False)
    world.env = TrdEnv.SIMULATE
    assert isinstance(await world.decide(world.place()), Forward)
