"""Orders whose contents cannot be meant, or could be read in two ways: refused with a clear answer before OpenD sees anything."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from faults_world import ALICE, BOB, HK_PAPER, REAL, US_PAPER, World, change, order

from sidecar.wire import frame
from sidecar.wire.frame import JSON

INF = float("inf")
NAN = float("nan")


@pytest.mark.parametrize(
    "changes",
    [
        {"qty": 0}, {"qty": -100}, {"qty": NAN}, {"qty": INF}, {"qty": -INF}, {"qty": 1e300}, {"qty": 1e13}, {"qty": -0.0},
        {"price": 0}, {"price": -1}, {"price": NAN}, {"price": INF}, {"price": 1e300}, {"price": None}, {"price": -0.0},
        {"order_type": 2, "price": NAN}, {"order_type": 2, "price": 1e300}, {"auxPrice": NAN}, {"auxPrice": INF},
        {"order_type": 10, "auxPrice": -1.0}, {"trailValue": NAN}, {"trailSpread": INF}, {"adjustSideAndLimit": NAN},
        {"adjustSideAndLimit": 1.0}, {"adjustSideAndLimit": -5.0}, {"amount": 1e9},
        {"order_type": 0}, {"order_type": 3}, {"order_type": 20}, {"order_type": -1}, {"order_type": 2**31 - 1},
        {"side": 0}, {"side": 5}, {"side": -1}, {"env": 2}, {"env": -1}, {"market": 0}, {"market": 99}, {"market": 113},
        {"sec_market": 2}, {"sec_market": 99}, {"sec_market": -1}, {"market": 3, "sec_market": None},
        {"timeInForce": 9}, {"timeInForce": -1}, {"session": 9}, {"trailType": 9},
        {"code": ""}, {"code": "700"}, {"code": "0700"}, {"code": "000700"}, {"code": "HK.00700"}, {"code": "00700 "},
        {"code": " 00700"}, {"code": "00700\0"}, {"code": "hsimain"}, {"code": "aapl", "market": 2, "sec_market": 2},
        {"code": "US.AAPL", "market": 2, "sec_market": 2}, {"code": "００７００"}, {"code": "0070O" * 40},
        {"remark": "x" * 65}, {"remark": "a\nb"}, {"remark": "#01ARZ3NDEKTSV4RRFFQ69G5FAV"}, {"expireTime": "x" * 200},
    ],
    ids=str,
)  # fmt: skip
async def test_an_order_that_cannot_be_meant_is_refused_as_malformed(world: World, changes: dict[str, Any]) -> None:
    client = await world.client(BOB)
    answer = await client.place(**changes)
    assert answer.ret_type == -1
    assert answer.text.startswith("[sidecar:malformed_request]"), answer.text
    assert not world.orders_received()


@pytest.mark.parametrize(
    "changes", [{"order_type": 2, "price": 0}, {"order_type": 2, "price": None}, {"adjustSideAndLimit": 0.0}]
)
async def test_what_market_orders_and_the_sdk_send_by_habit_is_no_mistake(
    world: World, changes: dict[str, Any]
) -> None:
    client = await world.client(BOB)
    answer = await client.place(**changes)
    assert answer.ret_type == 0, answer.text


@pytest.mark.parametrize(
    "changes",
    [
        {"env": 1},
        {"acc_id": REAL},
        {"acc_id": 0},
        {"acc_id": 12345},
        {"acc_id": REAL, "env": 1},
        {"acc_id": US_PAPER, "env": 1},
    ],
    ids=str,
)
async def test_an_account_that_is_not_what_the_order_says_is_refused(world: World, changes: dict[str, Any]) -> None:
    client = await world.client(BOB)
    answer = await client.place(**changes)
    assert answer.ret_type == -1
    assert answer.text.startswith(("[sidecar:account]", "[sidecar:scope]")), answer.text
    assert not world.orders_received()


async def test_a_change_that_names_two_orders_or_none_is_refused(world: World) -> None:
    client = await world.client(BOB)
    for number, changes in enumerate(
        [
            {"order_id": 1, "order_id_ex": "FA2"},
            {},
            {"order_id": 1, "forAll": True},
            {"op": 9, "order_id": 1},
            {"op": 0, "order_id": 1},
        ]
    ):
        answer = await client.ask(2205, change(client.conn_id, 500 + number, **changes))
        assert answer.text.startswith("[sidecar:malformed_request]"), (changes, answer.text)
    assert not world.orders_received()


@pytest.mark.parametrize("op", [1, 3, 4, 5])
async def test_for_all_is_for_cancels_only(world: World, op: int) -> None:
    client = await world.client(BOB)
    answer = await client.ask(2205, change(client.conn_id, 9, op=op, forAll=True))
    assert answer.text.startswith("[sidecar:malformed_request]")
    assert not world.orders_received()


# -- protobuf on the wire ----------------------------------------------------------------------------------------------


def _field(number: int, payload: bytes) -> bytes:
    size = b""
    length = len(payload)
    while True:
        size += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
        length >>= 7
        if not length:
            break
    return bytes([number << 3 | 2]) + size + payload


@pytest.mark.parametrize("where", ["request", "c2s", "header", "packetID"])
async def test_a_protobuf_field_outside_the_definition_is_refused(world: World, where: str) -> None:
    client = await world.client(BOB)
    request = client.order()
    extra = b"\xfa\x3e\x03abc"  # field 1007
    if where == "request":
        body = request.SerializeToString() + extra
    else:
        part = request.c2s if where == "c2s" else getattr(request.c2s, where)
        part.MergeFromString(extra)
        body = request.SerializeToString()
    answer = await client.ask(2202, body)
    assert answer.text.startswith("[sidecar:unknown_field]"), answer.text
    assert not world.orders_received()


async def test_of_headers_given_twice_the_merged_one_is_judged_and_forwarded(world: World) -> None:
    """What OpenD would make of the client's own bytes does not matter: it gets the message that was judged."""
    client = await world.client(ALICE)
    good, foreign = client.order(), client.order(acc_id=REAL, env=1)
    inner = good.c2s.SerializeToString()
    for first, second in ((good, foreign), (foreign, good)):
        doubled = _field(1, first.c2s.SerializeToString()) + _field(1, second.c2s.SerializeToString())
        answer = await client.ask(2202, doubled)
        if second is foreign:
            assert answer.ret_type == -1, answer.text
    header = _field(2, foreign.c2s.header.SerializeToString())
    answer = await client.ask(2202, _field(1, inner + header))
    assert answer.ret_type == -1
    for record in world.sandbox.received.of(2202):
        assert record.c2s is not None
        assert record.c2s["header"]["accID"] == HK_PAPER
        assert record.c2s["header"]["trdEnv"] == 0


