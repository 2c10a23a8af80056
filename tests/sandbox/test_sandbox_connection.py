from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from sandbox_client import REAL, STILL, RawClient, security

from sidecar.errors import ConfigError
from sidecar.sandbox import Fault, FaultKind, Sandbox, SandboxSettings
from sidecar.wire.encryption import RsaKey
from sidecar.wire.frame import JSON, PROTOBUF
from sidecar.wire.messages import module


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "rsa.pem"
    path.write_bytes(RsaKey.generate_pem())
    return path


async def test_init_connect_gives_a_connection_id_and_a_heartbeat_of_ten_seconds(sandbox: Sandbox) -> None:
    async with RawClient(sandbox.port) as client:
        answer = await client.connect(client_id="somebody")
        assert answer.retType == 0
        assert answer.s2c.connID > 0
        assert answer.s2c.keepAliveInterval == 10
        assert len(answer.s2c.connAESKey) == 16
        assert not answer.s2c.HasField("aesCBCiv")
    assert sandbox.received[0].client_id == "somebody"


async def test_anything_before_init_connect_is_refused_and_the_connection_closed(sandbox: Sandbox) -> None:
    async with RawClient(sandbox.port) as client:
        serial = client.send(1002, client.request(1002, userID=1))
        answer = await client.reply(1002, serial)
        assert answer.retType == -1
        assert "InitConnect" in answer.retMsg
        assert await client.closed()


async def test_a_second_init_connect_is_refused(client: RawClient) -> None:
    request = module("InitConnect").Request()
    request.c2s.clientVer, request.c2s.clientID = 300, "again"
    assert (await client.reply(1001, client.send(1001, request))).retType == -1


@pytest.mark.parametrize("algorithm", [None, 0, 1, 2])
@pytest.mark.parametrize("fmt", [PROTOBUF, JSON])
async def test_every_encryption_and_body_format_carries_requests_and_pushes(
    key_file: Path, algorithm: int | None, fmt: int
) -> None:
    rsa = RsaKey.load(key_file)
    async with Sandbox(replace(STILL, rsa_key=str(key_file))) as sandbox, RawClient(sandbox.port, fmt) as client:
        await client.connect(rsa=rsa, algorithm=algorithm, push_fmt=fmt)
        assert client.cipher is not None
        answer = await client.ask(1002, userID=0)
        assert answer.s2c.connID == client.conn_id
        await client.ask(
            3001, securityList=[security("00700")], subTypeList=[1], isSubOrUnSub=True, isRegOrUnRegPush=True
        )
        push = await client.push(3005)
        assert push.s2c.basicQotList[0].security.code == "00700"
        answer = await client.ask(3004, securityList=[security("00700")])
        assert answer.s2c.basicQotList[0].curPrice > 0


async def test_an_encrypted_init_connect_that_asks_for_no_encryption_goes_on_in_clear(key_file: Path) -> None:
    async with Sandbox(replace(STILL, rsa_key=str(key_file))) as sandbox, RawClient(sandbox.port) as client:
        await client.connect(rsa=RsaKey.load(key_file), algorithm=-1)
        assert (await client.ask(1002, userID=0)).retType == 0


async def test_an_init_connect_under_another_key_closes_the_connection(key_file: Path) -> None:
    other = RsaKey.from_pem(RsaKey.generate_pem())
    async with Sandbox(replace(STILL, rsa_key=str(key_file))) as sandbox, RawClient(sandbox.port) as client:
        with pytest.raises(ConnectionResetError):
            await client.connect(rsa=other, algorithm=2)


async def test_a_serial_that_does_not_rise_is_refused_and_the_next_good_one_is_not(client: RawClient) -> None:
    request = client.request(1002, userID=0)
    assert (await client.reply(1002, client.send(1002, request, serial=5000))).retType == 0
    for serial in (5000, 4999):
        answer = await client.reply(1002, client.send(1002, request, serial=serial))
        assert answer.retType == -1
        assert "5000" in answer.retMsg
    assert (await client.reply(1002, client.send(1002, request, serial=5001))).retType == 0


