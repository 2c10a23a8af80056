"""Clients that cost too much: slow readers, slow writers, too many, too large. They are cut, bounded or told; others are not affected."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from faults_world import (
    ALICE,
    BOB,
    CARL,
    DORA,
    HK_PAPER,
    KEYS,
    NOBODY,
    RawClient,
    World,
    about_account,
    change,
    global_state,
    init_request,
    keep_alive,
    order,
    raw_frame,
    running,
    write_keys,
)
from real_parts import need

from sidecar.listeners.tcp.listener import MAX_PARKED
from sidecar.sandbox import Fault, FaultKind, SandboxSettings
from sidecar.settings import Limits, Upstream
from sidecar.wire import frame
from sidecar.wire.frame import JSON
from sidecar.wire.messages import message_class


def resident() -> int:
    """Bytes of memory this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def subscribe(kinds: list[int]) -> Any:
    request: Any = message_class("Qot_Sub.Request")()
    security = request.c2s.securityList.add()
    security.market, security.code = 1, "00700"
    request.c2s.subTypeList.extend(kinds)
    request.c2s.isSubOrUnSub = request.c2s.isRegOrUnRegPush = True
    return request


async def deaf(world: World, key: str) -> socket.socket:
    """A client past its InitConnect whose receive buffer is small and who will not read again."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", world.port))
    await loop.sock_sendall(sock, frame.build(1001, 1, init_request(key).SerializeToString()))
    got = await loop.sock_recv(sock, 4096)
    assert got.startswith(b"FT")
    return sock


async def slowest_answer(client: RawClient, seconds: float) -> float:
    """The longest a client waited for an answer during `seconds`: how long everybody stood still."""
    worst, until = 0.0, time.monotonic() + seconds
    started = time.monotonic()
    while time.monotonic() < until:
        await client.ask(1002, global_state(), timeout=30)
        await asyncio.sleep(0.01)
        worst = max(worst, time.monotonic() - started)
        started = time.monotonic()
    return worst


# -- slow --------------------------------------------------------------------------------------------------------------


async def test_a_client_that_stops_reading_is_cut_at_its_buffer_and_the_others_are_not(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(client_buffer=512 * 1024)) as world:
        slow = await deaf(world, CARL)
        good = await world.client(CARL)
        loop = asyncio.get_running_loop()
        for number in (2, 3):
            await loop.sock_sendall(slow, frame.build(3001, number, subscribe([1, 2, 4, 5]).SerializeToString()))
        assert (await good.ask(3001, subscribe([1]))).ret_type == 0
        before, pushed = resident(), 0
        for _ in range(400):
            for number in range(50):
                world.sandbox.set_price("HK.00700", str(300 + (pushed + number) % 50))
            pushed += 50
            await asyncio.sleep(0)
            if len(world.app.doors.named[0][1].clients) < 2:
                break
        await world.until(lambda: len(world.app.doors.named[0][1].clients) == 1)
        assert resident() - before < 64 * 1024 * 1024
        assert any("too slowly" in entry["event"] for entry in world.operator_log)
        assert (await good.ask(1002, global_state(), timeout=20)).ret_type == 0
        assert {push.proto_id for push in good.pushes} == {3005}
        slow.close()


async def test_a_client_that_asks_and_never_reads_is_cut_at_its_buffer(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(client_buffer=256 * 1024)) as world:
        sock = await deaf(world, CARL)
        flood = b"".join(frame.build(2202, number, b"") for number in range(2, 5000))
        loop = asyncio.get_running_loop()
        with pytest.raises((ConnectionError, TimeoutError)):
            async with asyncio.timeout(10):
                while True:
                    await loop.sock_sendall(sock, flood)
        await world.until(lambda: not world.app.doors.named[0][1].clients)
        sock.close()
        await world.assert_serves()


async def test_a_client_that_is_let_go_and_does_not_read_does_not_keep_its_place(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(handshake_timeout=1.0, frame_timeout=1.0)) as world:
        sock = await deaf(world, CARL)
        loop = asyncio.get_running_loop()
        body = b""
        await loop.sock_sendall(sock, b"".join(frame.build(2202, n, body) for n in range(2, 5_000)))
        await asyncio.sleep(0.3)
        await loop.sock_sendall(sock, b"garbage garbage")  # it is let go, with much unread
        await world.until(lambda: not world.app.doors.named[0][1].clients, timeout=8)
        sock.close()


async def test_bytes_dripping_in_before_the_handshake_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(handshake_timeout=1.0)) as world:
        client = await world.client()
        data = frame.build(1001, 1, init_request(ALICE).SerializeToString())
        started = time.monotonic()
        try:
            for byte in data:
                client.send_bytes(bytes([byte]))
                await client.writer.drain()
                await asyncio.sleep(0.1)
                if client.reader.at_eof():
                    break
        except ConnectionError:
            pass
        assert await client.ended()
        assert time.monotonic() - started < 4
        silent = await world.client()
        assert await silent.ended(4)
        assert not world.app.doors.named[0][1].clients


async def test_a_frame_that_drips_in_is_not_waited_for_for_ever_though_others_came_before(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(frame_timeout=1.0)) as world:
        client = await world.client(ALICE)
        data = frame.build(2202, 400, client.order().SerializeToString())
        started = time.monotonic()
        try:
            for byte in data:
                client.send_bytes(bytes([byte]))
                await asyncio.sleep(0.1)
                if client.reader.at_eof():
                    break
        except ConnectionError:
            pass
        assert await client.ended()
        assert time.monotonic() - started < 5
        assert not world.orders_received()


async def test_an_idle_client_between_frames_is_left_alone(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(frame_timeout=1.0, handshake_timeout=1.0)) as world:
        client = await world.client(CARL)
        await asyncio.sleep(3)
        assert (await client.ask(1002, global_state())).ret_type == 0


# -- many --------------------------------------------------------------------------------------------------------------


async def test_a_thousand_idle_connections_cost_little_and_one_more_client_is_served(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    need("4096 open files", most == resource.RLIM_INFINITY or most >= 4096)
    enough = 65_536 if most == resource.RLIM_INFINITY else most
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))
    sandbox = SandboxSettings(tick_interval=0.0, limits=False, max_connections=2000)
    async with running(tmp_path, sandbox=sandbox) as world:
        world.app.pool._max, world.app.pool._max_per_key = 1100, None
        before = resident()
        clients: list[RawClient] = []
        for _ in range(20):
            clients += await asyncio.gather(*(world.client(CARL) for _ in range(50)))
        grown = resident() - before  # both ends of every connection, and OpenD's
        assert grown < 200 * 1024 * 1024
        assert world.sandbox.connections == 1001
        started = time.monotonic()
        await world.assert_serves()
        assert time.monotonic() - started < 2


async def test_more_clients_than_opend_takes_connections_are_told_so_and_may_come_back(tmp_path: Path) -> None:
    async with running(tmp_path, upstream=Upstream(max_connections=12, connect_timeout=2.0)) as world:
        inside = [await world.client(CARL) for _ in range(6)]
        await (await world.client()).init(CARL)
        late = await world.client()
        answer = await late.init(CARL)
        assert answer.ret_type == -1
        assert answer.text.startswith("[sidecar:upstream_full]")
        assert "upstream.max_connections" in answer.text
        for client in inside:
            assert (await client.ask(1002, global_state())).ret_type == 0
        await inside[0].close()
        await world.until(lambda: world.app.pool.count < 8)  # those, the house's, and four kept for cancels
        await world.assert_serves()


async def test_one_key_cannot_take_every_connection_from_the_others(tmp_path: Path) -> None:
    async with running(
        tmp_path, upstream=Upstream(max_connections=20, max_connections_per_key=10, connect_timeout=2.0)
    ) as world:
        for _ in range(20):
            await (await world.client()).init(CARL)
        owner = await world.client()
        assert (await owner.init(ALICE)).ret_type == 0


async def test_strangers_cannot_take_every_place_from_clients_with_a_key(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(max_clients=20)) as world:
        for _ in range(25):
            stranger = await world.client()
            stranger.send(1001, init_request(NOBODY), serial=1)
        await asyncio.sleep(0.2)
        client = await world.client(CARL)
        assert (await client.ask(1002, global_state())).ret_type == 0


async def test_an_opend_that_does_not_answer_init_connect_is_reported_in_time(tmp_path: Path) -> None:
    async with running(tmp_path, upstream=Upstream(connect_timeout=1.0)) as world:
        silent = await asyncio.start_server(lambda *_: asyncio.sleep(30), "127.0.0.1", 0)
        world.app.pool._port = silent.sockets[0].getsockname()[1]
        client = await world.client()
        started = time.monotonic()
        answer = await client.init(CARL)
        assert time.monotonic() - started < 3
        assert answer.ret_type == -1
        assert answer.text.startswith("[sidecar:upstream_unavailable]")
        assert world.app.pool.count == 1
        silent.close()


async def test_clients_that_leave_in_the_middle_of_init_connect_leave_nothing_behind(tmp_path: Path) -> None:
    async with running(
        tmp_path, sandbox=SandboxSettings(tick_interval=0.0, limits=False, max_connections=500)
    ) as world:
        for _ in range(100):
            client = await world.client()
            client.send(1001, init_request(CARL), serial=1)
            client.writer.transport.abort()
        await world.until(lambda: world.app.pool.count == 1 and not world.app.doors.named[0][1].clients)
        await world.assert_serves()
        assert len(world.app.tasks) < 5


async def test_clients_refused_while_opend_is_away_do_not_pile_up(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(handshake_timeout=1.0), quarantine=1.0) as world:
        await world.sandbox.stop()
        await world.until(lambda: not world.app.house.up)
        for _ in range(MAX_PARKED + 30):
            client = await world.client()
            assert (await client.init(CARL)).text.startswith("[sidecar:upstream_unavailable]")
        await world.until(lambda: len(world.app.doors.named[0][1].clients) <= MAX_PARKED)
        await world.sandbox.start()
        await world.until(lambda: world.app.house.up, timeout=10)


# -- large -------------------------------------------------------------------------------------------------------------


async def test_orders_pipelined_behind_a_slow_one_are_bounded_and_each_is_answered(tmp_path: Path) -> None:
    sandbox = SandboxSettings(tick_interval=0.0, limits=False, delays={3202: 1.5})
    async with running(tmp_path, sandbox=sandbox) as world:
        client, other = await world.client(ALICE), await world.client(CARL)
        before = resident()
        count = 6000
        data = b"".join(
            frame.build(2202, 1000 + n, client.order(price=300 + n % 5).SerializeToString()) for n in range(count)
        )
        client.send_bytes(data)
        assert (await other.ask(1002, global_state())).ret_type == 0
        waiting = world.app.doors.named[0][1].clients
        await asyncio.sleep(0.5)
        longest = max(len(each._relay._waiting or ()) for each in waiting if each._relay is not None)
        assert longest < 4000
        answers = [await client.answer_to(2202, 1000 + n, timeout=60) for n in range(count)]
        assert sum(answer.ret_type == 0 for answer in answers) == 6
        assert resident() - before < 100 * 1024 * 1024


async def test_requests_that_opend_never_answers_do_not_pile_up_without_bound(tmp_path: Path) -> None:
    sandbox = SandboxSettings(tick_interval=0.0, limits=False, faults=(Fault(FaultKind.SILENT, 1002),))
    async with running(tmp_path, sandbox=sandbox) as world:
        for fmt, body in ((0, global_state().SerializeToString()), (JSON, b'{"c2s":{"userID":"0"}}')):
            client = await world.client(CARL)
            sending = asyncio.ensure_future(
                _pour(client, b"".join(frame.build(1002, n, body, fmt=fmt) for n in range(2, 4002)))
            )
            await asyncio.sleep(3)
            sending.cancel()
            pending = max(
                len(each._relay._pending) for each in world.app.doors.named[0][1].clients if each._relay is not None
            )
            assert pending < 12_000, (fmt, pending)
            await client.close()
            await asyncio.sleep(0.1)


async def _pour(client: RawClient, data: bytes) -> None:
    for _ in range(20):
        client.send_bytes(data)
        await client.writer.drain()


def _deep(depth: int) -> bytes:
    return b'{"c2s":' * depth + b"1" + b"}" * depth


def _wide(count: int) -> bytes:
    return b'{"c2s":{"securityList":[' + b",".join([b'{"market":1,"code":"00700"}'] * count) + b"]}}"


def _many_accounts() -> bytes:
    request: Any = message_class("Trd_SubAccPush.Request")()
    request.c2s.accIDList.extend(range(1_000_000))
    body: bytes = request.SerializeToString()
    return body


def _many_securities() -> bytes:
    request: Any = about_account(2223)
    for _ in range(200_000):
        security = request.c2s.securityList.add()
        security.market, security.code = 1, "00700"
    body: bytes = request.SerializeToString()
    return body


def _many_codes() -> bytes:
    request: Any = about_account(2201)
    request.c2s.filterConditions.codeList.extend(["00700"] * 400_000)
    body: bytes = request.SerializeToString()
    return body


@pytest.mark.parametrize(
    ("key", "proto_id", "fmt", "make"),
    [
        (NOBODY, 1001, JSON, lambda: _wide(140_000)),
        (CARL, 3203, JSON, lambda: _wide(140_000)),
        (CARL, 3203, JSON, lambda: _deep(300_000)),
        (CARL, 1002, JSON, lambda: b'{"c2s":{"userID":"0"},' + b",".join(b'"a%d":0' % n for n in range(300_000)) + b"}"),
        (BOB, 2008, 0, _many_accounts),
        (DORA, 2223, 0, _many_securities),
        (DORA, 2201, 0, _many_codes),
        (BOB, 2202, 0, lambda: b"\x0a\xff\xff\xff\x01" + bytes(4_194_303)),
    ],
    ids=["stranger", "wide json", "deep json", "many names", "many accounts", "many securities", "many codes", "nonsense"],
)  # fmt: skip
async def test_no_single_request_makes_everybody_wait(
    world: World, key: str, proto_id: int, fmt: int, make: Any
) -> None:
    other = await world.client(CARL)
    client = await world.client(None if proto_id == 1001 else key)
    body = make()
    assert len(body) < 4 * 1024 * 1024 + 10
    data = raw_frame(proto_id, 200, body, fmt=fmt)
    measuring = asyncio.ensure_future(slowest_answer(other, 2.0))
    await asyncio.sleep(0.2)
    client.send_bytes(data)
    worst = await measuring
    assert worst < 0.35, f"everybody waited {worst:.2f} s"


@pytest.mark.parametrize("which", ["cancel", "order", "read"])
async def test_requests_by_the_thousand_that_are_refused_here_do_not_make_everybody_wait(
    world: World, which: str
) -> None:
    other, client = await world.client(CARL), await world.client(ALICE)
    number, request = {
        "cancel": (2205, change(1, 1, order_id=5)), "order": (2202, order(price=9_999)), "read": (2102, about_account(2102)),
    }[which]  # fmt: skip
    body = request.SerializeToString()
    data = b"".join(frame.build(number, serial, body) for serial in range(200, 10_200))
    measuring = asyncio.ensure_future(slowest_answer(other, 3.0))
    await asyncio.sleep(0.2)
    client.send_bytes(data)
    worst = await measuring
    assert worst < 0.35, f"everybody waited {worst:.2f} s"
    for serial in (200, 201, 5_000, 10_199):
        assert (await client.answer_to(number, serial, timeout=30)).ret_type == -1


async def test_strangers_cannot_make_the_sidecar_keep_megabytes(world: World) -> None:
    before = resident()
    clients = [await world.client() for _ in range(60)]
    for client in clients:
        client.send_bytes(raw_frame(1001, 1, b"x" * 1000, length=4 * 1024 * 1024 - 100) + b"x" * (1 << 20))
    await asyncio.sleep(0.5)
    assert resident() - before < 80 * 1024 * 1024  # this side's own buffers among it
    buffered = sum(each._reader.buffered for each in world.app.doors.named[0][1].clients)
    assert buffered < 60 * 20_000


async def test_a_storm_of_reconnecting_clients_leaves_nothing_behind(world: World) -> None:
    async def once() -> None:
        client = await world.client()
        try:
            await client.init(CARL)
            client.send(1004, keep_alive())
        finally:
            await client.close()

    for _ in range(20):
        await asyncio.gather(*(once() for _ in range(20)), return_exceptions=True)
    await world.until(lambda: world.app.pool.count == 1 and not world.app.doors.named[0][1].clients)
    await world.assert_serves()
    assert HK_PAPER in world.sandbox.accounts


async def test_a_connection_whose_key_stays_revoked_gives_its_place_at_opend_back(tmp_path: Path) -> None:
    slow = Upstream(connect_timeout=2.0, request_timeout=1.0)
    async with running(tmp_path, upstream=slow, quarantine=1.0) as world:
        client = await world.client(CARL)
        write_keys(tmp_path / "keys.json", tuple(record for record in KEYS if record["id"] != "carl"))
        world.app.rereading.reload()
        assert (await client.ask(1002, global_state())).text.startswith("[sidecar:key_revoked]")
        await world.until(lambda: world.app.pool.count == 1, timeout=8)
