"""Repeated writes: who is the first, what the others are told, and that there are never two firsts of what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sidecar.asked import Asked, Refused
from sidecar.decision_id import new_decision_id
from sidecar.errors import RecordError
from sidecar.grants import Caller
from sidecar.intents.read import read
from sidecar.ledger import attempts as attempts_module
from sidecar.ledger.ledger import Ledger
from sidecar.policy.decision import Code, Refusal
from sidecar.repeats import Begun, Repeated, Repeats
from sidecar.wire import catalog
from sidecar.wire.messages import message_class
from tests.ledger.ledger_making import Clock, MemoryStore, open_ledger, reservation

ACC = 1001
REPLY = b"\x08\x00\x12\x00"
RATE = Refused(Code.RATE, "[sidecar:rate] too many")
TIMEOUT = Refused(Code.UPSTREAM_UNAVAILABLE, "OpenD did not answer in time", unknown=True)
T = TypeVar("T")


def order(key_id: str = "bot", *, qty: float = 100, serial: int = 1, remark: str | None = None) -> Asked:
    request: Any = message_class("Trd_PlaceOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = serial, serial
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, ACC, 1
    c2s.trdSide, c2s.orderType, c2s.code, c2s.qty, c2s.price, c2s.secMarket = 1, 1, "00700", qty, 300, 1
    if remark is not None:
        c2s.remark = remark
    return _asked(key_id, catalog.PLACE_ORDER, request)


def cancel(key_id: str = "bot", *, order_id: int = 7) -> Asked:
    request: Any = message_class("Trd_ModifyOrder.Request")()
    c2s = request.c2s
    c2s.packetID.connID, c2s.packetID.serialNo = 1, 2
    c2s.header.trdEnv, c2s.header.accID, c2s.header.trdMarket = 0, ACC, 1
    c2s.orderID, c2s.modifyOrderOp = order_id, 2
    return _asked(key_id, catalog.MODIFY_ORDER, request)


def _asked(key_id: str, proto_id: int, request: Any) -> Asked:
    caller = Caller("rest", key_id, "127.0.0.1")
    return Asked(caller, catalog.CATALOG[proto_id], request, read(proto_id, request), new_decision_id(), 0.0)


class World:
    """Repeats over a ledger whose store can be kept, broken, or found again after a restart."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), Clock()
        self.restart()

    def restart(self) -> None:
        """What was staged and not written is lost."""
        self.ledger: Ledger = open_ledger(self.store, self.clock)
        self.repeats = Repeats(self.ledger, lambda: self.clock.now)

    def written(self) -> None:
        self.store.commit(self.ledger.take())

    def first(self, asked: Asked, token: str = "t") -> Begun:
        begun = self.repeats.begin(asked, token)
        assert isinstance(begun, Begun), begun
        return begun

    def repeat(self, asked: Asked, token: str = "t") -> Repeated:
        repeated = self.repeats.begin(asked, token)
        assert isinstance(repeated, Repeated), repeated
        return repeated

    def reserve(self, begun: Begun) -> None:
        self.ledger.reserve(
            reservation(self.clock.now, decision_id=begun.attempt.decision_id, acc_id=ACC, key_id=begun.attempt.key_id)
        )

    def sent(self, asked: Asked, token: str = "t") -> Begun:
        """An order that has gone to OpenD."""
        begun = self.first(asked, token)
        self.reserve(begun)
        self.written()
        self.ledger.forwarded(begun.attempt.decision_id)
        return begun


@pytest.fixture
def world() -> World:
    return World()


# While the first is under way


async def test_the_first_is_carried_out_and_repeats_are_told_what_came_of_it(world: World) -> None:
    begun = world.sent(order())
    repeats = [world.repeat(order()) for _ in range(3)]
    assert not repeats[0].outcome.done()
    world.repeats.answered(begun, REPLY)
    assert not repeats[0].outcome.done(), "nobody is told what is not written"
    world.repeats.ended(begun, REPLY)
    assert [await each.outcome for each in repeats] == [REPLY] * 3
    later = world.repeat(order())
    assert await later.outcome == REPLY
    assert later.decision_id == begun.attempt.decision_id


