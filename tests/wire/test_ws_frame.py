"""Messages of the WebSocket door. The bytes of the JavaScript SDK are those it sends (protocol facts, section 3)."""

from __future__ import annotations

import contextlib
import struct
from hashlib import md5
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import BodyError, WireError
from sidecar.wire import frame, ws_frame
from sidecar.wire.frame import JSON, PROTOBUF
from sidecar.wire.messages import message_class
from sidecar.wire.ws_frame import FrameFraming, JsFraming, LoginResponse, UnfitMessage

CAP = 1024
KEY_MD5 = md5(b"secretkey").hexdigest()
LOGIN = bytes.fromhex("66742d76312e3000 00000001 0000000000000002 0a2e 2220") + KEY_MD5.encode() + b"\x32\x0aJavaScript"
GLOBAL_STATE = bytes.fromhex("66742d76312e3000 000003ea 0000000000000003 0a020800")
PLACE_ORDER = bytes.fromhex(
    "66742d76312e3000 0000089a 0000000000000005 0a2f0a0508e2361001 1207080010e9071801 1801 2001 2a053030373030"
    "31 0000000000005940 39 0000000000002440 5001"
)


def parts(message: bytes) -> tuple[int, int, int, bytes, bytes]:
    """Command, section, error, errmsg and body of a reply, read by the offsets that the SDK reads."""
    assert message[:8] == b"ft-v1.0\0"
    command, section = struct.unpack(">IQ", message[8:20])
    (error,) = struct.unpack(">i", message[20:24])
    return command, section, error, message[24:44], message[44:]


# -- the JavaScript SDK's framing --------------------------------------------------------------------------------------


def test_the_sdks_login_is_read() -> None:
    assert len(LOGIN) == 68
    assert ws_frame.speaks_javascript(LOGIN)
    command, section, body = ws_frame.read_js_request(LOGIN, CAP)
    assert (command, section) == (1, 2)
    assert ws_frame.read_login(body) == KEY_MD5


def test_the_sdks_request_becomes_a_frame_and_its_reply_carries_its_section() -> None:
    framing = JsFraming(CAP, 0.0)
    chunk, head = framing.take(GLOBAL_STATE, 0.0)
    assert (head.proto_id, head.fmt, head.start, head.stop) == (1002, PROTOBUF, 0, len(chunk))
    assert frame.digest_matches(chunk, head)
    assert chunk[44:] == bytes.fromhex("0a020800")
    assert parts(framing.give(memoryview(frame.build(1002, head.serial, b"reply")))) == (
        1002,
        3,
        0,
        bytes(20),
        b"reply",
    )
    assert framing.unanswered == 0


def test_the_sdks_order_is_the_order_it_says() -> None:
    assert len(PLACE_ORDER) == 69
    chunk, head = JsFraming(CAP, 0.0).take(PLACE_ORDER, 0.0)
    assert head.proto_id == 2202
    request: Any = message_class("Trd_PlaceOrder.Request").FromString(chunk[44:])
    assert (request.c2s.code, request.c2s.qty, request.c2s.price, request.c2s.secMarket) == ("00700", 100, 10, 1)


def test_a_push_has_section_zero_even_where_its_serial_is_that_of_a_request() -> None:
    framing = JsFraming(CAP, 0.0)
    _, head = framing.take(GLOBAL_STATE, 0.0)
    assert parts(framing.give(memoryview(frame.build(3005, head.serial, b"push"))))[:2] == (3005, 0)
    assert framing.unanswered == 1, "the request still waits for its own answer"


def test_serials_rise_and_leave_room_for_what_a_silent_session_sends_itself() -> None:
    framing = JsFraming(CAP, 100.0)
    serials = [framing.take(GLOBAL_STATE, now)[1].serial for now in (100.0, 100.0, 160.0, 160.5)]
    assert serials[0] > ws_frame.JS_FIRST_SERIAL
    assert serials[1] == serials[0] + 1
    assert serials[2] > serials[1] + 60 / 8, "a KeepAlive is sent every 8 s of silence"
    assert serials[3] == serials[2] + 1


