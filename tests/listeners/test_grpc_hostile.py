"""Clients of the gRPC door that mean harm or are broken: each ends its own connection, and no other notices."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from grpcio_client import PAPER_HK, global_state, order
from h2.settings import SettingCodes
from h2_client import PATH, H2Client, envelope, framed
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import LiveSandbox, LiveSidecar, Stage, eventually

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ENHANCE_YOUR_CALM = 0xB
OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE, UNAUTHENTICATED = (
    "0", "1", "3", "4", "8", "12", "14", "16",
)  # fmt: skip
LIMITS = {
    "handshake_timeout": 1.0,
    "frame_timeout": 2.0,
    "request_body": "256 KiB",
    "client_buffer": "128 KiB",
    "client_stall": 1.0,
    "max_clients": 20,
}
GLOBAL_STATE = envelope(1002, global_state().SerializeToString())

UNKNOWN = ExtensionFrame(0xFE, 0, 0, b"what is this")
UNKNOWN.body_len = len(UNKNOWN.body)


class World:
    def __init__(self, stage: Stage, **limits: Any) -> None:
        self.key = stage.keys.add("bot", "qot:read", "acc:read", "trade:simulate", max_order_value=1e9)
        self.sandbox: LiveSandbox = stage.sandbox(tick_interval=0)
        here = {"websocket": "off", "rest": "off", "mcp": "off"}
        self.sidecar: LiveSidecar = stage.sidecar(self.sandbox.port, listeners=here, limits=LIMITS | limits)
        self.port = self.sidecar.doors["grpc"]

    def client(self, **options: int) -> H2Client:
        return H2Client(self.port, **options)

    def cuts(self, reason: str) -> float:
        return self.sidecar.metric("sidecar_clients_cut_total", reason=reason)

    def assert_serves(self) -> None:
        with self.client() as client:
            assert client.call(self.key, GLOBAL_STATE)["grpc-status"] == OK


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Stage(tmp_path_factory.mktemp("hostile")) as stage:
        yield World(stage)


@pytest.fixture(autouse=True)
def unharmed(world: World) -> Iterator[None]:
    """After each of them another client is served, nothing was printed that should not be, and no connection is left."""
    received = len(world.sandbox.orders())
    yield
    world.assert_serves()
    eventually(lambda: world.sidecar.metric("sidecar_client_connections", iface="grpc") == 0, 5, "all to have left")
    text = world.sidecar.log_text()
    assert "Traceback" not in text
    assert "failed" not in text
    assert len(world.sandbox.orders()) == received


# -- floods -----------------------------------------------------------------------------------------------------------


def headers_frame(client: H2Client, stream: int, *, end: bool = False) -> HeadersFrame:
    fields = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "x"), ("te", "trailers")]
    frame = HeadersFrame(stream)
    frame.data = client.h2.encoder.encode([*fields, ("content-type", "application/grpc")])
    frame.flags.add("END_HEADERS")
    if end:
        frame.flags.add("END_STREAM")
    return frame


def assert_calmed(world: World, client: H2Client, before: float) -> None:
    client.until(lambda: client.goaway is not None)
    assert client.goaway == ENHANCE_YOUR_CALM
    assert world.cuts("flood") == before + 1


def test_a_rapid_reset_ends_the_connection_and_starts_no_calls(world: World) -> None:
    before, refused = world.cuts("flood"), world.sidecar.metric("sidecar_refusals_total", iface="grpc")
    with world.client() as client:
        for number in range(2000):
            stream = 2 * number + 1
            client.frames(headers_frame(client, stream), RstStreamFrame(stream, error_code=8))
            if client.closed:
                break
        assert_calmed(world, client, before)
        client.until_closed()
    assert world.sidecar.metric("sidecar_refusals_total", iface="grpc") - refused < 300


def test_a_rapid_reset_in_one_breath_holds_nobody_up(world: World) -> None:
    before = world.cuts("flood")
    with world.client() as client, world.client() as other:
        assert other.call(world.key, GLOBAL_STATE)["grpc-status"] == OK
        attack = b"".join(
            headers_frame(client, stream).serialize() + RstStreamFrame(stream, error_code=8).serialize()
            for stream in range(1, 20_000, 2)
        )
        client.write(attack)
        started = time.monotonic()
        assert other.call(world.key, GLOBAL_STATE)["grpc-status"] == OK
        assert time.monotonic() - started < 1.5
        assert_calmed(world, client, before)


@pytest.mark.parametrize(
    "frame",
    [
        PingFrame(0, opaque_data=b"12345678"),
        SettingsFrame(0, settings={}),
        PriorityFrame(1, depends_on=0, stream_weight=1),
        UNKNOWN,
    ],
    ids=["ping", "settings", "priority", "unknown"],
)
def test_a_flood_of_frames_that_carry_nothing_ends_the_connection(world: World, frame: PingFrame) -> None:
    before = world.cuts("flood")
    with world.client() as client:
        client.write(frame.serialize() * 1000)
        assert_calmed(world, client, before)


def test_a_flood_of_windows_ends_the_connection(world: World) -> None:
    before = world.cuts("flood")
    with world.client() as client:
        client.write(WindowUpdateFrame(0, window_increment=1).serialize() * 40_000)
        assert_calmed(world, client, before)


@pytest.mark.parametrize("crumb", [b"", b"x"], ids=["empty", "one byte"])
def test_data_in_crumbs_ends_the_connection(world: World, crumb: bytes) -> None:
    before = world.cuts("flood")
    with world.client() as client:
        stream = client.open(world.key)
        client.data(stream, framed(b"", size=100_000), end=False)
        client.write(DataFrame(stream, data=crumb).serialize() * 1000)
        assert_calmed(world, client, before)


def test_the_odd_ping_setting_and_reset_is_fine(world: World) -> None:
    with world.client() as client:
        for number in range(50):
            stream = client.open(world.key)
            client.h2.reset_stream(stream)
            client.h2.ping(struct.pack(">Q", number))
            client.flush()
        client.until(lambda: client.pongs == 50)
        client.frames(UNKNOWN)
        assert client.call(world.key, GLOBAL_STATE)["grpc-status"] == OK


def test_more_open_calls_than_allowed_end_the_connection_and_the_bound_was_told(world: World) -> None:
    with world.client() as client:
        assert client.h2.remote_settings.max_concurrent_streams == 100
        client.frames(*(headers_frame(client, 2 * number + 1) for number in range(101)))
        client.until_closed()
        assert client.goaway is not None


def test_headers_over_their_bound_end_the_connection(world: World) -> None:
    with world.client() as client:
        assert client.h2.remote_settings.max_header_list_size == 16 * 1024
        client.open(world.key, ("x-large", "x" * 17_000))
        client.until_closed()


def test_headers_without_end_are_not_collected(world: World) -> None:
    with world.client() as client:
        frame = headers_frame(client, 1)
        frame.flags.discard("END_HEADERS")
        client.frames(frame)
        for _ in range(200):
            client.frames(ContinuationFrame(1, data=b"x" * 1000))
            if client.closed:
                break
        client.until_closed()


def test_a_header_bomb_is_not_unpacked(world: World) -> None:
    with world.client() as client:
        # one long header in the table, then named a thousand times
        client.h2.encoder.header_table_size = 4096
        long = ("x-bomb", "b" * 3900)
        frame = HeadersFrame(1)
        frame.data = client.h2.encoder.encode([long]) + client.h2.encoder.encode([long]) * 1000
        frame.flags.add("END_HEADERS")
        client.frames(frame)
        client.until_closed()


def test_a_client_cannot_make_our_table_of_headers_grow(world: World) -> None:
    with world.client() as client:
        client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**30})
        client.flush()
        client.until(lambda: client.h2.local_settings.header_table_size == 2**30)
        assert client.call(world.key, GLOBAL_STATE)["grpc-status"] == OK
        assert client.h2.decoder.max_allowed_table_size == 2**30
        assert client.h2.decoder.header_table_size == 4096


# -- those who speak something else, or nothing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"FT" + bytes(200),
        bytes(range(256)) * 10,
        PREFACE + b"\x00\x00\x05\x07\x00\x00\x00\x00\x00hello",
        PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x00",
    ],
    ids=["HTTP/1", "TLS", "OpenD's TCP", "bytes", "broken GOAWAY", "huge frame"],
)
def test_who_does_not_speak_http2_is_let_go_quietly(world: World, said: bytes) -> None:
    before, warnings = world.cuts("protocol"), world.sidecar.log_text().count('"warning"')
    with socket.create_connection(("127.0.0.1", world.port), 5) as stranger:
        stranger.sendall(said)
        while stranger.recv(65536):
            pass
    eventually(lambda: world.cuts("protocol") == before + 1)
    assert world.sidecar.log_text().count('"warning"') == warnings


def test_who_says_nothing_is_let_go_after_a_while(world: World) -> None:
    before, started = world.cuts("handshake"), time.monotonic()
    silent = [socket.create_connection(("127.0.0.1", world.port), 5) for _ in range(3)]
    for stranger, said in zip(silent, (b"", PREFACE[:8], PREFACE), strict=True):
        stranger.sendall(said)
    for stranger in silent:
        with stranger, contextlib.suppress(ConnectionError):
            while stranger.recv(65536):
                pass
    assert 0.8 < time.monotonic() - started < 3.5
    assert world.cuts("handshake") == before + 3


def test_strangers_do_not_keep_a_client_with_a_key_out(world: World) -> None:
    strangers = [socket.create_connection(("127.0.0.1", world.port), 5) for _ in range(30)]
    try:
        for stranger in strangers:
            stranger.sendall(PREFACE + SettingsFrame(0).serialize())
        world.assert_serves()
        assert world.sidecar.metric("sidecar_client_connections", iface="grpc") <= 20
    finally:
        for stranger in strangers:
            stranger.close()


def test_where_all_have_a_key_one_more_is_turned_away(world: World) -> None:
    clients = [world.client() for _ in range(20)]
    try:
        for client in clients:
            assert client.call(world.key, GLOBAL_STATE)["grpc-status"] == OK
        with socket.create_connection(("127.0.0.1", world.port), 5) as late:
            late.sendall(PREFACE)
            with pytest.raises(ConnectionError):
                while late.recv(65536):
                    pass
                raise ConnectionError("closed")
        assert clients[0].call(world.key, GLOBAL_STATE)["grpc-status"] == OK
        world.sidecar.wait_audit(iface="grpc", reason="upstream_full")
    finally:
        for client in clients:
            client.socket.close()


# -- messages -----------------------------------------------------------------------------------------------------------


def test_a_message_over_the_limit_is_refused_before_a_byte_of_it_came(world: World) -> None:
    with world.client() as client:
        stream = client.open(world.key)
        client.data(stream, framed(b"", size=2**32 - 1), end=False)
        trailers = client.trailers(stream, 0.5)
    assert trailers["sidecar-code"] == "body_too_large"
    assert "4294967295 bytes long" in trailers["grpc-message"]


def test_a_stranger_is_not_waited_for_with_a_message_that_others_may_send(world: World) -> None:
    with world.client() as client:
        stream = client.open("fc_" + "0" * 64)
        client.data(stream, framed(b"", size=200_000), end=False)
        assert client.trailers(stream, 0.5)["grpc-status"] == UNAUTHENTICATED


def test_as_large_a_message_as_allowed_is_read_through_a_window_smaller_than_it(world: World) -> None:
    body = envelope(1002, bytes(256 * 1024))
    with world.client() as client:
        assert client.call(world.key, body)["sidecar-code"] == "malformed_request"


def test_large_messages_of_one_connection_wait_for_each_other(stage: Stage) -> None:
    """Eight of them are more than may be in hand at one time; all come through all the same."""
    world = World(stage, frame_timeout=20.0)  # a busy machine takes seconds for so many
    body = framed(envelope(1002, bytes(200 * 1024)))
    with world.client() as client:
        streams = [client.open(world.key) for _ in range(8)]
        for stream in streams:
            client.data(stream, body[:5], end=False)
        # those that were let in first end first
        for stream in streams:
            client.data(stream, body[5:])
        for stream in streams:
            assert client.trailers(stream)["sidecar-code"] == "malformed_request"


def test_a_message_that_does_not_come_is_given_up(world: World) -> None:
    with world.client() as client:
        stream = client.open(world.key)
        client.data(stream, framed(GLOBAL_STATE)[:10], end=False)
        trailers = client.trailers(stream)
    assert trailers["grpc-status"] == DEADLINE_EXCEEDED
    assert "did not come within 2 s" in trailers["grpc-message"]


@pytest.mark.parametrize("length", [0, 1, 4, 5, 12])
def test_a_message_that_ends_too_early_is_refused(world: World, length: int) -> None:
    with world.client() as client:
        stream = client.open(world.key)
        client.data(stream, framed(GLOBAL_STATE)[:length])
        trailers = client.trailers(stream)
    assert (trailers["grpc-status"], trailers["sidecar-code"]) == (INVALID_ARGUMENT, "malformed_request")


def test_a_message_may_come_in_pieces_and_with_an_empty_one_between(world: World) -> None:
    whole = framed(GLOBAL_STATE)
    with world.client() as client:
        stream = client.open(world.key)
        for piece in (b"", whole[:3], b"", whole[3:6], whole[6:], b""):
            client.h2.send_data(stream, piece)
            client.flush()
            time.sleep(0.01)
        client.h2.end_stream(stream)
        client.flush()
        assert client.trailers(stream)["grpc-status"] == OK


def test_a_compressed_message_is_not_unpacked(world: World) -> None:
    with world.client() as client:
        stream = client.open(world.key, ("grpc-encoding", "gzip"))
        client.data(stream, framed(b"\x1f\x8b" + bytes(100), compressed=True))
        trailers = client.trailers(stream)
    assert trailers["grpc-status"] == UNIMPLEMENTED
    assert "compressed" in trailers["grpc-message"]


@pytest.mark.parametrize("message", [b"\xff\xff\xff", b"\x08", b"\x12\xff\xff\xff\x7f"])
def test_what_is_no_request_message_is_refused(world: World, message: bytes) -> None:
    with world.client() as client:
        trailers = client.call(world.key, message)
    assert (trailers["grpc-status"], trailers["sidecar-code"]) == (INVALID_ARGUMENT, "malformed_request")


def test_rubbish_for_the_services_without_a_key_is_refused_too(world: World) -> None:
    paths = ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    with world.client() as client:
        for path in paths:
            assert client.call(None, b"\xff\xff", path=path)["grpc-status"] == INVALID_ARGUMENT
            large = client.open(None, path=path)
            client.data(large, framed(b"", size=70_000), end=False)
            assert client.trailers(large)["sidecar-code"] == "body_too_large"
        for path in ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"):
            empty = client.open(None, path=path)
            client.data(empty, b"")
            assert client.trailers(empty)["grpc-message"].startswith(
                "[sidecar:malformed_request] the call has no message"
            )
        assert client.call(world.key, GLOBAL_STATE)["grpc-status"] == OK


def test_a_reflection_that_asks_nothing_more_ends(world: World) -> None:
    with world.client() as client:
        stream = client.open(None, path="/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        client.data(stream, framed(b"\x3a\x01*"), end=False)  # list_services
        assert client.trailers(stream, 3)["grpc-status"] == OK


# -- headers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", ["", "5", "5x", "-1S", "999999999S", "1 S", "9" * 5000 + "n", "é"])
def test_a_timeout_that_is_none_is_refused(world: World, timeout: str) -> None:
    with world.client() as client:
        trailers = client.call(world.key, GLOBAL_STATE, ("grpc-timeout", timeout))
    assert (trailers["grpc-status"], trailers["sidecar-code"]) == (INVALID_ARGUMENT, "malformed_request")


@pytest.mark.parametrize("timeout", ["0S", "1n", "1u"])
def test_a_deadline_that_has_passed_already_ends_the_call(world: World, timeout: str) -> None:
    with world.client() as client:
        trailers = client.call(world.key, GLOBAL_STATE, ("grpc-timeout", timeout))
    assert trailers["grpc-status"] == DEADLINE_EXCEEDED


@pytest.mark.parametrize("timeout", ["99999999H", "10S", "5000m"])
def test_any_deadline_that_may_be_said_is_fine(world: World, timeout: str) -> None:
    with world.client() as client:
        assert client.call(world.key, GLOBAL_STATE, ("grpc-timeout", timeout))["grpc-status"] == OK


def test_what_is_http_but_not_grpc_is_told_so(world: World) -> None:
    with world.client() as client:
        assert client.trailers(client.open(world.key, __method="GET"))[":status"] == "405"
        for content_type in ("application/json", "application/grpc-web", ""):
            assert client.trailers(client.open(world.key, content_type=content_type))[":status"] == "415"
        stranger = client.trailers(client.open(None, __method="GET"))
        assert stranger["grpc-status"] == UNAUTHENTICATED
        assert client.call(world.key, GLOBAL_STATE, content_type="application/grpc+proto")["grpc-status"] == OK
    line = world.sidecar.wait_audit(iface="grpc", endpoint="not_grpc", key_id="bot")
    assert line["reason"] == "malformed_request"


def test_odd_metadata_is_no_harm(world: World) -> None:
    odd = [("x-odd-bin", "a"), ("x-worse-bin", "é"), ("x-odd", "é"), ("grpc-trace-bin", "@@@"), ("x-empty", "")]
    with world.client() as client:
        assert client.call(world.key, GLOBAL_STATE, *odd)["grpc-status"] == OK
        for secret in ("é" * 60, "fc_ " + "0" * 64, "x" * 8000):
            assert client.call(secret, GLOBAL_STATE)["grpc-status"] == UNAUTHENTICATED


@pytest.mark.parametrize("path", ["", "/", "//", "*", "/futu.service.FutuOpenD/", PATH + "/x", "/" + "é" * 200])
def test_a_path_that_is_no_method_is_unimplemented(world: World, path: str) -> None:
    with world.client() as client:
        if path:
            assert client.call(world.key, GLOBAL_STATE, path=path)["grpc-status"] == UNIMPLEMENTED
            assert client.call(None, GLOBAL_STATE, path=path)["grpc-status"] == UNAUTHENTICATED
        else:
            client.open(world.key, path="")
            client.until_closed()  # HTTP/2 without a path is none


# -- leaving and not reading --------------------------------------------------------------------------------------------


def waiting_order(client: H2Client, world: World, code: str) -> int:
    """A sale that waits for its reference price."""
    asked = len(world.sandbox.received(3203)) + len(world.sandbox.received(3202))
    selling = order(code=code, price=60.0, qty=400, acc_id=PAPER_HK)
    selling.c2s.trdSide = 2
    stream = client.open(world.key)
    client.data(stream, framed(envelope(2202, selling.SerializePartialToString())))
    eventually(lambda: len(world.sandbox.received(3203)) + len(world.sandbox.received(3202)) > asked)
    return stream


@pytest.fixture
def slow_facts(world: World) -> Iterator[None]:
    time.sleep(0.1)
    world.sandbox.delays[3203] = world.sandbox.delays[3202] = 0.7
    yield
    world.sandbox.delays.clear()


@pytest.mark.parametrize(("how", "code"), [("disconnects", "00005"), ("resets", "09988"), ("says goodbye", "00388")])
def test_the_order_of_a_client_that_leaves_while_it_waits_is_not_sent(
    world: World, how: str, code: str, slow_facts: None
) -> None:
    before = len(world.sidecar.audit(reason="client_gone"))
    with world.client() as client:
        stream = waiting_order(client, world, code)
        if how == "resets":
            client.h2.reset_stream(stream, error_code=8)
        elif how == "says goodbye":
            client.h2.close_connection()
        client.flush()
        if how == "disconnects":
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()
        eventually(lambda: len(world.sidecar.audit(reason="client_gone")) == before + 1)


def test_pushes_that_are_not_read_are_bounded_and_end_the_stream(world: World) -> None:
    from grpcio_client import subscription

    before = world.cuts("slow_client")
    with world.client(window=0) as deaf, world.client() as client:
        stream = deaf.open(world.key, path="/futu.service.FutuOpenD/SubscribePush")
        deaf.data(stream, framed(b""))
        reader = client.open(world.key, path="/futu.service.FutuOpenD/SubscribePush")
        client.data(reader, framed(b""))
        assert client.call(world.key, envelope(3001, subscription().SerializeToString()))["grpc-status"] == OK
        for number in range(1500):
            world.sandbox.set_price("HK.00700", f"{400 + number % 2 * 0.2:.1f}")
            if number % 50 == 0:
                client.receive(0.01)
        trailers = deaf.trailers(stream, 5)
        assert trailers["grpc-status"] == RESOURCE_EXHAUSTED
        assert trailers["sidecar-code"] == "slow_client"
        assert world.cuts("slow_client") == before + 1
        # who reads goes on
        assert client.call(world.key, GLOBAL_STATE)["grpc-status"] == OK
        assert not any(
            getattr(event, "stream_id", None) == reader for event in client.events[-3:] if "Ended" in repr(event)
        )


def test_an_answer_that_is_not_read_is_given_up(world: World) -> None:
    before = world.cuts("slow_client")
    with world.client(window=0) as deaf:
        trailers = deaf.call(world.key, GLOBAL_STATE)
    assert trailers["grpc-status"] == RESOURCE_EXHAUSTED
    assert world.cuts("slow_client") == before + 1


# -- anything -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=60)), max_size=8)
)
def test_no_sequence_of_frames_is_more_than_the_end_of_its_own_connection(
    world: World, frames: list[tuple[int, int, int, bytes]]
) -> None:
    with socket.create_connection(("127.0.0.1", world.port), 5) as client:
        said = b"".join(
            len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
            for kind, flags, stream, body in frames
        )
        client.sendall(PREFACE + SettingsFrame(0).serialize() + said)
        client.shutdown(socket.SHUT_WR)
        try:
            while client.recv(65536):
                pass
        except ConnectionError:
            pass