async def test_one_who_stops_waiting_takes_nothing_from_the_others(world: World) -> None:
    begun = world.sent(order())
    one, other = world.repeat(order()), world.repeat(order())
    one.outcome.cancel()
    world.repeats.ended(begun, REPLY)
    assert await other.outcome == REPLY


async def test_a_refusal_is_told_to_those_who_wait_and_frees_the_key(world: World) -> None:
    begun = world.first(order())
    waiting = world.repeat(order())
    world.repeats.ended(begun, RATE)
    assert await waiting.outcome == RATE
    world.first(order())


async def test_an_unknown_outcome_stays_unknown_and_sends_nothing_again(world: World) -> None:
    begun = world.sent(order())
    waiting = world.repeat(order())
    world.repeats.ended(begun, TIMEOUT)
    assert await waiting.outcome == TIMEOUT
    again = await world.repeat(order()).outcome
    assert isinstance(again, Refused)
    assert again.unknown
    assert again.decision_id == begun.attempt.decision_id
    assert "look at the order list" in again.text


async def test_an_answer_that_comes_late_is_what_later_repeats_are_told(world: World) -> None:
    begun = world.sent(order())
    world.repeats.ended(begun, TIMEOUT)
    world.repeats.answered(begun, REPLY)
    assert await world.repeat(order()).outcome == REPLY


async def test_an_order_that_opend_reported_in_the_meantime_is_answered_from_its_ids(world: World) -> None:
    begun = world.sent(order())
    world.repeats.ended(begun, TIMEOUT)
    world.ledger.accepted(begun.attempt.decision_id, 7, "EX7")
    outcome = await world.repeat(order()).outcome
    assert isinstance(outcome, bytes)
    response: Any = message_class("Trd_PlaceOrder.Response").FromString(outcome)
    assert response.IsInitialized()
    assert (response.retType, response.s2c.orderID, response.s2c.orderIDEx) == (0, 7, "EX7")
    assert response.s2c.header.accID == ACC


async def test_a_first_that_broke_before_it_was_reserved_frees_its_key(world: World) -> None:
    begun = world.first(order())
    waiting = world.repeat(order())
    world.repeats.failed(begun)
    told = await waiting.outcome
    assert isinstance(told, Refused)
    assert not told.unknown
    world.first(order())


async def test_a_first_that_broke_after_it_was_reserved_is_unknown(world: World) -> None:
    begun = world.sent(order())
    waiting = world.repeat(order())
    world.repeats.failed(begun)
    for told in (await waiting.outcome, await world.repeat(order()).outcome):
        assert isinstance(told, Refused)
        assert told.unknown


# Which requests are the same


async def test_the_same_words_for_another_order_are_refused(world: World) -> None:
    world.sent(order())
    for other in (order(qty=200), order(remark="x"), cancel()):
        refusal = world.repeats.begin(other, "t")
        assert isinstance(refusal, Refusal)
        assert refusal.code is Code.IDEMPOTENCY_CONFLICT


async def test_the_packet_id_is_no_part_of_what_a_request_says(world: World) -> None:
    world.sent(order(serial=1))
    world.repeat(order(serial=99))


async def test_two_keys_may_use_the_same_words(world: World) -> None:
    world.sent(order())
    world.first(order("other"))


@pytest.mark.parametrize("token", ["", "a b", "ä", "x" * 256, "a\n", "\x7f"])
async def test_an_idempotency_key_is_short_and_printable(world: World, token: str) -> None:
    refusal = world.repeats.begin(order(), token)
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.MALFORMED_REQUEST
    assert not world.ledger.has_staged


async def test_the_longest_idempotency_key_is_taken(world: World) -> None:
    world.first(order(), "~" * 255)


# After a restart


async def test_after_a_restart_the_outcome_is_told_again(world: World) -> None:
    begun = world.sent(order())
    world.repeats.answered(begun, REPLY)
    world.written()
    world.restart()
    assert await world.repeat(order()).outcome == REPLY


async def test_after_a_restart_what_may_have_been_sent_is_unknown(world: World) -> None:
    world.sent(order())
    world.restart()
    outcome = await world.repeat(order()).outcome
    assert isinstance(outcome, Refused)
    assert outcome.unknown