def test_an_errmsg_is_twenty_ascii_bytes_whatever_it_says() -> None:
    for text in ("", "upstream_unavailable", "x" * 50, "täglich 每日"):
        message = ws_frame.js_reply(1, 2, b"b", error=-1, errmsg=text)
        errmsg = parts(message)[3]
        assert len(errmsg) == 20
        assert errmsg.isascii()
        assert message[44:] == b"b"


def test_a_reply_never_has_an_empty_body() -> None:
    body = parts(ws_frame.js_reply(1002, 7, b""))[4]
    reply: Any = message_class("GetGlobalState.Response").FromString(body)
    assert reply.retType == -1
    assert "OpenD's answer was empty" in reply.retMsg


def test_a_login_is_accepted_with_time_and_connection_id() -> None:
    command, section, error, _, body = parts(ws_frame.login_accepted(2, 1_700_000_000, 2**63 + 5))
    reply: Any = LoginResponse.FromString(body)
    assert (command, section, error, reply.retType) == (1, 2, 0, 0)
    assert (reply.s2c.serverTime, reply.s2c.connID) == (1_700_000_000, 2**63 + 5)


def test_a_login_is_refused_in_the_header_and_in_the_body() -> None:
    text = "[sidecar:key_unknown] the key is not known (decision 01J)"
    command, section, error, errmsg, body = parts(ws_frame.login_refused(2, 401, "key_unknown", text))
    reply: Any = LoginResponse.FromString(body)
    assert (command, section, error, errmsg.rstrip(b"\0")) == (1, 2, 401, b"key_unknown")
    assert (reply.retType, reply.retMsg) == (-1, text)


def test_where_to_connect_is_not_the_clients_to_say() -> None:
    """IP, Port and RSAPrivateKey are fields 1 to 3."""
    body = b"\x0a\x1f" + b"\x0a\x0910.0.0.66" + b"\x10\x90\x4e" + b"\x1a\x03rsa" + b"\x22\x08deadbeef" + b"\x32\x00"
    assert ws_frame.read_login(body) == "deadbeef"
    login: Any = ws_frame.LoginRequest.FromString(body)
    assert {field.name for field, _ in login.c2s.ListFields()} <= {"websocketKey", "programmingLanguage"}


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05\x22\x03\xff\xfe\xfd"], ids=["no protobuf", "no utf-8"])
def test_a_login_that_cannot_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(BodyError) as raised:
        ws_frame.read_login(body)
    assert raised.value.code == "malformed_request"


def test_a_login_without_a_key_shows_none() -> None:
    assert ws_frame.read_login(b"") == ""
    assert ws_frame.read_login(b"\x0a\x02\x22\x00") == ""


def test_a_body_over_the_cap_can_be_answered() -> None:
    framing = JsFraming(CAP, 0.0)
    with pytest.raises(UnfitMessage) as raised:
        framing.take(GLOBAL_STATE[:20] + bytes(CAP + 1), 0.0)
    unfit = raised.value
    assert (unfit.code, unfit.proto_id, unfit.number, str(unfit)) == (
        "body_too_large", 1002, 3, "the body of request 1002 is 1025 bytes long, the limit is 1024",
    )  # fmt: skip
    assert parts(framing.answer(unfit, b"no"))[:2] == (1002, 3)
    framing.take(GLOBAL_STATE[:20] + bytes(CAP), 0.0)


# -- OpenD's frames as messages ----------------------------------------------------------------------------------------