async def test_a_wrong_digest_is_refused(client: RawClient) -> None:
    plain = client.request(1002, userID=0).SerializeToString()
    answer = await client.reply(1002, client.send_raw(1002, plain, sha=bytes(20)))
    assert answer.retType == -1
    assert "SHA-1" in answer.retMsg


async def test_bytes_that_are_no_frame_end_the_connection(client: RawClient) -> None:
    client.writer.write(b"GET / HTTP/1.1\r\n\r\n" * 4)
    assert await client.closed()


async def test_what_is_known_but_not_imitated_gets_an_honest_error(client: RawClient) -> None:
    answer = await client.ask(3211, security=security("00700"), periodType=1)
    assert (answer.retType, answer.retMsg) == (-1, "not supported by the sandbox")


async def test_an_unknown_proto_id_gets_an_honest_error(client: RawClient) -> None:
    answer = await client.reply(9999, client.send_raw(9999, b"whatever"))
    assert answer.retType == -1
    assert "9999" in answer.retMsg


@pytest.mark.parametrize("settings", [replace(STILL, max_connections=2)])
async def test_one_connection_too_many_is_closed(sandbox: Sandbox) -> None:
    async with RawClient(sandbox.port) as first, RawClient(sandbox.port) as second, RawClient(sandbox.port) as third:
        await first.connect()
        await second.connect()
        assert await third.closed()
        assert sandbox.connections == 2


async def test_stopping_closes_everything_and_starting_takes_the_same_port_with_the_same_orders(
    sandbox: Sandbox,
) -> None:
    async with RawClient(sandbox.port) as client:
        await client.connect()
        placed = await client.order()
        port = sandbox.port
        await sandbox.stop()
        assert await client.closed()
    with pytest.raises(ConnectionRefusedError):
        await RawClient(port).open()
    await sandbox.start()
    assert sandbox.port == port
    async with RawClient(port) as client:
        await client.connect()
        assert [order.orderIDEx for order in await client.orders()] == [placed.s2c.orderIDEx]


async def test_a_taken_port_is_one_clear_error(sandbox: Sandbox) -> None:
    second = Sandbox(replace(STILL, port=sandbox.port))
    with pytest.raises(ConfigError, match=rf"`127.0.0.1:{sandbox.port}`: the port is in use; .*--port"):
        await second.start()


@pytest.mark.parametrize("settings", [replace(STILL, delays={3203: 0.2}, faults=(Fault(FaultKind.SILENT, 3202),))])
async def test_replies_can_be_delayed_and_left_out(sandbox: Sandbox, client: RawClient) -> None:
    loop = asyncio.get_running_loop()
    client.send(3202, client.request(3202, securityList=[security("00700")]))
    slow = client.send(3203, client.request(3203, securityList=[security("00700")]))
    begin = loop.time()
    assert (await client.ask(1002, userID=0)).retType == 0
    assert loop.time() - begin < 0.15
    assert (await client.reply(3203, slow)).retType == 0
    assert loop.time() - begin > 0.15
    assert 3202 not in client.arrived


async def test_everything_received_is_a_line_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "received.jsonl"
    async with Sandbox(replace(STILL, log=str(path), unlocked=True)) as sandbox, RawClient(sandbox.port) as client:
        await client.connect(client_id="logged")
        await client.order(REAL, remark="note")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["event"] == "connect"
    order = next(line for line in lines if line.get("proto_id") == 2202)
    assert order["client_id"] == "logged"
    assert order["conn"] == client.conn_id
    assert order["c2s"]["code"] == "00700"
    assert order["c2s"]["header"]["accID"] == REAL
    assert order["c2s"]["remark"] == "note"
    assert json.loads(path.read_text().splitlines()[-1])["event"] == "disconnect"
    assert sandbox.received.of(2202)[0].c2s == order["c2s"]


def test_the_defaults_are_opend_s_own_port_and_limits() -> None:
    defaults = SandboxSettings()
    assert (defaults.port, defaults.max_connections, defaults.limits) == (11111, 128, True)