async def test_after_a_restart_an_unfinished_cancel_may_be_sent_again(world: World) -> None:
    world.first(cancel())
    world.restart()
    world.first(cancel())


async def test_in_the_same_process_an_unfinished_cancel_is_unknown(world: World) -> None:
    begun = world.first(cancel())
    world.repeats.ended(begun, TIMEOUT)
    outcome = await world.repeat(cancel()).outcome
    assert isinstance(outcome, Refused)
    assert outcome.unknown


# When the ledger cannot be read


@contextmanager
def full_memory(most: int = 1) -> Iterator[None]:
    with mock.patch.object(attempts_module, "MOST_IN_MEMORY", most):
        yield


async def test_while_the_ledger_cannot_be_read_orders_are_refused_and_cancels_go_on(world: World) -> None:
    with full_memory():
        for token in ("a", "b"):
            world.repeats.ended(world.sent(order(), token), TIMEOUT)
            world.clock.pass_(61)
        world.sent(order(), "c")
        world.store.error = RecordError("ledger_unavailable", "the disk is gone")
        refusal = world.repeats.begin(order(), "a")
        assert isinstance(refusal, Refusal)
        assert refusal.code is Code.LEDGER_UNAVAILABLE
        world.first(cancel(), "new")
        world.repeat(order(), "c")


async def test_a_cancel_asks_no_store_whether_it_is_a_repeat(world: World) -> None:
    with full_memory():
        for token in ("a", "b"):
            world.repeats.ended(world.sent(order(), token), TIMEOUT)
            world.clock.pass_(61)
        world.sent(order(), "c")
        world.store.asked = 0
        begun = world.first(cancel(), "new")
        world.repeat(cancel(), "new")
        world.repeats.failed(begun)
        assert world.store.asked == 0
        assert isinstance(world.repeats.begin(order(), "a"), Repeated)
        assert world.store.asked > 0


async def test_a_cancel_under_the_words_of_an_older_order_does_not_free_them_for_it(world: World) -> None:
    world.sent(order())
    world.restart()
    refusal = world.repeats.begin(cancel(), "t")
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.IDEMPOTENCY_CONFLICT
    world.repeat(order())


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_cancel_under_the_words_of_an_order_that_left_memory_does_not_free_them_either(
    world: World, cancelled: bool
) -> None:
    with full_memory():
        for token in ("a", "b"):
            world.repeats.ended(world.sent(order(), token), TIMEOUT)
            world.clock.pass_(61)
        world.sent(order(), "c")
        begun = world.first(cancel(), "a")
        if cancelled:
            world.repeats.answered(begun, REPLY)
        world.repeats.ended(begun, REPLY if cancelled else RATE)
        world.written()
        again = world.repeats.begin(order(), "a")
        assert isinstance(again, Refusal if cancelled else Repeated)


# Whatever happens in between


