"""Who unlocks OpenD: the password and where it comes from, what is asked of OpenD and how often, and a key's own lock."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from sidecar import unlocking
from sidecar.errors import ConfigError, UpstreamError
from sidecar.policy.decision import Code
from sidecar.settings import Unlock
from sidecar.unlocking import Lock, TradePassword, Unlocking, trade_password
from sidecar.wire.catalog import UNLOCK_TRADE
from sidecar.wire.messages import message_class

PASSWORD = "654321"
MD5 = hashlib.md5(PASSWORD.encode(), usedforsecurity=False).hexdigest()
ACC, ELSEWHERE = 1001, 2002


class World:
    """An OpenD that is played by the test, and a clock that it moves."""

    def __init__(self, *, idle: float | None = None, password: str | None = PASSWORD) -> None:
        self.now = 1000.0
        self.asked: list[tuple[str, int]] = []
        """("unlock" or "lock", firm), as they came."""
        self.answer: Any = 0
        """What OpenD says: 0 for yes, a text for no, an exception for no answer."""
        self.slow = 0.0
        self.firms = {1}
        self.unlocking = Unlocking(
            self, password=None if password is None else _password(password), firm_of=lambda acc_id: acc_id // 1000,
            firms=lambda: self.firms,
            spawn=self.spawn, idle=idle, clock=lambda: self.now, now=lambda: datetime(2026, 1, 5, 10, 41, tzinfo=UTC),
        )  # fmt: skip

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)

    async def ask(self, proto_id: int, request: Any, *, timeout: float) -> Any:
        assert proto_id == UNLOCK_TRADE
        if request.c2s.unlock:
            assert request.c2s.pwdMD5 == MD5
        else:
            assert not request.c2s.HasField("pwdMD5"), "locking needs no password, so none travels"
        self.asked.append(("unlock" if request.c2s.unlock else "lock", request.c2s.securityFirm))
        await asyncio.sleep(self.slow)
        if isinstance(self.answer, Exception):
            raise self.answer
        reply: Any = message_class("Trd_UnlockTrade.Response")()
        reply.retType = 0 if self.answer == 0 else -1
        if reply.retType:
            reply.retMsg = self.answer
        return reply


def _password(text: str) -> TradePassword:
    return TradePassword(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())


async def test_opend_is_unlocked_by_the_first_order_for_the_firm_of_its_account_and_not_again() -> None:
    world = World()
    assert world.unlocking.lock is Lock.UNKNOWN
    assert world.unlocking.must_open(ACC)
    assert await world.unlocking.open(ACC) is None
    assert await world.unlocking.open(ACC) is None
    assert world.asked == [("unlock", 1)]
    assert world.unlocking.lock is Lock.UNLOCKED
    assert not world.unlocking.must_open(ACC)
    assert await world.unlocking.open(ELSEWHERE) is None
    assert world.asked == [("unlock", 1), ("unlock", 2)]


async def test_orders_that_come_together_wait_for_one_unlock() -> None:
    world = World()
    world.slow = 0.01
    assert await asyncio.gather(*(world.unlocking.open(ACC) for _ in range(20))) == [None] * 20
    assert world.asked == [("unlock", 1)]


async def test_an_order_whose_client_gives_up_takes_the_unlock_from_nobody_else() -> None:
    world = World()
    world.slow = 0.02
    first, second = (asyncio.create_task(world.unlocking.open(ACC)) for _ in range(2))
    await asyncio.sleep(0.005)
    first.cancel()
    assert await second is None
    assert world.asked == [("unlock", 1)]


async def test_in_the_mode_of_the_owner_nothing_is_ever_asked_of_opend() -> None:
    world = World(password=None)
    assert not world.unlocking.must_open(ACC)
    assert await world.unlocking.open(ACC) is None
    await world.unlocking.close()
    assert world.asked == []


async def test_a_refused_password_is_not_tried_with_every_order_and_each_time_less_often() -> None:
    world = World()
    world.answer = "The trade password is wrong"
    refusal = await world.unlocking.open(ACC)
    assert refusal is not None and refusal.code is Code.UPSTREAM_UNAVAILABLE
    assert refusal.message == "OpenD is locked and refuses to be unlocked: The trade password is wrong"
    assert refusal.retry_after == 31
    world.now += 20
    again = await world.unlocking.open(ACC)
    assert again is not None and again.message == refusal.message and again.retry_after == 11
    assert len(world.asked) == 1
    world.unlocking.forget()
    assert await world.unlocking.open(ACC) is not None
    assert len(world.asked) == 1, "an OpenD that comes and goes is no way to try passwords faster"
    tried = []
    for _ in range(10):
        world.now += 31
        before = len(world.asked)
        await world.unlocking.open(ACC)
        tried.append(len(world.asked) > before)
    assert tried == [True, False, True, False, False, False, True, False, False, False]
    world.answer = 0
    world.now += 3600
    assert await world.unlocking.open(ACC) is None


async def test_opend_that_does_not_answer_refuses_the_order_and_is_asked_again_for_the_next() -> None:
    world = World()
    world.answer = UpstreamError("OpenD did not answer Trd_UnlockTrade within 2 s")
    refusal = await world.unlocking.open(ACC)
    assert refusal is not None and refusal.code is Code.UPSTREAM_UNAVAILABLE
    assert refusal.message == "OpenD could not be unlocked: OpenD did not answer Trd_UnlockTrade within 2 s"
    assert world.unlocking.lock is Lock.UNKNOWN
    world.answer = 0
    assert await world.unlocking.open(ACC) is None


async def test_never_more_unlock_requests_than_opend_takes() -> None:
    world = World()
    world.answer = UpstreamError("no answer")
    for _ in range(30):
        world.now += 0.1
        refusal = await world.unlocking.open(ACC)
    assert len(world.asked) == 10
    assert refusal is not None and "OpenD takes 10 unlock requests in 30 s" in refusal.message
    assert refusal.retry_after is not None and 27 <= refusal.retry_after <= 29
    world.now += refusal.retry_after
    await world.unlocking.open(ACC)
    assert len(world.asked) == 11


async def test_opend_is_locked_again_after_idle_time_and_unlocked_for_the_next_order() -> None:
    world = World(idle=60)
    await world.unlocking.open(ACC)
    world.now += 40
    await world.unlocking.open(ACC)  # another order
    world.now += 40
    world.unlocking.tick()
    await asyncio.sleep(0.001)
    assert world.asked == [("unlock", 1)]
    world.now += 21
    world.unlocking.tick()
    world.unlocking.tick()
    assert world.unlocking.must_open(ACC), "an order that comes while it is being locked waits"
    assert await world.unlocking.open(ACC) is None
    assert world.asked == [("unlock", 1), ("lock", 1), ("unlock", 1)]
    assert world.unlocking.lock is Lock.UNLOCKED


async def test_a_sidecar_that_stops_locks_what_it_has_unlocked_and_nothing_else() -> None:
    world = World()
    await world.unlocking.close()
    assert world.asked == []
    await world.unlocking.open(ACC)
    await world.unlocking.close()
    assert world.asked == [("unlock", 1), ("lock", 1)]
    assert world.unlocking.lock is Lock.LOCKED
    world.answer = UpstreamError("away")
    await world.unlocking.open(ACC)
    await world.unlocking.close()


async def test_what_a_sidecar_before_left_unlocked_is_locked_after_the_idle_time_too_and_once() -> None:
    world = World(idle=60)
    world.firms = {1, 2}
    for _ in range(100):
        world.now += 1
        world.unlocking.tick()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.sleep(0.005)
    assert world.asked == [("lock", 1), ("lock", 2)]


async def test_what_was_unlocked_is_locked_though_the_connection_was_lost_in_between() -> None:
    world = World(idle=60)
    await world.unlocking.open(ACC)
    world.unlocking.forget()
    await world.unlocking.close()
    assert world.asked == [("unlock", 1), ("lock", 1)]


async def test_a_lock_that_fails_is_tried_again_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlocking, "log", structlog.get_logger())  # one that no earlier test has set up
    world = World(idle=60)
    await world.unlocking.open(ACC)
    world.answer = UpstreamError("away")
    with capture_logs() as told:
        for _ in range(160):
            world.now += 1
            world.unlocking.tick()
            await asyncio.sleep(0.001)
    assert world.asked == [("unlock", 1), *[("lock", 1)] * 4]
    assert str(told).count("is tried again") == 1
    world.answer = 0
    world.now += 30
    world.unlocking.tick()
    await asyncio.sleep(0.001)
    assert world.unlocking.lock is Lock.LOCKED


@pytest.mark.parametrize(
    "said",
    [
        "Trading is locked, please unlock trade first",
        "Not unlock trade, please unlock first",
        "没有解锁交易，请先解锁交易",
        "交易未解鎖",
    ],
)
async def test_what_opend_says_of_its_lock_is_understood_and_the_next_order_unlocks_it(said: str) -> None:
    world = World()
    await world.unlocking.open(ACC)
    world.unlocking.told(ACC, accepted=False, said=said)
    assert world.unlocking.lock is Lock.LOCKED
    await world.unlocking.open(ACC)
    assert world.asked == [("unlock", 1), ("unlock", 1)]


async def test_other_refusals_say_nothing_of_the_lock_and_an_accepted_order_says_that_it_is_open() -> None:
    world = World(password=None)
    for said in ("Insufficient buying power", "价格不合法", "the stock is blocked", ""):
        world.unlocking.told(ACC, accepted=False, said=said)
        assert world.unlocking.lock is Lock.UNKNOWN, said
    world.unlocking.told(ACC, accepted=True, said="")
    assert world.unlocking.lock is Lock.UNLOCKED
    world.unlocking.told(ELSEWHERE, accepted=False, said="please unlock first")
    assert world.unlocking.lock is Lock.LOCKED, "of two firms the one that is locked is told"


async def test_after_opend_was_away_it_is_not_taken_as_unlocked() -> None:
    world = World()
    await world.unlocking.open(ACC)
    world.unlocking.forget()
    assert world.unlocking.lock is Lock.UNKNOWN
    await world.unlocking.open(ACC)
    assert world.asked == [("unlock", 1), ("unlock", 1)]


async def test_a_clients_lock_is_of_its_own_key_and_asks_nothing_of_opend() -> None:
    world = World()
    world.unlocking.asked("bot", unlock=False)
    assert world.unlocking.locked_by_client("bot") == datetime(2026, 1, 5, 10, 41, tzinfo=UTC)
    assert world.unlocking.locked_by_client("other") is None
    world.unlocking.asked("other", unlock=True)
    assert world.unlocking.locked_by_client("bot") is not None
    world.unlocking.asked("bot", unlock=True)
    assert world.unlocking.locked_by_client("bot") is None
    assert world.asked == []


# -- the password ------------------------------------------------------------------------------------------------------


def _written(tmp_path: Path, text: bytes, mode: int = 0o600) -> Unlock:
    path = tmp_path / "password"
    path.write_bytes(text)
    path.chmod(mode)
    return Unlock(mode="sidecar", password_file=path)


def test_the_password_comes_from_a_file_or_a_variable_and_only_its_md5_is_kept(tmp_path: Path) -> None:
    from_file = trade_password(_written(tmp_path, b"654321\n"))
    from_variable = trade_password(Unlock(mode="sidecar", password_env="TRADE"), {"TRADE": PASSWORD})
    assert from_file == from_variable == TradePassword(MD5)
    assert trade_password(Unlock()) is None


def test_no_printed_form_shows_the_password(tmp_path: Path) -> None:
    password = trade_password(_written(tmp_path, b"654321\n"))
    world = World()
    for shown in (repr(password), str(password), f"{world.unlocking!r}", repr(_written(tmp_path, b"654321"))):
        assert PASSWORD not in shown and MD5 not in shown


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused_and_says_what_to_do(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=r"others may use .*; run `chmod 600") as refused:
        trade_password(_written(tmp_path, b"654321\n", mode))
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"654321\n123456\n", b"\xff\xfe", b"1" * 2000])
def test_a_file_that_does_not_hold_one_password_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match="must hold one line"):
        trade_password(_written(tmp_path, content))


def test_a_password_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`unlock.password_file`: .* cannot be read: no such file"):
        trade_password(Unlock(mode="sidecar", password_file=tmp_path / "none"))
    with pytest.raises(ConfigError, match="is a directory"):
        trade_password(Unlock(mode="sidecar", password_file=tmp_path))
    with pytest.raises(ConfigError, match="the environment variable `TRADE` is not set"):
        trade_password(Unlock(mode="sidecar", password_env="TRADE"), {})
