"""Bytes that are not what they should be: each gets a clear answer or a clean close, and nothing of it reaches OpenD."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from faults_world import (
    ALICE,
    CARL,
    NOBODY,
    Closed,
    World,
    change,
    global_state,
    init_request,
    keep_alive,
    order,
    raw_frame,
)

from sidecar.wire import frame
from sidecar.wire.frame import JSON


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(60), b"\0", b"F" + bytes(80), os.urandom(4096)]
)
async def test_garbage_before_the_handshake_closes_the_connection(world: World, garbage: bytes) -> None:
    before = len(world.sandbox.received)
    client = await world.client()
    client.send_bytes(garbage)
    if garbage == b"\0":  # two bytes are needed to see that it is no frame
        client.send_bytes(b"\0")
    assert await client.ended()
    assert len(world.sandbox.received) == before
    await world.assert_serves()


async def test_garbage_after_the_handshake_closes_the_connection_and_no_other(world: World) -> None:
    other = await world.client(CARL)
    client = await world.client(ALICE)
    client.send_bytes(raw_frame(2202, 7, b"x", magic=b"TF"))
    assert await client.ended()
    assert (await other.ask(1002, global_state())).ret_type == 0
    assert not world.orders_received()


async def test_a_body_over_the_cap_is_answered_and_the_connection_closed(world: World) -> None:
    client = await world.client(ALICE)
    client.send_bytes(raw_frame(2202, 7, b"", length=0x7FFF_FFFF))
    answer = await client.receive()
    assert (answer.proto_id, answer.serial, answer.ret_type) == (2202, 7, -1)
    assert answer.text.startswith("[sidecar:body_too_large]")
    assert await client.ended()
    assert not world.orders_received()


async def test_orders_before_a_broken_frame_are_judged_and_nothing_after_it(world: World) -> None:
    client = await world.client(CARL)
    first = frame.build(1002, 200, global_state().SerializeToString())
    client.send_bytes(first + b"garbage" * 20 + frame.build(1002, 201, global_state().SerializeToString()))
    await client.ended()
    await asyncio.sleep(0.1)
    assert [record.serial for record in world.sandbox.received.of(1002)] in ([], [200])


@pytest.mark.parametrize("proto_id", [1002, 2202, 1004])
async def test_a_wrong_sha1_is_refused(world: World, proto_id: int) -> None:
    client = await world.client(ALICE)
    before = len(world.sandbox.received)
    body = (
        client.order() if proto_id == 2202 else global_state() if proto_id == 1002 else keep_alive()
    ).SerializeToString()
    client.send_bytes(raw_frame(proto_id, 500, body, digest=bytes(20)))
    answer = await client.answer_to(proto_id, 500)
    assert answer.ret_type == -1
    assert answer.text.startswith("[sidecar:malformed_request]")
    assert "SHA-1" in answer.text
    assert len(world.sandbox.received) == before


@pytest.mark.parametrize("body", [b"", b"\xff" * 30, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\x08", b"{}"])
async def test_an_order_that_does_not_parse_is_refused(world: World, body: bytes) -> None:
    client = await world.client(ALICE)
    answer = await client.ask(2202, body)
    assert answer.ret_type == -1
    assert answer.text.startswith("[sidecar:malformed_request]")
    assert not world.orders_received()


@pytest.mark.parametrize("fmt", [2, 7, 255])
async def test_a_body_format_that_does_not_exist_is_refused_in_protobuf(world: World, fmt: int) -> None:
    client = await world.client(ALICE)
    client.send_bytes(raw_frame(2202, 300, client.order().SerializeToString(), fmt=fmt))
    answer = await client.answer_to(2202, 300)
    assert (answer.fmt, answer.ret_type) == (0, -1)
    assert "[sidecar:malformed_request]" in answer.text
    assert not world.orders_received()


async def test_an_init_connect_in_a_format_that_does_not_exist_is_refused(world: World) -> None:
    client = await world.client()
    client.send_bytes(raw_frame(1001, 1, init_request(ALICE).SerializeToString(), fmt=7))
    answer = await client.receive()
    assert (answer.proto_id, answer.ret_type) == (1001, -1)
    assert await client.ended()


@pytest.mark.parametrize("proto_id", [0, 1, 2, 999, 1003, 2208, 2218, 3005, 4_294_967_295])
async def test_an_id_that_is_no_request_is_refused(world: World, proto_id: int) -> None:
    client = await world.client(ALICE)
    before = len(world.sandbox.received)
    client.send_bytes(raw_frame(proto_id, 300, b"\x0a\x00"))
    answer = await client.receive()
    assert (answer.proto_id, answer.serial, answer.ret_type) == (proto_id, 300, -1)
    assert answer.text.startswith("[sidecar:unknown_request]")
    assert len(world.sandbox.received) == before


async def test_a_second_init_connect_is_refused_and_changes_nothing(world: World) -> None:
    client = await world.client(CARL)
    answer = await client.ask(1001, init_request(ALICE))
    assert answer.ret_type == -1
    refused = await client.place()
    assert refused.text.startswith("[sidecar:scope]")
    assert len(world.sandbox.received.of(1001)) == 2  # the house's and the first
    assert not world.orders_received()


@pytest.mark.parametrize("proto_id", [1002, 1004, 2202, 2001, 3005, 77])
async def test_anything_before_init_connect_is_refused_and_closed(world: World, proto_id: int) -> None:
    before = len(world.sandbox.received)
    client = await world.client()
    client.send_bytes(raw_frame(proto_id, 5, order().SerializeToString()))
    answer = await client.receive()
    assert (answer.proto_id, answer.serial, answer.ret_type) == (proto_id, 5, -1)
    assert answer.text.startswith("[sidecar:key_missing]")
    assert await client.ended()
    assert len(world.sandbox.received) == before


async def test_what_is_sent_along_with_init_connect_is_answered(world: World) -> None:
    client = await world.client()
    client.send_bytes(
        frame.build(1001, 1, init_request(CARL).SerializeToString())
        + frame.build(1002, 2, global_state().SerializeToString())
        + frame.build(2202, 3, order().SerializeToString())
    )
    assert (await client.answer_to(1001, 1)).ret_type == 0
    assert (await client.answer_to(1002, 2)).ret_type in (0, -1)
    assert (await client.answer_to(2202, 3)).ret_type == -1
    assert not world.orders_received()


@pytest.mark.parametrize("fmt", [0, JSON])
async def test_a_client_id_that_is_not_text_is_refused(world: World, fmt: int) -> None:
    body = init_request("KEY").SerializeToString().replace(b"KEY", b"\xff\xfe\xfd")
    if fmt == JSON:
        body = b'{"c2s":{"clientVer":300,"clientID":"\xff\xfe"}}'
    client = await world.client()
    client.send_bytes(raw_frame(1001, 1, body, fmt=fmt))
    answer = await client.receive()
    assert (answer.proto_id, answer.ret_type) == (1001, -1)
    assert "malformed_request" in answer.text


async def test_a_programming_language_that_is_not_text_is_refused_or_not_passed_on(world: World) -> None:
    client = await world.client()
    client.send_bytes(
        raw_frame(1001, 1, init_request(CARL).SerializeToString().replace(b"Python", b"P\xff\xfe\xfd\xfcn"))
    )
    answer = await client.receive()
    assert answer.proto_id == 1001


async def test_an_init_connect_without_its_required_fields_is_refused(world: World) -> None:
    client = await world.client()
    client.send_bytes(raw_frame(1001, 1, b"\x0a\x02\x18\x01"))
    answer = await client.receive()
    assert (answer.proto_id, answer.ret_type) == (1001, -1)
    assert "malformed_request" in answer.text


async def test_frames_split_at_every_byte_are_judged_as_if_whole(world: World) -> None:
    client = await world.client(ALICE)
    good = client.order(price=310)
    bad = client.order(price=310, code="00005", market=2)
    data = frame.build(2202, 900, good.SerializeToString()) + frame.build(2202, 901, bad.SerializeToString())
    for index in range(len(data)):
        client.send_bytes(data[index : index + 1])
        if index % 8 == 0:
            await asyncio.sleep(0.001)
    assert (await client.answer_to(2202, 900)).ret_type == 0
    assert (await client.answer_to(2202, 901)).ret_type == -1
    assert [record.serial for record in world.sandbox.received.of(2202)] == [900]


async def test_a_key_that_was_never_made_gets_quarantine_and_nothing_of_it_reaches_opend(world: World) -> None:
    before = len(world.sandbox.received)
    client = await world.client(NOBODY)
    assert client.conn_id
    alive = await client.ask(1004, keep_alive())
    assert alive.ret_type == 0
    requests = [
        (2202, order(conn_id=client.conn_id)), (2205, change(client.conn_id, 9, order_id=1)), (1002, global_state()),
        (1001, init_request(ALICE)),
    ]  # fmt: skip
    for proto_id, request in requests:
        answer = await client.ask(proto_id, request)
        assert answer.ret_type == -1
        assert answer.text.startswith("[sidecar:key_unknown]")
    for proto_id in (0, 3005, 4_000_000_000):
        client.send_bytes(raw_frame(proto_id, 1, b"\xff", fmt=9))
        assert (await client.receive()).proto_id == proto_id
    assert len(world.sandbox.received) == before


async def test_a_quarantined_client_that_sends_garbage_is_closed(world: World) -> None:
    client = await world.client(NOBODY)
    client.send_bytes(b"garbage")
    assert await client.ended()
    with pytest.raises(Closed):
        await client.receive()


async def test_an_answer_to_a_refused_json_request_is_json(world: World) -> None:
    client = await world.client(ALICE)
    answer = await client.ask(2202, b'{"c2s":{}}', fmt=JSON)
    assert answer.fmt == JSON
    assert json.loads(answer.body)["retType"] == -1


@pytest.mark.parametrize("fmt", [2, 7, 148])
async def test_a_format_that_does_not_exist_is_answered_in_protobuf_in_quarantine_too(world: World, fmt: int) -> None:
    client = await world.client(NOBODY)
    for proto_id in (1004, 2202):
        client.send_bytes(raw_frame(proto_id, 9, keep_alive().SerializeToString(), fmt=fmt))
        assert (await client.receive()).fmt == 0