async def test_a_price_given_twice_counts_as_it_is_forwarded(world: World) -> None:
    client = await world.client(ALICE)
    cheap = client.order(qty=100, price=300).c2s.SerializeToString()
    number = client.order().c2s.DESCRIPTOR.fields_by_name["price"].number
    dear = bytes([number << 3 | 1]) + struct.pack("<d", 9_999.0)
    refused = await client.ask(2202, _field(1, cheap + dear))
    assert refused.text.startswith("[sidecar:order_value]"), refused.text
    assert not world.orders_received()


async def test_a_security_market_left_out_is_set_in_what_is_forwarded(world: World) -> None:
    client = await world.client(ALICE)
    answer = await client.place(sec_market=None)
    assert answer.ret_type == 0, answer.text
    (record,) = world.sandbox.received.of(2202)
    assert record.c2s is not None
    assert record.c2s["secMarket"] == 1


# -- JSON --------------------------------------------------------------------------------------------------------------


def _json_order(**changes: Any) -> dict[str, Any]:
    c2s: dict[str, Any] = {
        "packetID": {"connID": "1", "serialNo": 1},
        "header": {"trdEnv": 0, "accID": str(HK_PAPER), "trdMarket": 1},
        "trdSide": 1, "orderType": 1, "code": "00700", "qty": 100, "price": 300, "secMarket": 1,
    }  # fmt: skip
    c2s.update(changes)
    return {"c2s": c2s}


