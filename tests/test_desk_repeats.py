"""Repeated writes through the whole way: sent once, answered alike, free again when nothing was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sidecar.asked import Refused
from sidecar.desks import Reply
from sidecar.errors import RecordError
from sidecar.policy.decision import Code
from sidecar.settings import Upstream
from tests.desk_world import PLACE, Asking, asking, code_of, opened, soon
from tests.faults.faults_world import ALICE, BOB, HK_PAPER, KEYS, global_state, write_keys


@pytest.fixture(scope="session")
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Asking]:
    async with asking(tmp_path) as made:
        yield made


QUICK = Upstream(connect_timeout=2.0, request_timeout=0.3)


def sent(here: Asking) -> int:
    return len(here.world.orders_received())


async def test_one_order_asked_for_many_times_at_once_is_sent_once(here: Asking) -> None:
    answers = await asyncio.gather(*(here.place(ALICE, "t") for _ in range(20)))
    assert sent(here) == 1
    assert len({answer.body for answer in answers if isinstance(answer, Reply)}) == 1
    assert sorted(answer.replayed for answer in answers if isinstance(answer, Reply)) == [False] + [True] * 19
    assert len({answer.decision_id for answer in answers}) == 1
    assert here.used("alice") == 1


async def test_a_repeat_later_is_answered_with_the_first_outcome_and_recorded_as_one(here: Asking) -> None:
    first = await here.place(ALICE, "t")
    again = await here.place(ALICE, "t")
    assert isinstance(again, Reply)
    assert again.replayed
    assert opened(again) == opened(first)
    assert sent(here) == 1
    await soon(0.1)
    assert any("a repeat" in (line.get("message") or "") for line in here.audited(key_id="alice", outcome="allow"))


async def test_what_opend_refused_is_an_outcome_too(here: Asking) -> None:
    first = opened(await here.place(ALICE, "t", price=300.01))
    assert first.retType != 0
    assert opened(await here.place(ALICE, "t", price=300.01)) == first
    assert sent(here) == 1


async def test_the_same_words_for_another_order_are_refused_and_belong_to_each_key(here: Asking) -> None:
    opened(await here.place(ALICE, "t"))
    assert code_of(await here.place(ALICE, "t", qty=200)) is Code.IDEMPOTENCY_CONFLICT
    opened(await here.place(BOB, "t"))
    assert sent(here) == 2


async def test_what_the_sidecar_refused_frees_its_key(here: Asking) -> None:
    assert code_of(await here.place(ALICE, "t", qty=1000)) is Code.ORDER_VALUE
    assert code_of(await here.place(ALICE, "t", qty=1000)) is Code.ORDER_VALUE
    assert opened(await here.place(ALICE, "t")).retType == 0


async def test_a_repeat_is_not_judged_by_the_rules_of_its_own_moment(here: Asking) -> None:
    """The order was sent; to be told `market` now would read as if it had not been."""
    first = opened(await here.place(ALICE, "t"))
    write_keys(
        here.world.keys_file,
        [{**record, "allowed_markets": ["US"]} if record["id"] == "alice" else record for record in KEYS],
    )
    here.world.app.rereading.reload()
    assert code_of(await here.place(ALICE)) is Code.MARKET
    assert code_of(await here.place(ALICE, "other")) is Code.MARKET
    assert opened(await here.place(ALICE, "t")) == first


async def test_a_repeat_after_a_timeout_is_unknown_until_the_answer_comes(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=QUICK) as here:
        here.house_hears_nothing()
        here.delays[PLACE] = 0.9
        first = await here.place(ALICE, "t")
        assert isinstance(first, Refused)
        assert first.unknown
        again = await here.place(ALICE, "t")
        assert isinstance(again, Refused)
        assert again.unknown
        assert again.decision_id == first.decision_id
        await here.world.until(lambda: not here.world.app.ledger.doubts.unsettled(HK_PAPER))
        assert opened(await here.place(ALICE, "t")).retType == 0
        assert sent(here) == 1


async def test_a_repeat_after_a_timeout_is_answered_from_what_opend_reported_of_the_order(tmp_path: Path) -> None:
    async with asking(tmp_path, upstream=QUICK) as here:
        here.delays[PLACE] = 1.5
        first = await here.place(ALICE, "t")
        assert isinstance(first, Refused)
        assert first.unknown
        await here.world.until(lambda: not here.world.app.ledger.doubts.unsettled(HK_PAPER))
        again = opened(await here.place(ALICE, "t"))
        assert [again.s2c.orderID] == await here.orders(ALICE)
        await here.world.until(lambda: here.audited(outcome="success"))
        late = opened(await here.place(ALICE, "t"))
        assert (late.s2c.orderID, late.s2c.orderIDEx) == (again.s2c.orderID, again.s2c.orderIDEx)
        assert sent(here) == 1


async def test_a_repeat_takes_over_from_a_first_whose_asker_left_before_it_was_sent(here: Asking) -> None:
    commit = here.world.app.recorder.commit
    waiting, go = asyncio.Event(), asyncio.Event()

    async def slowly(record: Any) -> None:
        await commit(record)
        waiting.set()
        await go.wait()

    here.world.app.recorder.commit = slowly  # type: ignore[method-assign]
    first = asyncio.ensure_future(here.place(ALICE, "t"))
    await waiting.wait()
    repeats = [asyncio.ensure_future(here.place(ALICE, "t")) for _ in range(3)]
    await soon()
    first.cancel()
    await soon()
    go.set()
    answers = await asyncio.gather(*repeats)
    assert all(opened(answer).retType == 0 for answer in answers)
    assert sent(here) == 1
    assert here.used("alice") == 1


async def test_an_asker_who_left_after_the_order_was_sent_finds_its_outcome_when_it_comes_back(here: Asking) -> None:
    here.delays[PLACE] = 0.3
    first = asyncio.ensure_future(here.place(ALICE, "t"))
    await here.at_opend()
    first.cancel()
    again = await here.place(ALICE, "t")
    assert opened(again).retType == 0
    assert isinstance(again, Reply)
    assert again.replayed
    assert sent(here) == 1


async def test_a_session_lost_on_the_way_leaves_the_outcome_unknown_and_sends_nothing_again(here: Asking) -> None:
    here.house_hears_nothing()
    here.delays[PLACE] = 5.0
    asked = [asyncio.ensure_future(here.place(ALICE, "t")) for _ in range(3)]
    await here.at_opend()
    here.world.sandbox.drop_connections()
    answers = await asyncio.gather(*asked)
    answers.append(await here.place(ALICE, "t"))
    assert all(isinstance(answer, Refused) and answer.unknown for answer in answers)
    assert sent(here) == 1


async def test_while_opend_is_away_a_key_stays_free(here: Asking) -> None:
    await here.world.sandbox.stop()
    assert code_of(await here.place(ALICE, "t")) is Code.UPSTREAM_UNAVAILABLE
    await here.world.sandbox.start()
    await here.world.until(lambda: here.world.app.house.up)
    assert opened(await here.place(ALICE, "t")).retType == 0


@pytest.mark.parametrize("where", ["before", "after"])
async def test_what_breaks_leaves_no_key_under_way_for_ever(tmp_path: Path, where: str) -> None:
    """Before it was reserved the key is free again; after, the order may have been sent, for all anybody knows."""
    async with asking(tmp_path, calm=False) as here:
        decide = here.desks.gate.decide

        async def breaks(asked: Any, obstacle: Any) -> Any:
            if where == "after":
                await decide(asked, obstacle)
            raise RuntimeError("broken")

        here.desks.gate.decide = breaks  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="broken"):
            await here.place(ALICE, "t")
        here.desks.gate.decide = decide  # type: ignore[method-assign]
        answer = await asyncio.wait_for(here.place(ALICE, "t"), 2)
        if where == "before":
            assert opened(answer).retType == 0
        else:
            assert isinstance(answer, Refused)
            assert answer.unknown
            assert sent(here) == 0


async def test_a_key_of_a_cancel_is_kept_with_its_outcome(here: Asking) -> None:
    order_id = opened(await here.place(ALICE)).s2c.orderID
    first = opened(await here.cancel(ALICE, order_id, "c"))
    assert first.retType == 0
    again = await here.cancel(ALICE, order_id, "c")
    assert isinstance(again, Reply)
    assert again.replayed
    assert opened(again) == first
    assert sent(here) == 2


async def test_while_the_ledger_cannot_be_read_or_written_cancels_with_a_key_go_on(here: Asking) -> None:
    order_id = opened(await here.place(ALICE)).s2c.orderID
    app = here.world.app

    def gone(*_: Any, **__: Any) -> Any:
        raise RecordError("ledger_unavailable", "the disk is gone")

    store = app.recorder._store
    store.commit = store.find_attempt = store.find_order = gone  # type: ignore[method-assign, assignment]
    app.ledger.attempts._missing_until = float("inf")
    assert code_of(await here.place(ALICE, "t", price=299)) is Code.LEDGER_UNAVAILABLE
    assert code_of(await here.place(ALICE, price=299)) is Code.LEDGER_UNAVAILABLE
    assert opened(await here.cancel(ALICE, order_id, "c")).retType == 0
    assert sent(here) == 2


async def test_a_read_takes_no_notice_of_an_idempotency_key(here: Asking) -> None:
    for _ in range(2):
        answer = await here.ask(ALICE, 1002, global_state(), "t")
        assert isinstance(answer, Reply)
        assert not answer.replayed
    assert opened(await here.place(ALICE, "t")).retType == 0


async def test_an_outcome_is_on_disk_when_the_asker_has_it(here: Asking) -> None:
    answer = await here.place(ALICE, "t")
    found = here.world.app.recorder._store.find_attempt("alice", "t")
    assert found is not None
    assert isinstance(answer, Reply)
    assert found.outcome == answer.body


async def test_an_attempt_is_on_disk_before_the_first_byte_of_its_order(here: Asking) -> None:
    here.delays[PLACE] = 0.5
    asked = asyncio.ensure_future(here.place(ALICE, "t"))
    await here.at_opend()
    store = here.world.app.recorder._store
    found = store.find_attempt("alice", "t")
    assert found is not None
    assert found.outcome is None
    assert store.find_decision(found.decision_id) is not None
    await asked


async def test_a_repeat_of_an_order_is_answered_while_the_sidecar_drains(here: Asking) -> None:
    first = opened(await here.place(ALICE, "t"))
    here.world.app.gate.closing = True
    assert opened(await here.place(ALICE, "t")) == first
    assert code_of(await here.place(ALICE, "new")) is Code.UPSTREAM_UNAVAILABLE
