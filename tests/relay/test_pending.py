"""What is pending of one client: given up in time, answered once, and an order's late answer still waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.asked import Forward, Refused
from sidecar.policy.decision import Code
from sidecar.relay.client import Replies
from sidecar.relay.pending import Pending, Unanswered
from sidecar.wire import body, catalog
from sidecar.wire.catalog import CATALOG
from sidecar.wire.encryption import Cipher
from sidecar.wire.frame import HEADER_SIZE, JSON, PROTOBUF, FrameReader

READ, ORDER = CATALOG[catalog.GET_GLOBAL_STATE], CATALOG[catalog.PLACE_ORDER]
SENT = Forward(asked=SimpleNamespace(decision_id="d1"), record=SimpleNamespace())  # type: ignore[arg-type]


class Client:
    cipher: Cipher | None = None
    push_fmt = PROTOBUF

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def end(self, reason: str) -> None: ...

    def read(self) -> list[tuple[int, int, int, str]]:
        """Proto id, serial, format and `retMsg` of what came since it was last asked."""
        told, self.written = self.written, []
        chunk, heads = FrameReader(1 << 20).receive(b"".join(told))
        return [
            (
                head.proto_id,
                head.serial,
                head.fmt,
                body.parse(
                    "GetGlobalState.Response", head.fmt, chunk[head.start + HEADER_SIZE : head.stop], strict=False
                ).retMsg,
            )
            for head in heads
        ]


class Book:
    """Where orders without an answer are recorded."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    def gave_up(self, forward: Forward | None, reason: str) -> Refused:
        if forward is not None and forward.record is not None:
            self.order_lost(forward, reason)
        return Refused(Code.UPSTREAM_UNAVAILABLE, reason)

    def order_lost(self, forward: Forward, reason: str) -> None:
        self.lost.append(f"{forward.asked.decision_id}: {reason}")


class World:
    def __init__(self) -> None:
        self.client, self.book = Client(), Book()
        self.replies = Replies(self.client)
        self.pending = Unanswered(self.replies, self.book)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_pending_at_two_looks_is_given_up_at_the_second(world: World) -> None:
    world.pending.sent[7] = READ.id
    world.pending.give_up_overdue()
    assert world.client.read() == [], "it may have been sent a moment ago"
    world.pending.sent[8] = READ.id
    world.pending.give_up_overdue()
    assert world.client.read() == [(READ.id, 7, PROTOBUF, "OpenD did not answer in time")]
    assert list(world.pending.sent) == [8]


def test_what_was_answered_between_two_looks_is_not_given_up(world: World) -> None:
    world.pending.sent[7] = READ.id
    world.pending.give_up_overdue()
    del world.pending.sent[7]
    world.pending.give_up_overdue()
    assert world.client.read() == []


def test_an_order_that_is_given_up_is_told_once_and_its_late_answer_is_still_waited_for(world: World) -> None:
    world.pending.sent[9] = Pending(ORDER, 5, JSON, SENT)
    for _ in range(4):
        world.pending.give_up_overdue()
    assert world.client.read() == [(ORDER.id, 5, JSON, "OpenD did not answer in time")], "under the client's own serial"
    assert world.book.lost == ["d1: OpenD did not answer in time"]
    assert world.pending.owes_orders
    entry = world.pending.sent[9]
    assert isinstance(entry, Pending)
    assert entry.given_up


def test_a_read_owes_no_order(world: World) -> None:
    world.pending.sent[1] = READ.id
    world.pending.sent[2] = Pending(READ, 2, PROTOBUF)
    assert not world.pending.owes_orders


def test_everything_is_answered_once_when_the_session_ends(world: World) -> None:
    world.pending.sent[1] = READ.id
    world.pending.sent[2] = Pending(READ, 3, JSON)
    world.pending.sent[4] = Pending(ORDER, 5, PROTOBUF, SENT, given_up=True)
    world.pending.give_up_all("OpenD closed the connection")
    assert world.client.read() == [
        (READ.id, 1, PROTOBUF, "OpenD closed the connection"),
        (READ.id, 3, JSON, "OpenD closed the connection"),
    ], "the order was told of before"
    assert len(world.pending) == 0
    world.pending.give_up_all("OpenD closed the connection")
    assert world.client.read() == []


def test_orders_whose_client_has_gone_are_recorded_and_nothing_is_sent(world: World) -> None:
    world.pending.sent[1] = READ.id
    world.pending.sent[2] = Pending(ORDER, 2, PROTOBUF, SENT)
    world.replies.close()
    world.pending.forget_all()
    assert world.client.written == []
    assert world.book.lost == ["d1: the client has gone and OpenD did not answer in time"]
    assert len(world.pending) == 0


def test_what_is_in_no_format_at_all_is_refused_in_protobuf(world: World) -> None:
    world.replies.refuse(READ.id, 3, 77, Refused(Code.MALFORMED_REQUEST, "no"))
    assert world.client.read() == [(READ.id, 3, PROTOBUF, "no")]


def test_an_answer_of_our_own_goes_in_the_format_of_its_request(world: World) -> None:
    response: Any = body.parse("GetGlobalState.Response", JSON, b'{"retType": 0, "retMsg": "fine"}', strict=True)
    world.replies.answer(READ, 3, JSON, response.SerializeToString())
    world.replies.answer(READ, 4, PROTOBUF, response.SerializeToString())
    assert world.client.read() == [(READ.id, 3, JSON, "fine"), (READ.id, 4, PROTOBUF, "fine")]