GOOD = json.dumps(_json_order())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (GOOD.replace('"price": 300', '"price": 300, "price": 301'), "malformed_request"),
        (GOOD.replace('"price": 300', '"price": 300, "Price": 301'), "unknown_field"),
        (GOOD.replace('"price": 300', '"price": 300, "qtyy": 3'), "unknown_field"),
        (GOOD.replace('"packetID"', '"packet_id"'), "unknown_field"),
        (GOOD[:-1] + ', "c2s": {"price": 1}}', "malformed_request"),
        (GOOD[:-1] + ', "extra": 1}', "unknown_field"),
        (GOOD.replace('"price": 300', '"price": NaN'), "malformed_request"),
        (GOOD.replace('"price": 300', '"price": "NaN"'), "malformed_request"),
        (GOOD.replace('"price": 300', '"price": "Infinity"'), "malformed_request"),
        (GOOD.replace('"price": 300', '"price": 1e999'), "malformed_request"),
        (GOOD.replace('"price": 300', '"price": "300x"'), "malformed_request"),
        (GOOD.replace('"price": 300', '"price": [300]'), "malformed_request"),
        (GOOD.replace('"price": 300', '"price": {"a": 1}'), "malformed_request"),
        (GOOD.replace('"qty": 100', '"qty": null'), "malformed_request"),
        (GOOD.replace('"trdSide": 1', '"trdSide": 1.5'), "malformed_request"),
        (GOOD.replace('"trdSide": 1', '"trdSide": 99999999999999999999'), "malformed_request"),
        (GOOD.replace('"00700"', '"00700\\ud800"'), "malformed_request"),
        (GOOD.replace('"c2s": {', '"c2s": [{').replace("}}", "}]}"), "malformed_request"),
        ("[" * 50_000, "malformed_request"),
        ('{"c2s":' * 9_000, "malformed_request"),
        ('{"c2s":' * 900 + "1" + "}" * 900, "malformed_request"),
        (GOOD[:-2], "malformed_request"),
        ("null", "malformed_request"), ("3", "malformed_request"), ('""', "malformed_request"), ("", "malformed_request"),
        (GOOD + " " * 70_000, "body_too_large"),
        (GOOD.replace('"price": 300', '"price": ' + "9" * 5_000), "malformed_request"),
        (GOOD.replace('"trdSide": 1', '"trdSide": ' + "9" * 5_000), "malformed_request"),
    ],
    ids=range(29),
)  # fmt: skip
async def test_a_json_order_that_could_be_read_in_two_ways_is_refused(world: World, text: str, code: str) -> None:
    client = await world.client(BOB)
    answer = await client.ask(2202, text.encode(), fmt=JSON)
    assert (answer.fmt, answer.ret_type) == (JSON, -1)
    assert answer.text.startswith(f"[sidecar:{code}]"), answer.text
    assert not world.orders_received()


@pytest.mark.parametrize("alias", ["secMarket", "sec_market"])
async def test_a_json_order_is_forwarded_as_protobuf_of_what_was_judged(world: World, alias: str) -> None:
    client = await world.client(ALICE)
    tree = _json_order(packetID={"connID": str(client.conn_id), "serialNo": 3})
    tree["c2s"][alias] = tree["c2s"].pop("secMarket")
    answer = await client.ask(2202, json.dumps(tree).encode(), fmt=JSON)
    if alias == "secMarket":
        assert answer.ret_type == 0, answer.text
        assert len(world.orders_received()) == 1
    else:
        assert "unknown_field" in answer.text
        assert not world.orders_received()


async def test_the_caps_hold_for_json_orders_too(world: World) -> None:
    client = await world.client(ALICE)
    answer = await client.ask(2202, json.dumps(_json_order(price=501)).encode(), fmt=JSON)
    assert answer.text.startswith("[sidecar:order_value]")
    assert not world.orders_received()


async def test_nothing_a_client_wrote_can_forge_a_line_in_the_answer(world: World) -> None:
    client = await world.client(BOB)
    for code in ("\x1b[2Jboo", "a\r\n[sidecar:ok]", "\u202eevil"):
        answer = await client.place(code=code)
        assert answer.ret_type == -1
        assert all(character.isprintable() for character in answer.text), answer.text


async def test_a_frame_with_a_version_and_reserved_bytes_of_its_own_is_still_judged(world: World) -> None:
    client = await world.client(ALICE)
    data = bytearray(frame.build(2202, 900, order(conn_id=client.conn_id, price=9_999).SerializeToString()))
    data[7] = 9
    data[36:44] = b"\xff" * 8
    client.send_bytes(bytes(data))
    answer = await client.answer_to(2202, 900)
    assert answer.text.startswith("[sidecar:order_value]")
    assert not world.orders_received()