def test_a_message_is_one_whole_frame() -> None:
    message = frame.build(1002, 9, b"body")
    chunk, head = FrameFraming(CAP).take(message, 0.0)
    assert chunk == message
    assert (head.proto_id, head.serial, head.start, head.stop) == (1002, 9, 0, len(message))
    assert frame.digest_matches(chunk, head)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda one: one[:-1], "1 bytes are missing"),
        (lambda one: one[:44], "4 bytes are missing"),
        (lambda one: one + b"x", "1 bytes follow it"),
        (lambda one: one + one, "48 bytes follow it"),
    ],
    ids=["half a frame", "a header alone", "a byte too many", "two frames"],
)
def test_what_is_not_exactly_one_frame_can_be_answered(change: Any, says: str) -> None:
    framing = FrameFraming(CAP)
    with pytest.raises(UnfitMessage, match=says) as raised:
        framing.take(change(frame.build(1002, 9, b"body", fmt=JSON)), 0.0)
    assert (raised.value.code, raised.value.proto_id, raised.value.number) == ("malformed_request", 1002, 9)
    answer = framing.answer(raised.value, b"{}")
    head = ws_frame.read_frame(answer, CAP)
    assert (head.proto_id, head.serial, head.fmt) == (1002, 9, JSON)


def test_a_frame_that_promises_more_than_the_cap_is_too_large() -> None:
    message = frame.build(1002, 9, b"")
    with pytest.raises(UnfitMessage) as raised:
        ws_frame.read_frame(message[:12] + struct.pack("<I", CAP + 1) + message[16:], CAP)
    assert raised.value.code == "body_too_large"


def test_a_run_of_frames_becomes_one_message_each() -> None:
    run = [frame.build(3005, serial, bytes(serial)) for serial in range(5)]
    framing = FrameFraming(CAP)
    assert [framing.give(one) for one in ws_frame.frames_in(memoryview(b"".join(run)))] == run
    assert list(ws_frame.frames_in(b"")) == []


# -- whatever a client sends -------------------------------------------------------------------------------------------

_ANYTHING = st.binary(max_size=120) | st.builds(
    lambda start, rest: start + rest,
    st.sampled_from([b"FT", b"ft-v1.0\0", GLOBAL_STATE[:20], frame.build(2202, 1, b"x")[:44], LOGIN[:20]]),
    st.binary(max_size=120),
)


@settings(deadline=None)
@given(_ANYTHING)
def test_no_bytes_raise_anything_but_a_wire_error(message: bytes) -> None:
    for framing in (JsFraming(64, 0.0), FrameFraming(64)):
        with contextlib.suppress(WireError):
            chunk, head = framing.take(message, 0.0)
            assert head.stop == len(chunk)
            assert frame.digest_matches(chunk, head) or isinstance(framing, FrameFraming)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_login_raises_anything_but_a_body_error(body: bytes) -> None:
    with contextlib.suppress(BodyError):
        assert isinstance(ws_frame.read_login(body), str)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=20)), max_size=20))
def test_every_reply_finds_its_section_in_whatever_order_replies_come(requests: list[tuple[int, int, bytes]]) -> None:
    framing = JsFraming(CAP, 0.0)
    taken = []
    for command, section, body in requests:
        chunk, head = framing.take(ws_frame.REQUEST_HEADER.pack(ws_frame.SIGN, command, section) + body, 0.0)
        assert chunk[44:] == body
        taken.append((command, section, head.serial))
    for command, section, serial in reversed(taken):
        assert parts(framing.give(memoryview(frame.build(command, serial, b"r"))))[:2] == (command, section)
    assert framing.unanswered == 0


# -- WebSocket itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_message_is_announced_with_its_length_in_the_shortest_form(size: int) -> None:
    header = ws_frame.binary_header(bytes(size))
    assert header[0] == 0b1000_0010, "the last frame of a message, binary, nothing reserved"
    assert not header[1] & 0x80, "a server does not mask"
    length, rest = header[1], header[2:]
    assert (length if length < 126 else int.from_bytes(rest)) == size
    assert len(rest) == (0 if size < 126 else 2 if size < 65_536 else 8)