class Repeating(RuleBasedStateMachine):
    """Clients repeat orders and cancels while OpenD answers, falls silent, the sidecar refuses, and the process dies.

    `maybe_sent`: what was on disk before its first byte and is not known to have stayed there. `recorded`: orders whose
    audit record is on disk too; the others are released at the next start, as the recorder does it.
    """

    @initialize(most=st.sampled_from([1, 100]))
    def begin(self, most: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.full = full_memory(most)
        self.full.__enter__()
        self.under_way: dict[str, Begun] = {}
        self.given_up: dict[str, Begun] = {}
        self.recorded: set[str] = set()
        self.maybe_sent: dict[str, str] = {}
        self.told: dict[str, bytes] = {}
        self.cancels: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "full"):
            self.full.__exit__(None, None, None)
            self.loop.close()

    def run(self, work: Callable[[], T]) -> T:
        async def one() -> T:
            return work()

        return self.loop.run_until_complete(one())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(token=st.sampled_from("abc"), way=st.sampled_from(["begun", "reserved", "sent", "sent"]))
    def asked(self, token: str, way: str) -> None:
        async def ask() -> Begun | Refused | Refusal | bytes | None:
            begun = self.world.repeats.begin(order(), token)
            if isinstance(begun, Refusal):
                assert begun.code is Code.IDEMPOTENCY_CONFLICT
                assert token in self.cancels
                return begun
            if isinstance(begun, Begun):
                return begun
            return await begun.outcome if begun.outcome.done() else None

        got = self.wait(ask())
        if isinstance(got, Begun):
            assert token not in self.maybe_sent, "a second first of what may have been sent"
            assert token not in self.under_way
            self.under_way[token] = got
            if way != "begun":
                self.reserved_and_written(token, recorded=way == "sent")
        elif isinstance(got, bytes):
            assert self.told.setdefault(token, got) == got, "another outcome than the one told before"
        elif token in self.told and not isinstance(got, Refusal):
            assert got is None, "the outcome was told before, and is not known any more"

    @rule(token=st.sampled_from("abc"), outcome=st.sampled_from([REPLY, RATE, TIMEOUT]))
    def asked_to_cancel(self, token: str, outcome: bytes | Refused) -> None:
        """Under the words of an order, or of none."""

        def ask() -> None:
            begun = self.world.repeats.begin(cancel(), token)
            if isinstance(begun, Begun):
                self.cancels.add(token)
                if isinstance(outcome, bytes):
                    self.world.repeats.answered(begun, outcome)
                self.world.repeats.ended(begun, outcome)

        self.run(ask)

    def reserved_and_written(self, token: str, *, recorded: bool) -> None:
        begun = self.under_way[token]
        decision_id = begun.attempt.decision_id
        self.world.reserve(begun)
        self.world.written()
        if recorded:  # the audit is on disk as well: it goes to OpenD
            self.recorded.add(decision_id)
            self.maybe_sent[begun.attempt.token] = decision_id
            self.world.ledger.forwarded(decision_id)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), accepted=st.booleans())
    def opend_answers(self, data: st.DataObject, accepted: bool) -> None:
        token = data.draw(st.sampled_from(sorted(self.under_way)))
        begun = self.under_way[token]
        if begun.attempt.decision_id not in self.recorded:
            return
        reply = REPLY + begun.attempt.decision_id.encode()
        self.run(lambda: self.world.repeats.answered(begun, reply))
        if accepted:
            self.world.ledger.accepted(begun.attempt.decision_id, 7, "EX7")
        else:
            self.world.ledger.refused_by_opend(begun.attempt.decision_id)
        self.world.written()
        self.run(lambda: self.world.repeats.ended(begun, reply))
        self.told.setdefault(token, reply)
        del self.under_way[token]

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def opend_is_silent(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.under_way)))
        begun = self.under_way[token]
        if begun.attempt.decision_id in self.recorded:
            self.run(lambda: self.world.repeats.ended(begun, TIMEOUT))
            self.given_up[token] = self.under_way.pop(token)

    @precondition(lambda self: self.given_up)
    @rule(data=st.data())
    def opend_answers_late(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.given_up)))
        begun = self.given_up.pop(token)
        reply = REPLY + begun.attempt.decision_id.encode()
        self.run(lambda: self.world.repeats.answered(begun, reply))
        self.world.written()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), broke=st.booleans())
    def refused_before_it_was_sent(self, data: st.DataObject, broke: bool) -> None:
        token = data.draw(st.sampled_from(sorted(self.under_way)))
        begun = self.under_way[token]
        if begun.attempt.decision_id in self.recorded:
            return
        self.world.ledger.release(begun.attempt.decision_id)
        self.run(lambda: self.world.repeats.failed(begun) if broke else self.world.repeats.ended(begun, RATE))
        del self.under_way[token]

    @rule()
    def written(self) -> None:
        self.world.written()

    @rule(seconds=st.sampled_from([0.5, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.written()
        self.world.clock.pass_(seconds)

    @precondition(lambda self: self.under_way or self.told or self.given_up)
    @rule()
    def killed(self) -> None:
        self.world.restart()
        for made in self.world.ledger.doubts.never_forwarded():
            if made.decision_id not in self.recorded:
                self.world.ledger.release(made.decision_id)
        self.world.written()
        self.under_way.clear()
        self.given_up.clear()


TestRepeating = Repeating.TestCase
TestRepeating.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
