"""What is said over a WebSocket, in both framings: logins, requests, and messages that are none."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from hashlib import md5
from typing import Any

import pytest
from live import eventually
from websocket_client import LOGIN, REQUEST, SIGN, FrameClient, JsClient, code_of, global_state
from websocket_world import REQUEST_BODY, World

from sidecar.wire.frame import HEADER_SIZE, JSON, build
from sidecar.wire.messages import message_class
from sidecar.wire.ws_frame import LoginRequest, read_frame

WRONG = "fc_" + "0" * 64
STATE = 1002


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("messages")) as made:
        yield made


async def alive(client: FrameClient | JsClient) -> bool:
    return bool((await client.ask(STATE, global_state())).retType == 0)


# -- OpenD's frames ----------------------------------------------------------------------------------------------------


async def test_init_connect_is_answered_with_opends_connection(world: World) -> None:
    async with world.frames(world.bot) as client:
        reply = await client.introduce()
        assert (reply.retType, reply.s2c.keepAliveInterval, len(reply.s2c.connAESKey)) == (0, 10, 16)
        assert not reply.s2c.HasField("aesCBCiv")
        assert (await client.ask(STATE, global_state())).s2c.connID == client.conn_id
        assert {one.client_id for one in world.opend.received(1001)} == {"opend-sidecar"}


async def test_init_connect_may_be_left_out_and_keep_alive_is_passed_on(world: World) -> None:
    async with world.frames(world.bot) as client:
        assert await alive(client)
        request: Any = message_class("KeepAlive.Request")()
        request.c2s.time = 1
        before = len(world.opend.received(1004))
        assert (await client.ask(1004, request)).retType == 0
        assert len(world.opend.received(1004)) == before + 1


async def test_a_second_init_connect_is_not_a_request(world: World) -> None:
    async with world.frames(world.bot) as client:
        await client.introduce()
        assert code_of(await client.introduce()) == "unknown_request"
        assert await alive(client)


async def test_the_key_in_init_connect_must_be_the_one_shown_before(world: World) -> None:
    async with world.frames(world.bot) as client:
        assert (await client.introduce(world.bot)).retType == 0
    for other in (WRONG, world.reader, "FC_" + world.bot[3:], f" {world.bot}"):
        async with world.frames(world.bot) as client:
            assert code_of(await client.introduce(other)) == "key_unknown"
            assert (await client.ended()).code == 1008
    assert world.bot not in world.car.log_text() + str(world.car.audit())


async def test_without_a_key_the_first_frame_is_refused_and_the_last(world: World) -> None:
    for request in (global_state(), None):
        async with world.frames() as client:
            reply = await (client.introduce(world.bot) if request is None else client.ask(STATE, request))
            assert code_of(reply) == "key_missing"
            assert "Authorization: Bearer" in reply.retMsg
            assert (await client.ended()).code == 1008


async def test_json_bodies_work_as_on_tcp(world: World) -> None:
    async with world.frames(world.bot) as client:
        for serial, proto_id, tree in (
            (
                1,
                1001,
                {"clientVer": 300, "clientID": "json", "recvNotify": True, "packetEncAlgo": -1, "pushProtoFmt": 1},
            ),
            (2, STATE, {"userID": "0"}),
        ):
            await client.raw(build(proto_id, serial, json.dumps({"c2s": tree}).encode(), fmt=JSON))
            message = await client.read()
            head = read_frame(message, REQUEST_BODY)
            assert (head.proto_id, head.serial, head.fmt) == (proto_id, serial, JSON)
            assert json.loads(message[HEADER_SIZE:])["retType"] == 0


async def test_an_encrypted_init_connect_is_refused_in_clear(world: World) -> None:
    frame = build(1001, 1, b"plaintext nobody sees", ciphertext=bytes(128))
    async with world.frames(world.bot) as client:
        await client.raw(frame)
        reply = await client.answer(1)
        assert code_of(reply) == "malformed_request"
        assert "RSA" in reply.retMsg


# -- the JavaScript SDK's login ----------------------------------------------------------------------------------------


async def test_the_login_answers_time_and_opends_connection_id(world: World) -> None:
    async with world.js() as client:
        reply = await client.login(world.bot)
        assert (reply.retType, client.errors[2]) == (0, (0, ""))
        assert reply.s2c.serverTime > 1_700_000_000
        assert (await client.ask(STATE, global_state())).s2c.connID == reply.s2c.connID


async def test_a_login_in_capital_letters_is_the_same_key(world: World) -> None:
    async with world.js() as client:
        assert (await client.login(None, md5=md5(world.bot.encode()).hexdigest().upper())).retType == 0


async def test_a_record_without_ws_hash_is_told_what_to_do(world: World) -> None:
    key = world.keys.add("no-md5", "qot:read")
    world.car.wait_keys()
    async with world.js() as client:
        reply = await client.login(key)
        assert code_of(reply) == "key_unknown"
        assert "has no `ws_hash`" in reply.retMsg
        assert "make a new one" in reply.retMsg
        assert client.errors[2] == (401, "key_unknown")
        assert (await client.ended()).code == 1008


@pytest.mark.parametrize("shown", ["", "0" * 32, "not hex at all", "0" * 10_000])
async def test_a_login_with_a_wrong_key_is_refused_in_header_and_body(world: World, shown: str) -> None:
    async with world.js() as client:
        reply = await client.login(None, md5=shown)
        assert code_of(reply) == ("key_unknown" if shown else "key_missing")
        assert client.errors[2][0] == 401
        assert (await client.ended()).code == 1008


async def test_a_key_shown_before_is_the_one_of_a_login_without(world: World) -> None:
    async with world.js(key=world.bot) as client:
        assert (await client.login(None)).retType == 0
    async with world.js(token=world.bot) as client:
        assert (await client.login(world.bot)).retType == 0


async def test_a_login_with_another_key_than_the_one_shown_before_is_refused(world: World) -> None:
    for other in (world.reader, WRONG):
        async with world.js(key=world.bot) as client:
            assert code_of(await client.login(other)) == "key_unknown"
            assert (await client.ended()).code == 1008


async def test_a_key_without_ws_hash_may_be_shown_before(world: World) -> None:
    key = world.keys.add("upgrade-only", "qot:read")
    world.car.wait_keys()
    async with world.js(key=key) as client:
        assert (await client.login(None)).retType == 0


async def test_where_to_connect_is_not_the_clients_to_say(world: World) -> None:
    request: Any = LoginRequest()
    request.c2s.websocketKey = ""
    where = b"\x0a\x09127.0.0.1" + b"\x10\x01" + b"\x1a\x03rsa"
    login = b"\x0a" + bytes([len(where)]) + where
    async with world.js(key=world.bot) as client:
        await client.raw(REQUEST.pack(SIGN, LOGIN, 77) + login)
        assert (await client.answer(77)).retType == 0
        assert await alive(client)


async def test_before_the_login_nothing_else_is_heard(world: World) -> None:
    before = len(world.opend.asked_by_clients())
    for how in ({}, {"key": world.bot}):
        async with world.js(**how) as client:
            assert code_of(await client.ask(STATE, global_state())) == "key_missing"
            assert (await client.ended()).code == 1008
    assert world.nothing_new_upstream(before)


async def test_commands_that_are_no_requests_are_refused(world: World) -> None:
    async with world.js() as client:
        await client.login(world.bot)
        for command in (LOGIN, 2, 1001, 2208, 4_000_000_000):
            assert code_of(await client.ask(command, LoginRequest())) == "unknown_request"
        assert await alive(client)


async def test_a_login_that_is_no_protobuf_is_malformed(world: World) -> None:
    async with world.js() as client:
        await client.raw(REQUEST.pack(SIGN, LOGIN, 5) + b"\xff\xff\xff")
        assert code_of(await client.answer(5)) == "malformed_request"
        assert client.errors[5] == (400, "malformed_request")


# -- messages that are none --------------------------------------------------------------------------------------------


@pytest.fixture
async def frames(world: World) -> Any:
    async with world.frames(world.bot) as client:
        await client.introduce()
        yield client


@pytest.fixture
async def js(world: World) -> Any:
    async with world.js() as client:
        await client.login(world.bot)
        yield client


@pytest.mark.parametrize("cut", [-1, HEADER_SIZE], ids=["a byte too few", "a header alone"])
async def test_half_a_frame_is_answered_and_the_next_is_heard(world: World, frames: FrameClient, cut: int) -> None:
    before = len(world.opend.asked_by_clients())
    await frames.raw(build(STATE, 50, b"\x0a\x02\x08\x00")[:cut])
    reply = await frames.answer(50)
    assert code_of(reply) == "malformed_request"
    assert "exactly one frame" in reply.retMsg
    assert world.nothing_new_upstream(before)
    assert await alive(frames)


async def test_two_frames_in_a_message_are_answered_and_neither_is_passed_on(world: World, frames: FrameClient) -> None:
    before = len(world.opend.asked_by_clients())
    await frames.raw(build(STATE, 50, b"\x0a\x02\x08\x00") + build(STATE, 51, b"\x0a\x02\x08\x00"))
    assert code_of(await frames.answer(50)) == "malformed_request"
    assert world.nothing_new_upstream(before)
    world.car.wait_audit(
        iface="ws", key_id="bot", reason="malformed_request", endpoint="get_global_state proto_id=1002"
    )
    assert await alive(frames)


async def test_a_changed_body_is_answered(frames: FrameClient) -> None:
    await frames.raw(build(STATE, 50, b"\x0a\x02\x08\x00")[:-1] + b"\x01")
    reply = await frames.answer(50)
    assert (code_of(reply), "SHA-1" in reply.retMsg) == ("malformed_request", True)


async def test_a_request_that_is_not_its_ids_message_is_answered(world: World, js: JsClient) -> None:
    before = len(world.opend.orders())
    await js.raw(REQUEST.pack(SIGN, 2202, 50) + b"\xff\xff\xff")
    assert code_of(await js.answer(50)) == "malformed_request"
    await js.raw(REQUEST.pack(SIGN, 2202, 51))
    assert code_of(await js.answer(51)) == "malformed_request"
    assert len(world.opend.orders()) == before


async def test_a_text_message_ends_the_connection_and_says_why(world: World, frames: FrameClient, js: JsClient) -> None:
    for client in (frames, js):
        await client.socket.send_str('{"proto": 2202}')
        end = await client.ended()
        assert end.code == 1003
        assert end.reason.startswith("[sidecar:malformed_request] a text message")
    world.car.wait_audit(iface="ws", key_id="bot", reason="malformed_request")


@pytest.mark.parametrize("noise", [b"", b"F", b"FT", b"ft-v1.0\0", b"\0" * 100, b'{"proto": 2202}'])
async def test_a_message_without_a_header_ends_the_connection_and_says_why(
    frames: FrameClient, js: JsClient, noise: bytes
) -> None:
    for client in (frames, js):
        await client.raw(noise)
        end = await client.ended()
        assert end.code == 1002
        assert end.reason.startswith("[sidecar:malformed_request] a ")


async def test_the_other_framing_is_no_message_of_this_one(frames: FrameClient, js: JsClient) -> None:
    await frames.raw(REQUEST.pack(SIGN, STATE, 3) + b"\x0a\x02\x08\x00")
    await js.raw(build(STATE, 3, b"\x0a\x02\x08\x00"))
    assert [(await client.ended()).code for client in (frames, js)] == [1002, 1002]


async def test_a_frame_that_promises_too_much_is_too_large(frames: FrameClient) -> None:
    one = build(STATE, 50, b"")
    await frames.raw(one[:12] + (REQUEST_BODY + 1).to_bytes(4, "little") + one[16:])
    assert code_of(await frames.answer(50)) == "body_too_large"
    assert await alive(frames)


async def test_a_message_that_is_too_long_ends_its_connection_and_no_other(
    world: World, frames: FrameClient, js: JsClient
) -> None:
    await frames.raw(build(STATE, 50, bytes(REQUEST_BODY + 1)))
    assert (await frames.ended()).code == 1009
    world.car.wait_audit(iface="ws", key_id="bot", reason="body_too_large")
    assert await alive(js)


async def test_the_longest_body_is_taken(js: JsClient) -> None:
    """No request is that long; it is refused for what it is."""
    await js.raw(REQUEST.pack(SIGN, 2202, 50) + b"\xff" * REQUEST_BODY)
    assert code_of(await js.answer(50)) == "malformed_request"
    await js.raw(REQUEST.pack(SIGN, 2202, 51) + b"\xff" * (REQUEST_BODY + 1))
    assert code_of(await js.answer(51)) == "body_too_large"
    assert await alive(js)


async def test_an_order_is_judged_in_both_framings(world: World, frames: FrameClient, js: JsClient) -> None:
    for client in (frames, js):
        taken = await client.ask(2202, client.order_request(price=300))
        assert taken.retType == 0, taken.retMsg
        refused = await client.ask(2202, client.order_request(price=300, qty=400))
        assert code_of(refused) == "order_value"
        assert "order value 120000 HKD is over the limit of 100000 HKD" in refused.retMsg
        cancelled = await client.ask(2205, client.cancel_request(taken.s2c.orderIDEx))
        assert cancelled.retType == 0, cancelled.retMsg
    wanted = {"iface": "ws", "endpoint": "place_order proto_id=2202", "reason": "order_value"}
    eventually(lambda: len(world.car.audit(**wanted)) == 2)


async def test_a_scope_that_is_missing_is_named(world: World) -> None:
    async with world.js() as client:
        await client.login(world.reader)
        reply = await client.ask(2202, client.order_request())
        assert code_of(reply) == "scope"
        assert "this key has qot:read" in reply.retMsg


@pytest.mark.parametrize("framing", ["frames", "js"])
async def test_no_messages_harm_anybody_or_reach_opend(world: World, framing: str) -> None:
    """Random ones, and good ones with something changed. Of the latter only those may pass that still are requests."""
    chance = random.Random(20_251)  # the same on every run
    witness = await world.frames(world.bot).__aenter__()
    assert await alive(witness)
    before = len(world.opend.orders())
    good = {
        "frames": [build(2202, 3, witness.order_request().SerializeToString()), build(STATE, 3, b"\x0a\x02\x08\x00")],
        "js": [REQUEST.pack(SIGN, 2202, 3) + witness.order_request().SerializeToString(), REQUEST.pack(SIGN, STATE, 3)],
    }[framing]
    for _ in range(40):
        client = world.frames(world.reader) if framing == "frames" else world.js(key=world.reader)
        async with client:
            await (client.introduce() if isinstance(client, FrameClient) else client.login(None))
            for _ in range(chance.randint(1, 6)):
                message = bytearray(chance.choice(good))
                for _ in range(chance.randint(0, 4)):
                    message[chance.randrange(len(message))] = chance.randrange(256)
                kept = len(message) if chance.random() < 0.7 else chance.randrange(len(message))
                await client.raw(bytes(message[:kept]) + chance.randbytes(chance.choice([0, 0, 0, 1, 50])))
    assert await alive(witness)
    assert len(world.opend.orders()) == before, "this key may not trade, whatever it says"
    await witness.__aexit__()


async def test_bytes_that_are_no_websocket_harm_nobody(world: World) -> None:
    chance = random.Random(44_444)
    for _ in range(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
        head = (
            f"GET /?token={world.bot} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n\r\n"
        )
        writer.write(head.encode())
        assert b" 101 " in await reader.readline()
        writer.write(chance.randbytes(chance.randint(1, 400)))
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert await works(world)


async def works(world: World) -> bool:
    async with world.frames(world.bot) as client:
        return await alive(client)


async def test_no_error_of_a_client_is_one_of_the_sidecar(world: World) -> None:
    """The last of this module: what the tests above sent has left no traceback."""
    assert "Traceback" not in world.car.log_text()
    assert not [line for line in world.car.log() if line.get("level") == "error"]
