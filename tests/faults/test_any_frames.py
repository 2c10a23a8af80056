"""Frames spoilt at random against a whole sidecar: it lives, it stays calm, and no order reaches OpenD that its rules would refuse."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import uvloop
from faults_world import (
    ALICE,
    BOB,
    CARL,
    HK_PAPER,
    KEYS,
    NOBODY,
    Closed,
    RawClient,
    World,
    about_account,
    change,
    global_state,
    keep_alive,
    order,
    raw_frame,
    running,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.wire import frame
from sidecar.wire.body import serialise
from sidecar.wire.catalog import CATALOG
from sidecar.wire.frame import JSON

GENEROUS = tuple(
    {**record, "max_daily_value": 10**12, "max_orders_per_minute": 100_000} if record["id"] == "alice" else record
    for record in KEYS
    if record["id"] != "bob"
)
"""Only alice may trade: paper, Hong Kong, one account, 50,000 HKD an order."""

SEEDS: tuple[tuple[int, Any], ...] = (
    (2202, order()),
    (2202, order(price=300.2, qty=100, remark="mine")),
    (2202, order(price=9_999)),
    (2202, order(acc_id=1001002, market=2, code="AAPL", sec_market=2)),
    (2202, order(env=1, acc_id=281756455000000001)),
    (2205, change(1, 1, order_id=5)),
    (2205, change(1, 1, op=1, order_id=5, qty=900.0, price=900.0)),
    (2205, change(1, 1, forAll=True)),
    (2201, about_account(2201)),
    (1002, global_state()),
    (1004, keep_alive()),
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One frame: a good one, spoilt a little, its header made to fit again or not."""
    proto_id, request = draw(st.sampled_from(SEEDS))
    fmt = draw(st.sampled_from([0, 0, 0, JSON]))
    body = bytearray(serialise(request, fmt))
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.integers(0, 4))
        at = draw(st.integers(0, max(0, len(body) - 1)))
        if kind == 0 and body:
            body[at] = draw(st.integers(0, 255))
        elif kind == 1:
            body[at:at] = draw(st.binary(max_size=12))
        elif kind == 2:
            del body[at : at + draw(st.integers(1, 8))]
        elif kind == 3:
            other = serialise(draw(st.sampled_from(SEEDS))[1], fmt)
            body += other
        else:
            body[at:at] = body[at : at + draw(st.integers(1, 40))]
    if draw(st.integers(0, 9)) == 0:
        proto_id = draw(st.one_of(st.sampled_from(sorted(CATALOG)), st.integers(0, 2**32 - 1)))
    if draw(st.integers(0, 19)) == 0:
        fmt = draw(st.integers(0, 255))
    serial = draw(st.one_of(st.integers(1, 300), st.integers(2**32 - 4, 2**32 - 1), st.integers(0, 2**32 - 1)))
    spoilt = draw(st.integers(0, 39))
    if spoilt == 0:
        return raw_frame(proto_id, serial, bytes(body), fmt=fmt, digest=draw(st.binary(min_size=20, max_size=20)))
    if spoilt == 1:
        return raw_frame(proto_id, serial, bytes(body), fmt=fmt, length=draw(st.integers(0, 2**32 - 1)))
    if spoilt == 2:
        return draw(st.binary(max_size=200))
    return raw_frame(proto_id, serial, bytes(body), fmt=fmt)


class Standing:
    """A world that stands for many examples, in a loop that runs while one of them does."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stack = contextlib.AsyncExitStack()
        self.world: World = self.runner.run(self._stack.enter_async_context(running(folder, keys=GENEROUS)))

    def close(self) -> None:
        self.runner.run(self._stack.aclose())
        self.runner.close()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    one = Standing(tmp_path_factory.mktemp("any"))
    yield one
    one.close()


def assert_nothing_unjudged(world: World) -> None:
    for record in world.sandbox.received.of(2202):
        c2s = record.c2s
        assert c2s is not None, "an order that cannot be read reached OpenD"
        head = c2s["header"]
        assert (head["accID"], head["trdEnv"], head["trdMarket"]) == (HK_PAPER, 0, 1), c2s
        assert c2s["secMarket"] == 1
        assert c2s["trdSide"] in (1, 2, 3, 4)
        assert c2s["orderType"] in (1, 5, 7, 8, 9, 11, 13, 17, 19), "an order without a price passed a value limit"
        worst = Decimal(repr(c2s["price"])) * (1 + max(Decimal(0), Decimal(repr(c2s.get("adjustSideAndLimit", 0.0)))))
        assert 0 < Decimal(repr(c2s["qty"])) * worst <= 50_000, c2s
    for record in world.sandbox.received.of(2205):
        assert record.c2s is not None
        assert record.c2s["modifyOrderOp"] == 2
        assert not record.c2s.get("forAll")
        assert record.c2s["header"]["accID"] == HK_PAPER
    for number in (2209, 2227):
        assert not world.sandbox.received.of(number)
    assert {record.client_id for record in world.sandbox.received} <= {"opend-sidecar"}


@pytest.mark.parametrize(
    "key", [ALICE, CARL, BOB, NOBODY, None], ids=["alice", "carl", "bob", "nobody", "no handshake"]
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(spoilt=st.lists(frames(), min_size=1, max_size=6), cuts=st.lists(st.integers(1, 400), max_size=5))
def test_whatever_is_sent_nothing_unjudged_passes(
    standing: Standing, key: str | None, spoilt: list[bytes], cuts: list[int]
) -> None:
    world = standing.world

    async def example() -> None:
        client = await RawClient.connect(world.port)
        try:
            if key is not None:
                await client.init(key)
            data, start = b"".join(spoilt), 0
            for cut in cuts:
                client.send_bytes(data[start : start + cut])
                start += cut
                await asyncio.sleep(0)
            client.send_bytes(data[start:])
            client.send(1004, keep_alive(), serial=2**31)
            with contextlib.suppress(Closed, TimeoutError, ConnectionError):
                await client.answer_to(1004, 2**31, timeout=0.3)
        finally:
            await client.close()

    standing.runner.run(example())
    world.assert_calm()
    assert_nothing_unjudged(world)
    world.sandbox.received.clear()


def test_after_all_of_it_the_sidecar_serves_and_its_audit_is_sound(standing: Standing) -> None:
    world = standing.world

    async def after() -> None:
        client = await world.client(ALICE)
        assert (await client.place()).ret_type in (0, -1)
        await asyncio.sleep(0.5)
        await world.until(
            lambda: len(world.app.doors.named[0][1].clients) == 1 and len(world.app.tasks) < 5, timeout=25
        )

    standing.runner.run(after())
    for line in world.audit_file.read_text().splitlines():
        assert json.loads(line)["seq"]
    assert frame.HEADER_SIZE == 44
