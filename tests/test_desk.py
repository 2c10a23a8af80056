"""One session a key for those who come and go by the request: how it is shared, lost, closed, and what its askers are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import uvloop

from sidecar.asked import Refused
from sidecar.errors import RecordError
from sidecar.policy.decision import Code, Decision
from sidecar.settings import Upstream
from sidecar.upstream.session import Session
from sidecar.wire.frame import Head, Run
from sidecar.wire.messages import message_class
from tests.desk_world import (
    ACC_LIST,
    GLOBAL_STATE,
    PLACE,
    UNLOCK,
    Asking,
    asking,
    code_of,
    given,
    opened,
    soon,
)
from tests.faults.faults_world import ALICE, BOB, CARL, DORA, HK_PAPER, KEYS, NOBODY, order, write_keys


@pytest.fixture(scope="session")
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Asking]:
    async with asking(tmp_path) as made:
        yield made


QUICK = Upstream(connect_timeout=2.0, request_timeout=0.3)


# One session a key


async def test_a_cancel_gets_through_when_all_connections_are_taken_by_others(tmp_path: Path) -> None:
    upstream = Upstream(max_connections=12, max_connections_per_key=3, connect_timeout=2.0)
    async with asking(tmp_path, upstream=upstream) as here:
        placed = opened(await here.place(ALICE)).s2c.orderID
        here.desks._close(here.desks._desks["alice"])
        for key in (CARL, CARL, CARL, DORA, DORA, DORA, BOB):
            await here.world.client(key)
        assert code_of(await here.place(ALICE)) is Code.UPSTREAM_FULL
        reading, cancelling = await asyncio.gather(here.state(ALICE), here.cancel(ALICE, placed))
        assert code_of(reading) is Code.UPSTREAM_FULL
        assert opened(cancelling).retType == 0
        await here.world.close_clients()


async def test_many_who_ask_at_once_share_one_session(here: Asking) -> None:
    answers = await asyncio.gather(*(here.state(ALICE) for _ in range(50)))
    assert all(opened(answer).retType == 0 for answer in answers)
    assert len(here.conns(GLOBAL_STATE)) == 1
    assert here.world.sandbox.connections == 2, "that session and the house"


async def test_two_keys_have_two_sessions(here: Asking) -> None:
    await asyncio.gather(*(here.state(key) for key in (ALICE, CARL, ALICE, CARL)))
    assert len(here.conns(GLOBAL_STATE)) == 2


async def test_who_shows_no_good_key_gets_no_session(here: Asking) -> None:
    assert code_of(await here.state(NOBODY)) is Code.KEY_UNKNOWN
    assert here.world.sandbox.connections == 1


async def test_serials_rise_and_packet_ids_are_the_sessions_own(here: Asking) -> None:
    asked = [here.place(ALICE, price=100 + n) if n % 3 == 0 else here.state(ALICE) for n in range(30)]
    assert all(opened(answer).retType == 0 for answer in await asyncio.gather(*asked))
    records = [record for record in here.world.sandbox.received if record.conn in here.conns(GLOBAL_STATE)]
    serials = [record.serial for record in records]
    assert serials == sorted(set(serials))
    packets = [record.c2s["packetID"] for record in records if record.proto_id == PLACE and record.c2s]
    assert len(packets) == 10
    assert all(packet["connID"] == record.conn for packet in packets for record in records[:1])
    assert [packet["serialNo"] for packet in packets] == [r.serial for r in records if r.proto_id == PLACE]


async def test_replies_show_each_key_only_what_it_may_see(here: Asking) -> None:
    lists: Any = message_class("Trd_GetAccList.Request")()
    lists.c2s.userID = 0
    of_alice = opened(await here.ask(ALICE, ACC_LIST, lists)).s2c.accList
    of_bob = opened(await here.ask(BOB, ACC_LIST, lists)).s2c.accList
    assert [account.accID for account in of_alice] == [HK_PAPER]
    assert len(of_bob) > 1
    hers = opened(await here.place(ALICE)).s2c.orderID
    his = opened(await here.place(BOB, price=299)).s2c.orderID
    assert await here.orders(ALICE) == [hers]
    assert await here.orders(BOB) == [his]
    assert {hers, his} <= set(await here.orders(DORA))


async def test_a_slow_order_holds_up_nobody(here: Asking) -> None:
    here.delays[PLACE] = 1.5
    slow = asyncio.ensure_future(here.place(ALICE))
    await here.at_opend()
    started = time.perf_counter()
    here_too = await asyncio.gather(here.state(ALICE), here.state(CARL))
    assert time.perf_counter() - started < 1
    assert all(opened(answer).retType == 0 for answer in here_too)
    assert not slow.done()
    assert opened(await slow).retType == 0


async def test_unlock_is_answered_while_opend_is_away(tmp_path: Path) -> None:
    real = {**KEYS[1], "scopes": ["trade:real"]}
    async with asking(tmp_path, keys=(KEYS[0], real)) as here:
        await here.world.sandbox.stop()
        request: Any = message_class("Trd_UnlockTrade.Request")()
        request.c2s.unlock, request.c2s.pwdMD5, request.c2s.securityFirm = True, "0" * 32, 1
        assert opened(await here.ask(BOB, UNLOCK, request)).retType == 0
        assert code_of(await here.ask(ALICE, UNLOCK, request)) is Code.SCOPE


# OpenD is slow, or goes away


async def test_an_order_without_an_answer_is_unknown_stays_counted_and_is_settled_late(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=QUICK) as here:
        here.house_hears_nothing()
        here.delays[PLACE] = 0.8
        answer = await here.place(ALICE)
        assert isinstance(answer, Refused)
        assert (answer.code, answer.unknown) == (Code.UPSTREAM_UNAVAILABLE, True)
        assert here.unanswered == 0
        ledger = here.world.app.ledger
        assert len(ledger.doubts.unsettled(HK_PAPER)) == 1
        await here.world.until(lambda: not ledger.doubts.unsettled(HK_PAPER))
        assert here.used("alice") == 1
        await soon(0.1)
        outcomes = [line["outcome"] for line in here.audited(decision_id=answer.decision_id)]
        assert outcomes == ["allow", "unknown", "success"]


async def test_an_order_without_an_answer_is_given_up_once_over_tcp_too(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=QUICK) as here:
        here.house_hears_nothing()
        here.delays[PLACE] = 2.5
        async with await here.world.client(ALICE) as client:
            serial = client.send(PLACE, client.order())
            await here.at_opend()
            assert here.unanswered == 1
            answer = await client.answer_to(PLACE, serial)
            assert "did not answer in time" in answer.text
            assert here.unanswered == 0
            await here.world.until(lambda: not here.world.app.ledger.doubts.unsettled(HK_PAPER))
            assert here.unanswered == 0


async def test_an_order_over_tcp_whose_serial_cannot_be_sent_is_counted_off_once(here: Asking) -> None:
    async with await here.world.client(ALICE) as client:
        client.send(PLACE, client.order(), serial=2**32 - 1)
        assert await client.ended()
        assert here.unanswered == 0
    assert here.world.orders_received() == []


async def test_a_read_without_an_answer_is_given_up_and_its_late_answer_is_nobodys(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=QUICK) as here:
        here.delays[GLOBAL_STATE] = 0.5
        answer = await here.state(ALICE)
        assert isinstance(answer, Refused)
        assert (answer.code, answer.unknown) == (Code.UPSTREAM_UNAVAILABLE, False)
        here.delays.clear()
        await soon(0.4)
        assert opened(await here.state(ALICE)).retType == 0


async def test_an_answer_that_came_in_time_is_waited_for_while_it_is_written(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=QUICK) as here:
        recorder = here.world.app.recorder
        flush = recorder.flush_ledger

        async def slowly() -> None:
            await asyncio.sleep(0.6)
            await flush()

        recorder.flush_ledger = slowly  # type: ignore[method-assign]
        assert opened(await here.place(ALICE)).retType == 0
        assert here.unanswered == 0


async def test_when_the_session_is_lost_everybody_on_the_way_is_answered_and_the_next_opens_another(
    here: Asking,
) -> None:
    here.delays.update({GLOBAL_STATE: 5.0, PLACE: 5.0})
    asked = [asyncio.ensure_future(each) for each in (here.state(ALICE), here.state(ALICE), here.place(ALICE))]
    await here.at_opend()
    await here.at_opend(2, GLOBAL_STATE)
    here.world.sandbox.drop_connections()
    one, two, placed = await asyncio.wait_for(asyncio.gather(*asked), 2)
    assert {code_of(one), code_of(two), code_of(placed)} == {Code.UPSTREAM_UNAVAILABLE}
    assert isinstance(placed, Refused)
    assert placed.unknown
    assert len(here.world.app.ledger.doubts.unsettled(HK_PAPER)) == 1, "it may have been done"
    here.delays.clear()
    await here.world.until(lambda: here.world.app.house.up)
    assert opened(await here.state(ALICE)).retType == 0


async def test_while_opend_is_away_everybody_is_told_and_the_next_tries_again(here: Asking) -> None:
    await here.world.sandbox.stop()
    answers = await asyncio.gather(*(here.state(ALICE) for _ in range(5)))
    assert {code_of(answer) for answer in answers} == {Code.UPSTREAM_UNAVAILABLE}
    await here.world.sandbox.start()
    assert opened(await here.state(ALICE)).retType == 0


async def test_a_session_lost_in_the_moment_it_opened_takes_no_place(here: Asking) -> None:
    read_reply = Session._read_init_reply

    def read_and_lost(session: Session, chunk: bytes, head: Head | Run) -> None:
        read_reply(session, chunk, head)
        session.fail("OpenD closed the connection")

    with mock.patch.object(Session, "_read_init_reply", read_and_lost):
        assert code_of(await here.state(ALICE)) is Code.UPSTREAM_UNAVAILABLE
    assert opened(await here.state(ALICE)).retType == 0
    assert here.world.app.pool.count == 2


async def test_an_order_whose_session_is_lost_while_it_is_written_is_not_sent(here: Asking) -> None:
    opened(await here.state(ALICE))
    slow = SlowCommit(here)
    asked = asyncio.ensure_future(here.place(ALICE))
    await slow.waiting.wait()
    here.world.sandbox.drop_connections()
    await soon()
    slow.release()
    answer = await asked
    assert isinstance(answer, Refused)
    assert (answer.code, answer.unknown) == (Code.UPSTREAM_UNAVAILABLE, False)
    assert here.used("alice") == 0
    assert here.world.orders_received() == []


async def test_a_session_whose_serials_are_used_up_gives_way_to_another(here: Asking) -> None:
    opened(await here.state(ALICE))
    session = here.desks._desks["alice"]._session
    assert session is not None
    session.last_serial = 2**32 - 2
    assert code_of(await here.state(ALICE)) is Code.UPSTREAM_UNAVAILABLE
    assert opened(await here.state(ALICE)).retType == 0
    assert len(here.conns(GLOBAL_STATE)) == 2


async def test_a_key_that_holds_too_many_connections_is_told_so(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=Upstream(connect_timeout=2.0, max_connections_per_key=1)) as here:
        async with await here.world.client(ALICE):
            assert code_of(await here.state(ALICE)) is Code.UPSTREAM_FULL
            assert opened(await here.state(CARL)).retType == 0
        await here.world.until(lambda: here.world.app.pool.count == 2)
        assert opened(await here.state(ALICE)).retType == 0


# Who asked leaves


class SlowCommit:
    """Holds every commit of an order back after it is on disk, until `release`."""

    def __init__(self, here: Asking) -> None:
        self.waiting = asyncio.Event()
        self._go = asyncio.Event()
        recorder = here.world.app.recorder
        commit = recorder.commit

        async def slowly(record: Any) -> None:
            await commit(record)
            self.waiting.set()
            await self._go.wait()

        recorder.commit = slowly  # type: ignore[method-assign]

    def release(self) -> None:
        self._go.set()


async def test_an_asker_who_leaves_before_the_order_is_sent_takes_it_back(here: Asking) -> None:
    slow = SlowCommit(here)
    asked = asyncio.ensure_future(here.place(ALICE))
    await slow.waiting.wait()
    asked.cancel()
    await soon()
    assert asked.cancelled()
    slow.release()
    await soon(0.2)
    assert here.world.orders_received() == []
    assert here.used("alice") == 0
    assert [line["outcome"] for line in here.audited(reason="client_gone")] == ["reject"]


async def test_an_asker_who_leaves_after_the_order_is_sent_takes_nothing_back(here: Asking) -> None:
    here.delays[PLACE] = 0.3
    asked = asyncio.ensure_future(here.place(ALICE))
    await here.at_opend()
    asked.cancel()
    await here.world.until(lambda: here.audited(outcome="success"))
    assert here.used("alice") == 1
    assert len(await here.orders(ALICE)) == 1


async def test_an_asker_of_a_read_who_leaves_disturbs_nobody(here: Asking) -> None:
    here.delays[GLOBAL_STATE] = 0.2
    asked = [asyncio.ensure_future(here.state(ALICE)) for _ in range(3)]
    await here.at_opend(3, GLOBAL_STATE)
    asked[0].cancel()
    assert [opened(answer).retType for answer in await asyncio.gather(*asked[1:])] == [0, 0]


async def test_an_asker_who_leaves_while_the_session_opens_leaves_it_to_the_others(here: Asking) -> None:
    asked = [asyncio.ensure_future(here.state(ALICE)) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    assert [opened(answer).retType for answer in await asyncio.gather(*asked[1:])] == [0, 0]
    assert len(here.conns(GLOBAL_STATE)) == 1


# When it is closed


async def test_a_session_nobody_uses_is_closed_and_one_in_use_is_not(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=Upstream(connect_timeout=2.0, shared_idle=0.05)) as here:
        opened(await here.state(ALICE))
        here.delays[GLOBAL_STATE] = 0.3
        asked = asyncio.ensure_future(here.state(CARL))
        await here.at_opend(2, GLOBAL_STATE)
        await soon(0.1)
        here.desks.tick()
        await soon()
        assert here.world.sandbox.connections == 2, "the house and the one in use"
        assert opened(await asked).retType == 0
        await soon(0.1)
        here.desks.tick()
        await here.world.until(lambda: here.world.sandbox.connections == 1)
        assert opened(await here.state(ALICE)).retType == 0


async def test_a_session_is_not_closed_under_an_order_that_is_being_decided(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=Upstream(connect_timeout=2.0, shared_idle=0.01)) as here:
        slow = SlowCommit(here)
        asked = asyncio.ensure_future(here.place(ALICE))
        await slow.waiting.wait()
        await soon()
        here.desks.tick()
        slow.release()
        assert opened(await asked).retType == 0


async def test_the_session_of_a_key_that_is_gone_is_closed_once_nothing_is_on_its_way(here: Asking) -> None:
    here.delays[PLACE] = 0.3
    asked = asyncio.ensure_future(here.place(ALICE))
    await here.at_opend()
    write_keys(here.world.keys_file, [record for record in KEYS if record["id"] != "alice"])
    here.world.app.rereading.reload()
    await soon()
    assert here.world.sandbox.connections == 2
    assert opened(await asked).retType == 0
    here.desks.tick()
    await here.world.until(lambda: here.world.sandbox.connections == 1)
    assert code_of(await here.state(ALICE)) is Code.KEY_UNKNOWN


async def test_a_sidecar_that_drains_answers_what_was_sent_and_takes_no_new_orders(tmp_path: Path) -> None:
    async with asking(tmp_path, drain=3.0, calm=True) as here:
        resting = opened(await here.place(BOB, price=250)).s2c.orderID
        here.delays[PLACE] = 0.4
        asked = asyncio.ensure_future(here.place(ALICE))
        await here.at_opend(2)
        here.world.app.gate.closing = True
        assert code_of(await here.place(ALICE, price=301)) is Code.UPSTREAM_UNAVAILABLE
        assert opened(await here.cancel(BOB, resting)).retType == 0
        assert opened(await asked).retType == 0
    assert here.audited(key_id="alice", outcome="success")


async def test_whoever_waits_when_the_sidecar_stops_is_answered(tmp_path: Path) -> None:
    async with asking(tmp_path, drain=0.3) as here:
        opened(await here.state(ALICE))
        here.delays.update({GLOBAL_STATE: 9.0, PLACE: 9.0})
        asked = asyncio.gather(here.state(ALICE), here.place(ALICE))
        await here.at_opend()
        await here.at_opend(2, GLOBAL_STATE)
        await here.world.app._close_doors()
        read, placed = await asyncio.wait_for(asked, 2)
        assert code_of(read) is Code.UPSTREAM_UNAVAILABLE
        assert isinstance(placed, Refused)
        assert placed.unknown
        await soon(0.1)
        assert [line["outcome"] for line in here.audited(decision_id=placed.decision_id)] == [
            "allow",
            "unknown",
            "success",
        ]


async def test_whoever_waits_for_a_session_when_the_sidecar_stops_is_refused(tmp_path: Path) -> None:
    async with asking(tmp_path, drain=0.3) as here:
        here.world.app.pool.open = _never  # type: ignore[method-assign]
        asked = asyncio.gather(here.state(ALICE), here.place(ALICE), here.place(ALICE, "t"), here.place(ALICE, "t"))
        await soon()
        await here.world.app._close_doors()
        answers = await asyncio.wait_for(asked, 2)
        assert {code_of(answer) for answer in answers} == {Code.UPSTREAM_UNAVAILABLE}
        assert not any(isinstance(answer, Refused) and answer.unknown for answer in answers)


async def test_after_the_end_no_session_is_opened(here: Asking) -> None:
    opened(await here.state(ALICE))
    here.desks.close()
    assert code_of(await here.state(ALICE)) is Code.UPSTREAM_UNAVAILABLE
    assert code_of(await here.state(CARL)) is Code.UPSTREAM_UNAVAILABLE
    assert here.world.app.pool.count == 1


async def test_an_order_on_its_way_at_the_end_is_recorded_as_unknown(here: Asking) -> None:
    here.delays[PLACE] = 5.0
    asked = asyncio.ensure_future(here.place(ALICE))
    await here.at_opend()
    here.desks.close()
    answer = await asked
    assert isinstance(answer, Refused)
    assert answer.unknown
    assert here.unanswered == 0


# Rehearsals


REHEARSED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("allowed", ALICE, {}),
    ("over the value of one order", ALICE, {"qty": 1000}),
    ("a market it may not trade", ALICE, {"market": 2, "code": "AAPL", "sec_market": 2, "acc_id": 1001002}),
    ("an account it may not use", ALICE, {"acc_id": 1001002, "market": 2, "code": "AAPL", "sec_market": 2}),
    ("an account there is not", ALICE, {"acc_id": 999}),
    ("a scope it lacks", CARL, {}),
    ("the real environment", BOB, {"env": 1}),
    ("a sale of what nobody knows", ALICE, {"code": "99999", "side": 2}),
    ("no quantity", ALICE, {"qty": 0}),
    ("no known key", NOBODY, {}),
)


@pytest.mark.parametrize(("name", "key", "changes"), REHEARSED, ids=[each[0] for each in REHEARSED])
async def test_a_rehearsal_says_what_the_real_decision_says_and_does_nothing(
    here: Asking, name: str, key: str, changes: dict[str, Any]
) -> None:
    before = here.used("alice"), here.used("bob")
    rehearsed = await here.desks.rehearse(here.caller(key), PLACE, given(order(**changes)))
    assert (here.used("alice"), here.used("bob")) == before
    assert here.world.orders_received() == []
    assert not here.world.app.ledger.doubts.unsettled(HK_PAPER)
    await soon(0.1)
    assert not here.audited(outcome="allow")
    if isinstance(rehearsed, Decision):
        refusal = rehearsed.refusal
        code = None if refusal is None else refusal.code
    else:
        code = rehearsed.code
    real = await here.place(key, **changes)
    assert code == (real.code if isinstance(real, Refused) else None), name


async def test_a_rehearsal_of_what_is_no_order_is_refused(here: Asking) -> None:
    got = await here.desks.rehearse(here.caller(ALICE), GLOBAL_STATE, given(_state()))
    assert isinstance(got, Refused)
    assert got.code is Code.MALFORMED_REQUEST


async def test_a_rehearsal_counts_what_is_used(here: Asking) -> None:
    for price in (300, 301, 302, 303, 304):
        opened(await here.place(ALICE, price=price, qty=100))
    opened(await here.place(ALICE, price=150, qty=300))
    rehearsed = await here.desks.rehearse(here.caller(ALICE), PLACE, given(order(price=100, qty=100)))
    assert isinstance(rehearsed, Decision)
    assert rehearsed.refusal is not None
    assert rehearsed.refusal.code is Code.DAILY_VALUE


# What breaks


BREAKS: dict[str, Callable[[Asking], None]] = {
    "deciding": lambda here: setattr(here.desks.gate, "decide", _breaks),
    "opening": lambda here: setattr(here.world.app.pool, "open", _breaks),
    "writing": lambda here: setattr(here.world.app.recorder, "commit", _breaks),
}


async def _never(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


async def _breaks(*_: Any, **__: Any) -> Any:
    raise RuntimeError("broken")


@pytest.mark.parametrize("what", BREAKS)
async def test_what_breaks_is_raised_to_the_asker_and_leaves_nothing_counted_as_sent(tmp_path: Path, what: str) -> None:
    async with asking(tmp_path, calm=False) as here:
        BREAKS[what](here)
        with pytest.raises(RuntimeError, match="broken"):
            await here.place(ALICE)
        assert here.unanswered == 0
        assert not any(desk.busy for desk in here.desks._desks.values())


async def test_an_order_that_cannot_be_recorded_is_refused_and_a_cancel_goes_on(here: Asking) -> None:
    resting = opened(await here.place(ALICE)).s2c.orderID

    async def full(record: Any) -> None:
        raise RecordError("audit_unavailable", "the disk is full")

    here.world.app.recorder.commit = full  # type: ignore[method-assign]
    assert code_of(await here.place(ALICE)) is Code.AUDIT_UNAVAILABLE
    assert opened(await here.cancel(ALICE, resting)).retType == 0
    assert here.used("alice") == 1


def _state() -> Any:
    request: Any = message_class("GetGlobalState.Request")()
    request.c2s.userID = 0
    return request
