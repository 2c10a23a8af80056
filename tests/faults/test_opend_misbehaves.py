"""An OpenD that breaks its own protocol: the client gets an answer or an end, reservations stay where an order may exist."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from faults_world import ALICE, BOB, CARL, DORA, HK_PAPER, REAL, World, change, global_state, running

from sidecar.sandbox import Sandbox, SandboxSettings
from sidecar.settings import Upstream
from sidecar.wire import frame
from sidecar.wire.frame import JSON, FrameReader
from sidecar.wire.messages import message_class

Twist = Callable[[int, int, bytes], list[bytes] | None]
"""(proto id, serial, the frame) → what is sent instead, piece by piece; None hangs up."""


def as_it_is(_proto_id: int, _serial: int, data: bytes) -> list[bytes]:
    return [data]


class Twister:
    """Stands between the sidecar and a well-behaved sandbox and spoils what comes back."""

    def __init__(self, sandbox_port: int) -> None:
        self.twist: Twist = as_it_is
        self._sandbox_port = sandbox_port
        self.to_sidecar: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_sandbox, to_sandbox = await asyncio.open_connection("127.0.0.1", self._sandbox_port)
        self.to_sidecar.append(writer)
        up = asyncio.ensure_future(self._pump(reader, to_sandbox))
        frames = FrameReader(2**26)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await from_sandbox.read(2**18):
                chunk, heads = frames.receive(data)
                for head in heads:
                    pieces = self.twist(head.proto_id, head.serial, chunk[head.start : head.stop])
                    if pieces is None:
                        raise ConnectionError
                    for piece in pieces:
                        writer.write(piece)
                        await asyncio.sleep(0)
        for each in (writer, to_sandbox):
            each.close()
        up.cancel()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**18):
                writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def twisted(folder: Path, **more: Any) -> AsyncIterator[tuple[World, Twister]]:
    async with Sandbox(SandboxSettings(port=0, tick_interval=0.0, limits=False)) as sandbox:
        twister = Twister(sandbox.port)
        server = await asyncio.start_server(twister.serve, "127.0.0.1", 0)
        async with running(folder, upstream_port=server.sockets[0].getsockname()[1], **more) as world:
            await world.until(lambda: world.app.house.up)
            world.sandbox = sandbox
            yield world, twister
        server.close()


def only(proto_id: int, make: Callable[[int, bytes], list[bytes] | None]) -> Twist:
    """Spoil the frames of one id."""
    return lambda number, serial, data: make(serial, data) if number == proto_id else [data]


def used(world: World, key: str = "alice") -> tuple[int, dict[str, Any]]:
    """Orders of the last minute, and what counts today by currency."""
    usage = world.app.ledger.usage(key, time.time())
    return usage.orders_last_minute, dict(usage.daily_value)


async def test_an_opend_that_hangs_up_in_the_middle_of_an_orders_answer_leaves_the_order_counted(
    tmp_path: Path,
) -> None:
    async with twisted(tmp_path) as (world, twister):
        client, other = await world.client(ALICE), await world.client(CARL)
        halves: list[bytes] = []

        def half(_serial: int, data: bytes) -> list[bytes] | None:
            if halves:
                return None
            halves.append(data)
            return [data[: len(data) // 2]]

        twister.twist = only(2202, half)
        serial = client.send(2202, client.order())
        await world.until(lambda: halves)
        twister.to_sidecar[1].transport.abort()
        answer = await client.answer_to(2202, serial)
        assert answer.ret_type == -1
        assert answer.text.startswith("[sidecar:upstream_unavailable]")
        assert "unknown" in answer.text
        assert await client.ended()
        assert used(world) == (1, {"HKD": 30_000})
        assert (await other.ask(1002, global_state())).ret_type == 0
        outcomes = [record["outcome"] for record in await _audited(world, 2202)]
        assert "unknown" in outcomes or "success" in outcomes


async def _audited(world: World, proto_id: int) -> list[dict[str, Any]]:
    await asyncio.sleep(0.4)
    return [record for record in world.audit() if record["endpoint"].endswith(f"proto_id={proto_id}")]


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400\r\n\r\n" * 5, struct.pack("<2sIBBII20s8s", b"FT", 2202, 0, 0, 1, 2**31, bytes(20), bytes(8))],
)
async def test_garbage_from_opend_ends_that_clients_session_only(tmp_path: Path, garbage: bytes) -> None:
    async with twisted(tmp_path) as (world, twister):
        client, other = await world.client(ALICE), await world.client(CARL)
        twister.twist = only(2202, lambda *_: [garbage])
        answer = await client.place()
        assert answer.text.startswith("[sidecar:upstream_unavailable]"), answer.text
        assert await client.ended()
        assert used(world)[0] == 1
        assert used(world)[1]
        assert (await other.ask(1002, global_state())).ret_type == 0


@pytest.mark.parametrize("fmt", [0, JSON])
@pytest.mark.parametrize(
    "body", [b"\xff\xff", b"", b"\x12\x03abc", b"\x08\x00\x22\x02\x08\x01", b"\x08\x00\x12\x02\xff\xfe"], ids=range(5)
)
async def test_an_answer_to_an_order_that_cannot_be_read_is_still_an_answer_and_the_order_counts(
    tmp_path: Path, body: bytes, fmt: int
) -> None:
    async with twisted(tmp_path) as (world, twister):
        client, other = await world.client(ALICE), await world.client(CARL)
        twister.twist = only(2202, lambda serial, _: [frame.build(2202, serial, body)])
        serial = client.send(2202, client.order(), fmt=fmt)
        answer = await client.answer_to(2202, serial)
        assert answer.fmt == fmt
        assert answer.body
        assert used(world)[0] == 1
        assert used(world)[1], "an order that may exist must go on counting"
        assert (await other.ask(1002, global_state())).ret_type == 0


@pytest.mark.parametrize("fmt", [0, JSON])
@pytest.mark.parametrize("body", [b"\xff\xff", b"\x12\x03abc", b"\x08\x00\x12\x02\xff\xfe"], ids=range(3))
async def test_a_read_whose_answer_is_nonsense_disturbs_nobody(tmp_path: Path, body: bytes, fmt: int) -> None:
    async with twisted(tmp_path) as (world, twister):
        other = await world.client(CARL)
        for proto_id in (1002, 2001):
            twister.twist = only(proto_id, lambda serial, _, number=proto_id: [frame.build(number, serial, body)])
            client = await world.client(DORA)
            request = b"\x0a\x02\x08\x00" if fmt == 0 else b'{"c2s":{"userID":"0"}}'
            serial = client.send(proto_id, request, fmt=fmt)
            answer = await client.answer_to(proto_id, serial)
            assert answer.fmt == fmt
            twister.twist = as_it_is
        assert (await other.ask(1002, global_state())).ret_type == 0


async def test_an_order_answered_twice_is_passed_on_once(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(ALICE)
        twister.twist = only(2202, lambda _, data: [data, data])
        assert (await client.place()).ret_type == 0
        assert (await client.ask(1002, global_state())).ret_type == 0
        assert not [got for got in client.others if got.proto_id == 2202]
        assert used(world) == (1, {"HKD": 30_000})


async def test_an_order_accepted_first_and_refused_in_a_second_answer_goes_on_counting(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(ALICE)
        no = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x02no"
        twister.twist = only(2202, lambda serial, data: [data, frame.build(2202, serial, no)])
        assert (await client.place()).ret_type == 0
        await client.ask(1002, global_state())
        assert used(world)[1]


@pytest.mark.parametrize(
    ("ret_type", "kept"), [(-100, True), (-200, True), (-400, True), (-1, False), (-500, False), (7, True)]
)
async def test_only_opends_own_no_gives_the_value_back(tmp_path: Path, ret_type: int, kept: bool) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(ALICE)
        reply: Any = message_class("Trd_PlaceOrder.Response")()
        reply.retType, reply.retMsg = ret_type, "so it says"
        no = reply.SerializeToString()
        twister.twist = lambda number, serial, data: (
            [frame.build(2202, serial, no)] if number == 2202 else [] if number == 2208 else [data]
        )
        answer = await client.place()
        assert (answer.ret_type, answer.text) == (ret_type, "so it says")
        orders, value = used(world)
        assert orders == 1
        assert any(value.values()) is kept


async def test_answers_that_nobody_asked_for_are_dropped(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(ALICE)
        twister.twist = only(
            1002,
            lambda serial, data: [
                frame.with_serial(data, 4_000_000_000),
                frame.build(2202, serial + 9, b"\x08\x00"),
                data,
            ],
        )
        assert (await client.ask(1002, global_state())).ret_type == 0
        assert not client.others
        assert not client.pushes


async def test_an_answer_under_another_id_does_not_use_up_the_orders_own_answer(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(ALICE)
        twister.twist = only(2202, lambda serial, data: [frame.build(1002, serial, b"\x08\x00"), data])
        assert (await client.place(timeout=3)).ret_type == 0
        assert world.app.ledger.doubts.unsettled(HK_PAPER) == []


async def test_a_late_answer_settles_the_order_it_belongs_to(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(ALICE)
        held: list[bytes] = []
        twister.twist = only(2202, lambda _, data: [held.append(data) or b""])  # type: ignore[func-returns-value]
        first = client.send(2202, client.order())
        await world.until(lambda: held)
        assert (await client.ask(1002, global_state())).ret_type == 0
        twister.to_sidecar[1].write(held[0])
        assert (await client.answer_to(2202, first)).ret_type == 0


async def test_an_order_never_answered_goes_on_counting_when_the_client_leaves(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(ALICE)
        twister.twist = lambda number, _, data: [] if number in (2202, 2208) else [data]
        client.send(2202, client.order())
        await world.until(lambda: len(world.orders_received()) == 1)
        await client.close()
        await asyncio.sleep(0.3)
        assert used(world)[0] == 1
        assert used(world)[1]


@pytest.mark.parametrize("fmt", [0, JSON])
async def test_a_push_about_an_account_the_key_may_not_see_is_kept_back_whatever_it_says(
    tmp_path: Path, fmt: int
) -> None:
    async with twisted(tmp_path) as (world, twister):
        spies = [await world.client(key, push_fmt=fmt) for key in (ALICE, BOB, CARL, DORA)]
        pushes = []
        for proto_id, name in ((2207, "Trd_Notify"), (2208, "Trd_UpdateOrder"), (2218, "Trd_UpdateOrderFill")):
            for env, acc_id in ((1, REAL), (0, REAL), (1, HK_PAPER), (5, HK_PAPER), (0, 0)):
                push: Any = message_class(f"{name}.Response")()
                push.retType = 0
                push.s2c.header.trdEnv, push.s2c.header.accID, push.s2c.header.trdMarket = env, acc_id, 1
                pushes.append(frame.build(proto_id, 0, push.SerializePartialToString()))
            pushes.append(frame.build(proto_id, 0, b"\xff\xff\xff"))
            pushes.append(frame.build(proto_id, 0, b"\x08\x00"))
            pushes.append(frame.build(proto_id, 0, b""))
        for writer in list(twister.to_sidecar):
            writer.write(b"".join(pushes))
        await asyncio.sleep(0.3)
        for spy in spies:
            assert (await spy.ask(1002, global_state())).ret_type == 0
            assert not spy.pushes
        assert world.app.house.up


@pytest.mark.parametrize("fmt", [0, JSON])
async def test_quote_pushes_that_are_nonsense_end_nothing_but_at_most_their_own_session(
    tmp_path: Path, fmt: int
) -> None:
    async with twisted(tmp_path) as (world, twister):
        client, other = await world.client(CARL, push_fmt=fmt), await world.client(CARL)
        for body in (b"\xff\xff", b"", b"\x08\x00\x22\x04\x0a\x02\x0a\x00", b"\x08\x00\x12\x02\xff\xfe"):
            twister.to_sidecar[1].write(frame.build(3005, 0, body))
        await asyncio.sleep(0.2)
        assert (await other.ask(1002, global_state())).ret_type == 0
        assert client is not other


async def test_a_push_with_an_id_nobody_knows_is_not_passed_on(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(CARL)
        for number in (0, 1001, 2202, 2205, 9999, 4_294_967_295):
            twister.to_sidecar[1].write(frame.build(number, 0, b"\x08\x00"))
        assert (await client.ask(1002, global_state())).ret_type == 0
        assert not client.others
        assert not client.pushes


async def test_an_opend_that_refuses_or_garbles_init_connect_is_reported(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        no = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x06go off"
        spoilt: list[Callable[[int], bytes]] = [
            lambda serial: frame.build(1001, serial, no),
            lambda serial: frame.build(1001, serial, b"\xff\xff\xff"),
            lambda serial: frame.build(1002, serial, b"\x08\x00"),
            lambda serial: frame.build(1001, serial, b"\x08\x00"),
            lambda _: b"garbage garbage",
        ]
        for make in spoilt:
            twister.twist = only(1001, lambda serial, _, make=make: [make(serial)])
            client = await world.client()
            answer = await client.init(CARL)
            if answer.ret_type != 0:
                assert answer.text.startswith("[sidecar:upstream_unavailable]"), answer.text
        twister.twist = only(1001, lambda *_: None)
        assert (await (await world.client()).init(CARL)).text.startswith("[sidecar:upstream_unavailable]")
        twister.twist = as_it_is
        await world.assert_serves()
        await world.until(lambda: world.app.pool.count <= 3)


async def test_the_facts_being_nonsense_refuses_orders_and_ends_nothing(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(ALICE)
        for body in (b"\xff\xff", b"\x08\x00", b"\x08\x00\x22\x02\x0a\x00"):
            twister.twist = only(3202, lambda serial, _, body=body: [frame.build(3202, serial, body)])
            answer = await client.place(timeout=8)
            assert answer.text.startswith("[sidecar:instrument_unknown]"), answer.text
            world.app.look_ups.instruments.forget()
        twister.twist = only(3202, lambda *_: [b"garbage garbage"])
        answer = await client.place(timeout=8)
        assert answer.text.startswith("[sidecar:"), answer.text
        assert not world.orders_received()
        twister.twist = as_it_is
        await world.until(lambda: world.app.house.up, timeout=8)
        world.app.look_ups.instruments.forget()
        assert (await client.place()).ret_type == 0


async def test_a_cancel_passes_while_facts_and_account_lists_are_silent(tmp_path: Path) -> None:
    async with twisted(tmp_path) as (world, twister):
        client = await world.client(ALICE)
        mine = (await client.place()).response.s2c
        twister.twist = lambda number, _, data: [] if number in (2001, 3202, 3203, 2201) else [data]
        answer = await client.ask(2205, change(client.conn_id, 900, order_id=mine.orderID), timeout=2)
        assert answer.ret_type == 0, answer.text


async def test_what_opend_never_answers_is_answered_by_the_sidecar_and_the_order_counts(tmp_path: Path) -> None:
    async with twisted(tmp_path, upstream=Upstream(request_timeout=2.0)) as (world, twister):
        client = await world.client(ALICE)
        twister.twist = lambda number, _, data: [] if number in (1002, 2202, 2208) else [data]
        read = await client.ask(1002, global_state(), timeout=10)
        assert read.text.startswith("[sidecar:upstream_unavailable] OpenD did not answer in time")
        order = await client.ask(2202, client.order(), timeout=10)
        assert order.text.startswith(
            "[sidecar:upstream_unavailable] OpenD did not answer in time; whether this was done"
        )
        assert used(world)[0] == 1
